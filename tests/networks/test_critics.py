"""Actor and critics as one network: each has its own part of the carry and its own weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks.cores import CoreName, build_core
from networks.heads.critics import ActorAndCritics, Critics
from networks.heads.policies import PolicyHead
from networks.heads.q_values import QHead
from networks.model import Model
from networks.torsos.build import build_torso

SPACE = spaces.Box(-1, 1, (3,), np.float32)


def build(core: CoreName) -> ActorAndCritics:
    torch.manual_seed(0)

    def model(head: type[QHead] | type[PolicyHead], hidden: int) -> Model:
        torso = build_torso(SPACE)
        memory = build_core(core, torso.out_dim, hidden)
        return Model(torso, memory, head(memory.out_dim, 4))

    return ActorAndCritics(Critics([model(QHead, 5), model(QHead, 6)]), model(PolicyHead, 7), 0.25)


@pytest.mark.parametrize(("core", "width"), [("none", 0), ("gru", 18), ("lstm", 36)])
def test_outputs_and_carry_equal_those_of_the_parts(core: CoreName, width: int) -> None:
    network, rng = build(core), torch.Generator().manual_seed(1)
    assert network.carry_dim == width
    assert network.initial_carry(2).shape == (2, width)
    obs, first = torch.randn(6, 2, 3, generator=rng), torch.zeros(6, 2, dtype=torch.bool)
    first[3, 1] = True
    carry = torch.randn(2, width, generator=rng)
    output, after = network(obs, carry, first)
    assert output.logits.shape == (6, 2, 4)
    assert output.q.shape == (6, 2, 2, 4)
    begin, expected = 0, []
    for part in (*network.critics.models, network.actor):
        end = begin + part.carry_dim  # type: ignore[operator]
        part_output, part_carry = part(obs, carry[:, begin:end], first)
        torch.testing.assert_close(after[:, begin:end], part_carry)
        expected.append(part_output[0])
        begin = end
    assert begin == width
    torch.testing.assert_close(output.q, torch.stack(expected[:2], dim=-2))
    torch.testing.assert_close(output.logits, expected[2])
    assert not torch.equal(output.q[..., 0, :], output.q[..., 1, :])
    critics, critics_carry = network.critics(obs, carry[:, : network.critics.carry_dim], first)
    torch.testing.assert_close(critics.q, output.q)
    torch.testing.assert_close(critics_carry, after[:, : network.critics.carry_dim])


@pytest.mark.parametrize("core", ["none", "gru", "lstm"])
def test_single_steps_equal_the_sequence(core: CoreName) -> None:
    network, rng = build(core), torch.Generator().manual_seed(1)
    obs, first = torch.randn(6, 2, 3, generator=rng), torch.zeros(6, 2, dtype=torch.bool)
    first[2, 0] = True
    carry = torch.randn(2, network.carry_dim, generator=rng)
    whole, after = network(obs, carry, first)
    for t in range(6):
        output, carry = network(obs[t], carry, first[t])
        torch.testing.assert_close(output.q, whole.q[t])
        torch.testing.assert_close(output.logits, whole.logits[t])
    torch.testing.assert_close(carry, after)


def test_nothing_is_shared_and_the_temperature_is_a_parameter() -> None:
    network = build("gru")
    parts = [*network.critics.models, network.actor]
    ids = [id(parameter) for part in parts for parameter in part.parameters()]
    assert len(ids) == len(set(ids)) == len(list(network.parameters())) - 1
    assert network.state_dict()["log_alpha"].exp().item() == pytest.approx(0.25)

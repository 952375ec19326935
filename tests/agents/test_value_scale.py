"""Value scales: inverses, values by hand, and a normalisation whose updates keep decoded values."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from agents.build import build_agent
from agents.presets.registry import PRESETS
from agents.run.checkpoint import weights_sha256
from agents.value_scale import SCALES, Normalized
from envs.toy import EndlessRewardEnv
from tests.agents.helpers import collect, train
from tests.machine import CPU

NUMBERS = torch.tensor([-1234.5, -3.0, -0.1, 0.0, 0.1, 1.0, 42.0, 9000.0])


@pytest.mark.parametrize("name", SCALES)
def test_decode_inverts_encode(name: str) -> None:
    scale = SCALES[name]()
    torch.testing.assert_close(scale.decode(scale.encode(NUMBERS)), NUMBERS, rtol=1e-4, atol=1e-4)
    order = scale.encode(NUMBERS)
    assert (order.diff() > 0).all()


def test_scales_by_hand() -> None:
    three = torch.tensor([3.0, -3.0])
    assert SCALES["none"]().encode(three).tolist() == [3.0, -3.0]
    assert SCALES["symlog"]().encode(three).tolist() == pytest.approx([math.log(4), -math.log(4)])
    assert SCALES["rescale"]().encode(three).tolist() == pytest.approx([1.003, -1.003])


def test_normalisation_uses_live_rows_and_keeps_decoded_values() -> None:
    torch.manual_seed(0)
    scale, layer, x = Normalized(), nn.Linear(4, 1), torch.randn(5, 4)
    seen = []
    for size, shift in ((1.0, 0.0), (100.0, -50.0), (0.5, 7.0)):
        before = scale.decode(layer(x)).detach()
        returns, mask = size * torch.randn(6, 3) + shift, (torch.rand(6, 3) < 0.7).float()
        returns[mask == 0] = 1e9
        scale.update(returns, mask, layer)
        seen.append(returns[mask > 0])
        together = torch.cat(seen)
        assert scale.mean.item() == pytest.approx(together.mean().item(), rel=1e-5)
        assert scale.std.item() == pytest.approx(together.std(correction=0).item(), rel=1e-5)
        torch.testing.assert_close(scale.decode(layer(x)), before, rtol=1e-4, atol=1e-4)
    encoded = scale.encode(torch.cat(seen))
    assert encoded.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert encoded.std(correction=0).item() == pytest.approx(1.0, abs=1e-5)


def test_constant_returns_do_not_divide_by_zero() -> None:
    scale, layer = Normalized(), nn.Linear(1, 1)
    scale.update(torch.full((8, 2), 5.0), torch.ones(8, 2), layer)
    assert scale.encode(torch.tensor(5.1)).item() == pytest.approx(10.0, rel=1e-4)  # over the least deviation, 0.01


@pytest.mark.parametrize("algorithm", ["ppo", "a2c", "impala", "reinforce", "rnd"])
def test_the_state_of_the_scale_is_saved_with_the_agent(algorithm: str, vector, tmp_path) -> None:
    config = replace(PRESETS[algorithm, "toy"], value_scale="normalize", total_steps=800, checkpoint_steps=800)
    envs = vector(EndlessRewardEnv, config.num_envs)
    agent, _ = train(algorithm, config, envs, tmp_path)
    state = agent.modules()["value_scale"].state_dict()
    assert state["moments.count"] > 400
    fresh = build_agent(algorithm, config, envs, CPU)
    for name, module in fresh.modules().items():
        module.load_state_dict(agent.modules()[name].state_dict())
    args = torch.ones(1, 1), agent.initial_carry(1), torch.ones(1, dtype=torch.bool)
    values = [each.value(each.model(*args)[0]).item() for each in (agent, fresh)]  # type: ignore[attr-defined]
    assert values[0] == values[1]
    assert values[0] > 0.5  # in rewards: predictions are within some deviations of 0
    assert "value_scale" not in build_agent(algorithm, replace(config, value_scale="none"), envs, CPU).modules()


def test_the_summary_reports_and_changes_nothing(vector) -> None:
    config = replace(PRESETS["ppo", "toy"], value_scale="normalize")
    envs = vector(EndlessRewardEnv, config.num_envs)
    agent: Any = build_agent("ppo", config, envs, CPU)
    rollout = collect(agent, envs)
    rows = {"mask": (~rollout.dead).float(), **agent.prepare(rollout)}
    before = weights_sha256(agent)
    assert agent.summary(rows).keys() == {"train/explained_variance"}
    assert weights_sha256(agent) == before
    agent.update_value_scale(rows)
    assert weights_sha256(agent) != before
    assert agent.value_scale.mean.item() == pytest.approx(rows["target"][rows["mask"] > 0].mean().item(), rel=1e-5)

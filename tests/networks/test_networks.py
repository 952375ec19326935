"""Torsos, cores and heads: shapes, resets in the middle of a sequence, normalisation saved with the weights."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from gymnasium import spaces

from networks.cores import build_core
from networks.heads.policies import PolicyValueHead
from networks.heads.q_values import QHead
from networks.model import Model, map_tree, orthogonal_init
from networks.torsos.build import build_torso, torso_name
from networks.torsos.normalize import Normalize

FRAME = spaces.Box(0, 255, (4, 84, 84), np.uint8)
PLANES = spaces.Box(0, 1, (4, 10, 10), np.uint8)
VECTOR = spaces.Box(-np.inf, np.inf, (4,), np.float32)
DICT = spaces.Dict({"image": PLANES, "direction": spaces.Discrete(4), "mission": spaces.MultiDiscrete([55] * 12)})


def batch_of(space: spaces.Space, count: int):
    samples = [space.sample() for _ in range(count)]
    if isinstance(space, spaces.Dict):
        return {key: torch.as_tensor(np.stack([sample[key] for sample in samples])) for key in space}
    return torch.as_tensor(np.stack(samples))


@pytest.mark.parametrize(
    ("space", "name"),
    [(FRAME, "nature"), (PLANES, "minatar"), (VECTOR, "mlp"), (DICT, "dict"), (spaces.Discrete(7), "one-hot"),
     (spaces.MultiDiscrete([55] * 12), "tokens"), (spaces.MultiDiscrete([3, 4]), "one-hot")],
)  # fmt: skip
def test_auto_chooses_a_torso_that_reads_the_space(space: spaces.Space, name: str) -> None:
    assert torso_name(space) == name
    torso = build_torso(space)
    assert torso(batch_of(space, 3)).shape == (3, torso.out_dim)


@pytest.mark.parametrize("name", ["nature", "impala", "impala-large", "pong-small", "data-efficient"])
def test_image_torsos(name: str) -> None:
    assert build_torso(FRAME, name)(batch_of(FRAME, 2)).dim() == 2


def test_nature_network_has_its_published_size() -> None:
    count = sum(parameter.numel() for parameter in build_torso(FRAME, "nature").parameters())
    # 8x8x4x32+32, 4x4x32x64+64, 3x3x64x64+64, 3136x512+512
    assert count == 8224 + 32832 + 36928 + 1606144


def test_a_torso_that_does_not_read_the_space_is_an_error() -> None:
    with pytest.raises(ValueError, match="'nature' does not read"):
        build_torso(VECTOR, "nature")
    with pytest.raises(ValueError, match="too small"):
        build_torso(PLANES, "nature")


def test_pixels_are_divided_by_their_range() -> None:
    white = torch.full((1, 4, 84, 84), 255, dtype=torch.uint8)
    assert torch.allclose(Normalize(FRAME)(white), torch.ones(1))
    ones = torch.ones(1, 4, 10, 10, dtype=torch.uint8)
    assert torch.allclose(Normalize(PLANES)(ones), torch.ones(1))
    assert torch.equal(Normalize(VECTOR)(torch.full((1, 4), 3.0)), torch.full((1, 4), 3.0))


def test_fitted_pixels_have_mean_zero_and_are_saved() -> None:
    samples = torch.randint(0, 255, (500, 4, 8, 8), dtype=torch.uint8)
    samples[:, 0] = 7  # a constant pixel must not blow up
    normalize = Normalize(spaces.Box(0, 255, (4, 8, 8), np.uint8))
    normalize.fit(samples)
    out = normalize(samples)
    assert out.mean(dim=0).abs().max() < 1e-4
    assert out[:, 0].abs().max() < 1e-4
    assert out[:, 1:].std().item() == pytest.approx(1.0, abs=0.1)
    fresh = Normalize(spaces.Box(0, 255, (4, 8, 8), np.uint8))
    fresh.load_state_dict(normalize.state_dict())
    assert torch.equal(fresh(samples), out)


@pytest.mark.parametrize("kind", ["none", "gru", "lstm"])
def test_a_sequence_equals_its_steps_with_random_resets(kind) -> None:
    torch.manual_seed(0)
    torso = build_torso(VECTOR)
    core = build_core(kind, torso.out_dim, 16)
    model = Model(torso, core, QHead(core.out_dim, 3))
    obs, first = torch.randn(23, 5, 4), torch.rand(23, 5) < 0.2
    carry = torch.randn(5, model.carry_dim)
    sequence, last = model(obs, carry, first)
    stepwise = []
    for t in range(23):
        output, carry = model(obs[t], carry, first[t])
        stepwise.append(output.q)
    torch.testing.assert_close(sequence.q, torch.stack(stepwise), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(last, carry, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", ["gru", "lstm"])
def test_first_clears_the_carry(kind) -> None:
    torch.manual_seed(0)
    core = build_core(kind, 4, 8)
    x, first = torch.randn(6, 2, 4), torch.zeros(6, 2, dtype=torch.bool)
    first[3, 0] = True
    a, _ = core(x, torch.randn(2, core.carry_dim), first)
    changed = x.clone()
    changed[:3] += 1.0
    b, _ = core(changed, torch.randn(2, core.carry_dim), first)
    assert torch.equal(a[3:, 0], b[3:, 0])
    assert not torch.allclose(a[3:, 1], b[3:, 1])


def test_gradient_does_not_cross_an_episode() -> None:
    core = build_core("lstm", 4, 8)
    x = torch.randn(6, 1, 4, requires_grad=True)
    first = torch.tensor([[1], [0], [0], [1], [0], [0]], dtype=torch.bool)
    core(x, torch.zeros(1, core.carry_dim), first)[0][4].sum().backward()
    assert x.grad[:3].abs().sum() == 0
    assert x.grad[3:5].abs().sum() > 0


def test_dueling_head_by_hand() -> None:
    head = QHead(2, 3, dueling=True)
    for layer in (head.streams.advantage, head.streams.value):
        torch.nn.init.zeros_(layer.bias)
    with torch.no_grad():
        head.streams.advantage.weight.copy_(torch.tensor([[1.0, 0.0], [2.0, 0.0], [6.0, 0.0]]))
        head.streams.value.weight.copy_(torch.tensor([[0.0, 10.0]]))
    assert head(torch.tensor([[1.0, 1.0]])).q.tolist() == [[8.0, 9.0, 13.0]]


def test_twin_head_reads_halves() -> None:
    head = PolicyValueHead(4, spaces.Discrete(2), twin=True)
    x = torch.randn(1, 4, requires_grad=True)
    head(x).value.sum().backward()
    assert x.grad[0, :2].tolist() == [0.0, 0.0]


def test_orthogonal_init_gains() -> None:
    torso = build_torso(FRAME, "nature")
    model = Model(torso, build_core("none", torso.out_dim, 0), PolicyValueHead(torso.out_dim, spaces.Discrete(6)))
    orthogonal_init(model, {"policy.layer": 0.01, "value": 1.0})
    gram = model.head.policy.layer.weight @ model.head.policy.layer.weight.T
    torch.testing.assert_close(gram, 1e-4 * torch.eye(6), atol=1e-7, rtol=1e-3)
    assert model.head.value.weight.norm().item() == pytest.approx(1.0, abs=1e-4)
    hidden = model.torso.fc[0].weight
    torch.testing.assert_close(hidden @ hidden.T, 2.0 * torch.eye(512), atol=1e-3, rtol=1e-3)


def test_bf16_stays_close_to_fp32() -> None:
    torch.manual_seed(0)
    torso = build_torso(FRAME, "nature")
    model = Model(torso, build_core("none", 512, 0), QHead(512, 4))
    obs, first = batch_of(FRAME, 4), torch.zeros(4, dtype=torch.bool)
    exact = model(obs, model.initial_carry(4), first)[0].q
    model.bf16 = True
    rounded = model(obs, model.initial_carry(4), first)[0].q
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded, exact, atol=0.03, rtol=0.1)


@pytest.mark.parametrize(("kind", "space"), itertools.product(["none", "lstm"], [FRAME, DICT]))
def test_model_folds_time_into_the_batch(kind, space) -> None:
    torch.manual_seed(1)
    torso = build_torso(space)
    core = build_core(kind, torso.out_dim, 8)
    model = Model(torso, core, QHead(core.out_dim, 3))
    flat = batch_of(space, 6)
    sequence = map_tree(lambda x: x.view(3, 2, *x.shape[1:]), flat)
    first = torch.zeros(3, 2, dtype=torch.bool)
    assert model(sequence, model.initial_carry(2), first)[0].q.shape == (3, 2, 3)

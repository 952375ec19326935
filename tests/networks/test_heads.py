"""Heads against their equations: noise as a weight matrix per row, streams, atoms and quantiles."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.heads.policies import PolicyValueHead
from networks.heads.q_values import (
    CategoricalHead,
    Dense,
    ImplicitQuantileHead,
    NoisyLinear,
    QHead,
    QuantileHead,
    Streams,
)

HEADS = {
    "q": lambda **kwargs: QHead(6, 3, **kwargs),
    "categorical": lambda **kwargs: CategoricalHead(6, 3, 5, -2.0, 3.0, **kwargs),
    "quantile": lambda **kwargs: QuantileHead(6, 3, 4, **kwargs),
    "implicit": lambda **kwargs: ImplicitQuantileHead(6, 3, 4, cosines=7, **kwargs),
}


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def rng(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def f(noise: Tensor) -> Tensor:
    """Fortunato et al. 2018, section 3: f(x) = sgn(x) sqrt(|x|)."""
    return torch.sign(noise) * torch.sqrt(torch.abs(noise))


def learned(layer: NoisyLinear) -> NoisyLinear:
    """Set the noise scales to random values of either sign, as if learned."""
    nn.init.normal_(layer.sigma_weight)
    nn.init.normal_(layer.sigma_bias)
    return layer


def explicit(layer: NoisyLinear, x: Tensor, eps_in: Tensor, eps_out: Tensor) -> Tensor:
    """Equations 8 to 11 of the paper with the full weight matrix, for one row [F]."""
    weight = layer.weight + layer.sigma_weight * torch.outer(f(eps_out), f(eps_in))
    return weight @ x + layer.bias + layer.sigma_bias * f(eps_out)


def test_a_noisy_layer_without_noise_uses_its_mean() -> None:
    layer, x = learned(NoisyLinear(4, 3)), torch.randn(5, 4)
    assert torch.equal(layer(x), F.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize("lead", [(5,), (2, 5)])
def test_each_row_has_its_own_noisy_weight_matrix(lead: tuple[int, ...]) -> None:
    layer, x = learned(NoisyLinear(4, 3)), torch.randn(*lead, 4)
    out = layer(x, rng())
    again = rng()
    eps_in, eps_out = (torch.randn(*lead, width, generator=again).reshape(-1, width) for width in (4, 3))
    rows = zip(x.reshape(-1, 4), eps_in, eps_out, strict=True)
    expected = torch.stack([explicit(layer, *row) for row in rows]).reshape(*lead, 3)
    torch.testing.assert_close(out, expected)


def test_shared_noise_is_equal_along_the_axis_before_the_features() -> None:
    layer, x = learned(NoisyLinear(4, 3, shared=True)), torch.randn(2, 6, 4)
    out = layer(x, rng())
    again = rng()
    eps_in, eps_out = (torch.randn(2, 1, width, generator=again)[:, 0] for width in (4, 3))
    for row in range(2):
        for tau in range(6):
            torch.testing.assert_close(out[row, tau], explicit(layer, x[row, tau], eps_in[row], eps_out[row]))


@pytest.mark.parametrize("shared", [False, True])
def test_rows_get_different_noise_unless_shared(shared: bool) -> None:
    out = NoisyLinear(4, 3, shared=shared)(torch.randn(4).expand(3, 5, 4), rng())
    assert len(out.reshape(-1, 3).unique(dim=0)) == (3 if shared else 15)


@pytest.mark.parametrize("sigma", [0.5, 0.1])
def test_a_noisy_layer_is_initialised_as_published(sigma: float) -> None:
    layer = NoisyLinear(16, 300, sigma)
    for scale in (layer.sigma_weight, layer.sigma_bias):
        assert torch.equal(scale, torch.full_like(scale, sigma / 4))
    for mean in (layer.weight, layer.bias):
        assert mean.abs().max() <= 0.25
        assert mean.std().item() == pytest.approx(0.25 / math.sqrt(3), rel=0.1)  # a uniform distribution's
        assert mean.abs().max() > 0.24


def test_gradients_reach_the_scales_only_with_noise() -> None:
    layer, x = NoisyLinear(4, 3), torch.randn(5, 4)
    layer(x).sum().backward()
    assert layer.sigma_weight.grad is None
    layer(x, rng()).sum().backward()
    again = rng()
    eps_in, eps_out = (torch.randn(5, width, generator=again) for width in (4, 3))
    torch.testing.assert_close(layer.sigma_weight.grad, f(eps_out).T @ (f(eps_in) * x))
    torch.testing.assert_close(layer.sigma_bias.grad, f(eps_out).sum(dim=0))


@pytest.mark.parametrize("kind", HEADS)
def test_the_generator_determines_all_random_numbers(kind: str) -> None:
    head, x = HEADS[kind](hidden=8, dueling=True, sigma=0.5), torch.randn(5, 6)
    state, generator = rng().get_state(), rng(99)
    generator.set_state(state)
    first = head(x, generator).q
    assert not torch.equal(head(x, generator).q, first)  # the generator has advanced
    generator.set_state(state)
    torch.manual_seed(17)  # the global generator has no effect
    assert torch.equal(head(x, generator).q, first)
    assert torch.equal(head(x).q, head(x).q)
    assert not torch.allclose(head(x).q, first)


@pytest.mark.parametrize("kind", ["q", "categorical", "quantile"])
def test_heads_without_noisy_layers_ignore_noise(kind: str) -> None:
    head, x, generator = HEADS[kind](hidden=8, dueling=True), torch.randn(5, 6), rng()
    assert torch.equal(head(x, generator).q, head(x).q)
    assert torch.equal(generator.get_state(), rng().get_state())


@pytest.mark.parametrize("hidden", [0, 8])
@pytest.mark.parametrize("k", [1, 5])
def test_dueling_advantages_have_mean_zero_for_each_output(k: int, hidden: int) -> None:
    streams, x = Streams(6, 3, k, hidden, dueling=True, sigma=0.0), torch.randn(4, 6)
    out = streams(x)
    assert out.shape == (4, 3, k)
    value_in = advantage_in = x
    if hidden:
        units = F.relu(x @ streams.inner.weight.T + streams.inner.bias)  # type: ignore[operator,union-attr]
        assert units.shape == (4, 16)
        advantage_in, value_in = units[:, :8], units[:, 8:]
    value = value_in @ streams.value.weight.T + streams.value.bias  # [B, K]
    advantage = (advantage_in @ streams.advantage.weight.T + streams.advantage.bias).reshape(4, 3, k)
    torch.testing.assert_close(out.mean(dim=1), value)
    for action in range(3):
        for number in range(k):
            expected = value[:, number] + advantage[:, action, number] - advantage[:, :, number].mean(dim=1)
            torch.testing.assert_close(out[:, action, number], expected)


def test_without_dueling_the_outputs_are_one_layers() -> None:
    streams, x = Streams(6, 3, 5, 8, dueling=False, sigma=0.0), torch.randn(4, 6)
    expected = streams.advantage(F.relu(streams.inner(x)))  # type: ignore[misc]
    assert streams.value is None
    assert torch.equal(streams(x), expected.reshape(4, 3, 5))


def test_each_stream_has_its_own_hidden_units() -> None:
    streams = Streams(6, 3, 1, 8, dueling=True, sigma=0.0)
    streams(torch.randn(16, 6)).mean(dim=1).sum().backward()  # the value alone: advantages have mean 0
    units = streams.inner.weight.grad.abs().sum(dim=1)  # type: ignore[union-attr]
    assert (units[:8] < 1e-4).all()
    assert (units[8:] > 1e-3).any()
    streams.zero_grad()
    out = streams(torch.randn(16, 6))
    (out[:, 0] - out[:, 1]).sum().backward()  # the advantages alone: the value cancels
    units = streams.inner.weight.grad.abs().sum(dim=1)  # type: ignore[union-attr]
    assert (units[8:] < 1e-4).all()
    assert (units[:8] > 1e-3).any()


@pytest.mark.parametrize(("sigma", "kind"), [(0.3, NoisyLinear), (0.0, Dense)])
@pytest.mark.parametrize("hidden", [0, 8])
def test_streams_are_noisy_everywhere_or_nowhere(sigma: float, kind: type[nn.Module], hidden: int) -> None:
    layers = [part for part in Streams(6, 3, 2, hidden, True, sigma).modules() if isinstance(part, nn.Linear)]
    assert len(layers) == (3 if hidden else 2)
    assert all(type(layer) is kind for layer in layers)
    if sigma:
        assert all(
            layer.sigma_bias[0].item() == pytest.approx(sigma / math.sqrt(layer.in_features)) for layer in layers
        )


def test_every_layer_of_the_streams_gets_the_noise() -> None:
    streams = Streams(6, 3, 2, 8, True, 0.5)
    streams(torch.randn(9, 6), rng()).square().sum().backward()
    for layer in (streams.inner, streams.advantage, streams.value):
        assert layer.sigma_weight.grad.abs().sum() > 0  # type: ignore[union-attr]


def test_categorical_values_are_the_means_of_their_distributions() -> None:
    head = CategoricalHead(6, 3, 5, -2.0, 2.0, hidden=8, dueling=True)
    assert head.support.tolist() == [-2.0, -1.0, 0.0, 1.0, 2.0]
    x = torch.randn(2, 4, 6)
    out = head(x)
    assert out.log_probs.shape == (2, 4, 3, 5)
    torch.testing.assert_close(out.log_probs.exp().sum(dim=-1), torch.ones(2, 4, 3))
    torch.testing.assert_close(out.log_probs, head.streams(x).log_softmax(dim=-1))
    by_hand = sum(atom * out.log_probs[..., index].exp() for index, atom in enumerate((-2.0, -1.0, 0.0, 1.0, 2.0)))
    torch.testing.assert_close(out.q, by_hand)


def test_categorical_by_hand() -> None:
    head = CategoricalHead(1, 1, 3, 0.0, 10.0)
    with torch.no_grad():
        head.streams.advantage.weight.zero_()
        head.streams.advantage.bias.copy_(torch.tensor([0.2, 0.3, 0.5]).log())
    out = head(torch.ones(1, 1))
    assert out.log_probs.exp()[0, 0].tolist() == pytest.approx([0.2, 0.3, 0.5])
    assert out.q.item() == pytest.approx(0.3 * 5 + 0.5 * 10)


def test_quantile_taus_are_midpoints_and_values_are_means() -> None:
    head, x = QuantileHead(6, 3, 4, hidden=8), torch.randn(2, 5, 6)
    out = head(x)
    assert head.taus.tolist() == [0.125, 0.375, 0.625, 0.875]
    assert out.taus.shape == (2, 5, 4)
    assert torch.equal(out.taus[1, 3], head.taus)
    assert torch.equal(out.quantiles, head.streams(x))
    torch.testing.assert_close(out.q, out.quantiles.sum(dim=-1) / 4)


@pytest.mark.parametrize("kind", ["quantile", "implicit"])
@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
@pytest.mark.parametrize("noisy", [False, True])
def test_quantiles_keep_the_axes_before_the_features(kind: str, lead: tuple[int, ...], noisy: bool) -> None:
    out = HEADS[kind](hidden=8, dueling=True, sigma=0.5)(torch.randn(*lead, 6), rng() if noisy else None)
    assert out.q.shape == (*lead, 3)
    assert out.quantiles.shape == (*lead, 3, 4)
    assert out.taus.shape == (*lead, 4)


def test_implicit_taus_are_evenly_spaced_without_noise() -> None:
    head, x = HEADS["implicit"](hidden=8), torch.randn(2, 5, 6)
    out = head(x)
    assert torch.equal(out.taus, torch.tensor([0.125, 0.375, 0.625, 0.875]).expand(2, 5, 4))
    torch.manual_seed(5)
    assert torch.equal(head(x).quantiles, out.quantiles)


def test_implicit_taus_are_drawn_for_each_row_with_noise() -> None:
    head = HEADS["implicit"]()
    taus = head(torch.randn(6).expand(2, 5, 6), rng()).taus
    assert torch.equal(taus, torch.rand(2, 5, 4, generator=rng()))
    assert len(taus.flatten().unique()) == 40


@pytest.mark.parametrize("noisy", [False, True])
def test_implicit_quantiles_by_the_papers_equations(noisy: bool) -> None:
    head, x = HEADS["implicit"](hidden=8, dueling=True), torch.randn(5, 6)
    out = head(x, rng() if noisy else None)
    for row in range(5):
        for number in range(4):
            tau = out.taus[row, number]
            cosines = torch.stack([torch.cos(math.pi * i * tau) for i in range(7)])
            phi = torch.relu(head.embedding.weight @ cosines + head.embedding.bias)
            torch.testing.assert_close(out.quantiles[row, :, number], head.streams(x[row] * phi)[:, 0])
    torch.testing.assert_close(out.q, out.quantiles.sum(dim=-1) / 4)


def test_a_noisy_implicit_head_uses_one_noise_for_all_taus_of_a_row() -> None:
    """Otherwise the quantiles of a row would come from different networks."""
    head = HEADS["implicit"](sigma=0.5, dueling=True)
    nn.init.zeros_(head.embedding.weight)  # so that the taus have no effect
    nn.init.ones_(head.embedding.bias)
    quantiles = head(torch.randn(6).expand(5, 6), rng()).quantiles
    torch.testing.assert_close(quantiles, quantiles[..., :1].expand(5, 3, 4))
    assert len(quantiles[:, 0, 0].unique()) == 5


@pytest.mark.parametrize("twin", [False, True])
def test_policy_and_value_ignore_noise(twin: bool) -> None:
    head, x, generator = PolicyValueHead(6, spaces.Discrete(3), twin), torch.randn(2, 5, 6), rng()
    with_noise, without = head(x, generator), head(x)
    assert torch.equal(with_noise.policy, without.policy)
    assert torch.equal(with_noise.value, without.value)
    assert with_noise.value.shape == (2, 5)
    assert torch.equal(generator.get_state(), rng().get_state())


def test_a_dense_layer_is_a_linear_one() -> None:
    layer, x = Dense(4, 3), torch.randn(5, 4)
    generator: Any = rng()
    assert torch.equal(layer(x, generator), F.linear(x, layer.weight, layer.bias))

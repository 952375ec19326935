"""Policies against torch's distributions, masks, the actor-critic head, and running mean and variance."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import distributions as td

from networks.heads.policies import CategoricalPolicy, GaussianPolicy, PolicyValueHead, build_policy
from networks.running_mean_std import RunningMeanStd

SPACES = {
    "discrete": spaces.Discrete(5),
    "several": spaces.MultiDiscrete([3, 2, 4]),
    "switches": spaces.MultiBinary(3),
    "box": spaces.Box(-1.0, 1.0, (2, 3), np.float32),
}


def parameters(name: str, batch: int = 6) -> tuple[torch.nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    policy = build_policy(SPACES[name], 4)
    torch.nn.init.normal_(policy.layer.weight, std=0.4)
    if isinstance(policy, GaussianPolicy):
        torch.nn.init.normal_(policy.log_std)
    return policy, policy(torch.randn(batch, 4))


def reference(name: str, policy: torch.nn.Module, x: torch.Tensor) -> list[td.Distribution]:
    """Return the distribution of each choice."""
    if name == "box":
        mean, log_std = x.chunk(2, dim=-1)
        return [td.Normal(mean, log_std.exp())]
    return [td.Categorical(logits=part) for part in x.split(policy.sizes, dim=-1)]  # type: ignore[arg-type]


@pytest.mark.parametrize("name", SPACES)
def test_actions_are_in_the_space_and_log_probabilities_equal_torchs(name: str) -> None:
    policy, x = parameters(name)
    action = policy.sample(x, torch.Generator().manual_seed(1))
    assert action.shape == (6, *SPACES[name].shape)
    assert action.dtype == (torch.float32 if name == "box" else torch.int64)
    parts = reference(name, policy, x)
    if name == "box":
        expected = parts[0].log_prob(action.flatten(1)).sum(-1)
    else:
        assert all(row.astype(SPACES[name].dtype) in SPACES[name] for row in action.numpy())
        choices = action[:, None] if name == "discrete" else action
        expected = sum(part.log_prob(choices[:, k]) for k, part in enumerate(parts))
    torch.testing.assert_close(policy.log_prob(x, action), expected)
    entropy = sum(part.entropy().sum(-1) if name == "box" else part.entropy() for part in parts)
    torch.testing.assert_close(policy.entropy(x), entropy)
    stacked = torch.stack([x, x]), torch.stack([action, action])  # [T, B] as in rollouts
    assert policy.log_prob(*stacked).shape == (2, 6)
    assert policy.entropy(stacked[0]).shape == (2, 6)


def test_choices_have_the_right_frequencies() -> None:
    policy, x = parameters("several", 1)
    drawn = policy.sample(x.expand(20_000, -1), torch.Generator().manual_seed(3))
    for k, part in enumerate(reference("several", policy, x)):
        frequencies = torch.bincount(drawn[:, k], minlength=policy.sizes[k]) / len(drawn)
        torch.testing.assert_close(frequencies, part.probs[0], atol=0.012, rtol=0.0)
    correlations = torch.corrcoef(drawn.T.float())
    assert (correlations - torch.eye(3)).abs().max() < 0.03  # independent of each other


def test_continuous_actions_have_the_right_mean_and_deviation() -> None:
    policy, x = parameters("box", 1)
    drawn = policy.sample(x.expand(20_000, -1), torch.Generator().manual_seed(3)).flatten(1)
    mean, log_std = x[0].chunk(2)
    torch.testing.assert_close(drawn.mean(0), mean, atol=0.05, rtol=0.03)
    torch.testing.assert_close(drawn.std(0), log_std.exp(), atol=0.02, rtol=0.03)


@pytest.mark.parametrize("space", [
    spaces.Discrete(3, start=1), spaces.Box(0, 9, (2,), np.int64), spaces.Text(4), spaces.Box(-1.0, 1.0, ()),
    spaces.MultiDiscrete([[2, 2], [2, 2]]), spaces.MultiBinary((2, 2)), spaces.Dict(a=spaces.Discrete(2)),
    spaces.MultiDiscrete([2, 3], start=[1, 0]),
])  # fmt: skip
def test_unsupported_action_spaces_are_refused(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match="no policy supports the action space"):
        build_policy(space, 4)


@pytest.mark.parametrize("name", ["discrete", "several"])
def test_illegal_actions_are_never_sampled_and_the_rest_is_renormalised(name: str) -> None:
    policy, x = parameters(name, 1)
    assert isinstance(policy, CategoricalPolicy)
    legal = torch.ones_like(x, dtype=torch.bool)
    legal[0, 1] = legal[0, -1] = False
    masked = policy.masked(x, legal)
    for part, before, allowed in zip(*(t.split(policy.sizes, -1) for t in (masked, x, legal)), strict=True):
        expected = torch.where(allowed, before.exp(), 0.0)
        torch.testing.assert_close(part.exp(), expected / expected.sum())
    drawn = policy.sample(masked.expand(2_000, -1), torch.Generator().manual_seed(0)).reshape(2_000, -1)
    starts = np.cumsum([0, *policy.sizes[:-1]])
    chosen = torch.zeros(x.shape[1]).index_add_(
        0, (drawn + torch.from_numpy(starts)).flatten(), torch.ones(drawn.numel())
    )
    assert (chosen[~legal[0]] == 0).all()
    assert (chosen[legal[0]] > 0).all()
    entropy = sum(td.Categorical(probs=part.exp()).entropy() for part in masked.split(policy.sizes, -1))
    torch.testing.assert_close(policy.entropy(masked), entropy)


def test_gradients_are_finite_even_with_a_single_legal_action() -> None:
    policy, _ = parameters("discrete")
    legal = torch.zeros(6, 5, dtype=torch.bool)
    legal[torch.arange(6), torch.arange(6) % 5] = True
    masked = policy.masked(policy(torch.randn(6, 4)), legal)
    action = torch.arange(6) % 5
    (policy.log_prob(masked, action) + policy.entropy(masked)).sum().backward()
    assert torch.isfinite(policy.layer.weight.grad).all()
    torch.testing.assert_close(policy.log_prob(masked, action), torch.zeros(6))
    torch.testing.assert_close(policy.entropy(masked), torch.zeros(6))


@pytest.mark.parametrize("novelty", [False, True])
def test_policy_and_values_of_a_twin_head_read_a_half_each(novelty: bool) -> None:
    head = PolicyValueHead(8, SPACES["discrete"], twin=True, novelty=novelty)
    x = torch.randn(3, 8, requires_grad=True)
    output = head(x)
    assert (output.novelty_value is not None) == novelty
    values = [output.value, *([output.novelty_value] if novelty else [])]
    for number, half in ((output.policy.square().sum(), 0), *((value.sum(), 1) for value in values)):
        (grad,) = torch.autograd.grad(number, x, retain_graph=True)
        assert grad[:, 4 * half : 4 * half + 4].abs().min() > 0
        assert (grad[:, 4 - 4 * half : 8 - 4 * half] == 0).all()


def test_running_mean_and_variance_equal_those_of_all_samples() -> None:
    generator = torch.Generator().manual_seed(0)
    moments, samples = RunningMeanStd((3,)), []
    assert (moments.mean.tolist(), moments.variance.tolist()) == ([0.0] * 3, [1.0] * 3)
    for count, scale in ((1, 1.0), (7, 10.0), (0, 1.0), (40, 0.1)):
        samples.append(scale * torch.randn(count, 3, generator=generator) + scale)
        moments.merge(samples[-1])
        everything = torch.cat(samples)
        torch.testing.assert_close(moments.mean, everything.mean(0))
        torch.testing.assert_close(moments.variance, everything.var(0, correction=0), atol=1e-5, rtol=1e-5)
    assert moments.count == 48
    other = RunningMeanStd((3,))
    other.load_state_dict(moments.state_dict())
    other.merge(samples[1])
    moments.merge(samples[1])
    assert torch.equal(other.mean, moments.mean)
    assert torch.equal(other.variance, moments.variance)


@pytest.mark.parametrize("name", SPACES)
def test_the_mode_is_at_least_as_likely_as_any_sample(name: str) -> None:
    policy, x = parameters(name, 8)
    best = policy.mode(x)
    drawn = policy.sample(x, torch.Generator().manual_seed(0))
    assert (best.shape, best.dtype) == (drawn.shape, drawn.dtype)
    for seed in range(20):
        other = policy.sample(x, torch.Generator().manual_seed(seed))
        assert (policy.log_prob(x, best) >= policy.log_prob(x, other)).all()

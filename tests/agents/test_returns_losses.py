"""Returns and losses against numbers computed by hand, and where gradients stop."""

from __future__ import annotations

import math

import pytest
import torch

from agents.losses import (
    greedy_policy,
    huber,
    masked_mean,
    masked_normalize,
    ppo_policy_loss,
    ppo_value_loss,
    project,
    quantile_huber,
    rescale,
    sequence_priority,
    soft_policy,
    unrescale,
)
from agents.returns import gae, rewards_to_go, vtrace


def column(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)[:, None]


def flags(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.bool)[:, None]


def test_gae_by_hand() -> None:
    advantage = gae(
        column(1.0, 2.0, 3.0), column(0.5, 1.0, 1.5), torch.tensor([2.0]), flags(0, 0, 0), flags(0, 0, 0), 0.5, 0.5
    )
    # deltas: 1 + .5*1 - .5 = 1;  2 + .5*1.5 - 1 = 1.75;  3 + .5*2 - 1.5 = 2.5;  decay .25
    assert advantage.flatten().tolist() == pytest.approx([1 + 0.25 * (1.75 + 0.25 * 2.5), 1.75 + 0.625, 2.5])


def test_gae_termination_forgets_the_future_and_truncation_bootstraps() -> None:
    reward, value = column(1.0, 0.0, 5.0), column(0.5, 4.0, 1.5)
    ended = gae(reward, value, torch.tensor([2.0]), flags(1, 0, 0), flags(0, 0, 0), 0.9, 0.8)
    assert ended[0, 0].item() == pytest.approx(1.0 - 0.5)
    cut = gae(reward, value, torch.tensor([2.0]), flags(0, 0, 0), flags(1, 0, 0), 0.9, 0.8)
    # the row after a truncated step is the final observation, so its value is bootstrapped from, but no more
    assert cut[0, 0].item() == pytest.approx(1.0 + 0.9 * 4.0 - 0.5)


def test_gae_equals_the_definition_on_random_data() -> None:
    generator = torch.Generator().manual_seed(3)
    steps, envs, gamma, lam = 17, 5, 0.97, 0.9
    reward, value = (torch.randn(steps, envs, generator=generator) for _ in range(2))
    next_value = torch.randn(envs, generator=generator)
    terminated = torch.rand(steps, envs, generator=generator) < 0.15
    truncated = (torch.rand(steps, envs, generator=generator) < 0.15) & ~terminated
    got = gae(reward, value, next_value, terminated, truncated, gamma, lam)
    values = torch.cat([value, next_value[None]])
    for env in range(envs):
        for start in range(steps):
            expected, weight = 0.0, 1.0
            for t in range(start, steps):
                delta = reward[t, env] + gamma * (~terminated[t, env]) * values[t + 1, env] - values[t, env]
                expected += weight * delta.item()
                weight *= gamma * lam
                if terminated[t, env] or truncated[t, env]:
                    break
            assert got[start, env].item() == pytest.approx(expected, abs=1e-4)


def test_the_greedy_policy_is_1_for_the_best_action() -> None:
    assert greedy_policy(torch.tensor([[1.0, 5.0, 2.0], [3.0, 0.0, 3.0]])).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_a_soft_policy_by_hand() -> None:
    weights, scaled = soft_policy(torch.tensor([math.log(1.0), math.log(3.0)]) * 0.5, 0.5)
    assert weights.tolist() == pytest.approx([0.25, 0.75])
    assert scaled.tolist() == pytest.approx([0.5 * math.log(0.25), 0.5 * math.log(0.75)])


def test_rescaling_by_hand_and_its_inverse() -> None:
    x = torch.tensor([0.0, 3.0, -3.0, 1e4, -0.01])
    assert rescale(x)[:3].tolist() == pytest.approx([0.0, 1.003, -1.003])
    torch.testing.assert_close(unrescale(rescale(x.double())), x.double(), rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(unrescale(rescale(x)), x, rtol=1e-3, atol=1e-3)  # what float32 leaves of it


def test_projection_by_hand() -> None:
    support = torch.linspace(0.0, 4.0, 5)
    values = torch.tensor([[1.25, 2.0, 9.0, -1.0]])
    probs = torch.tensor([[0.4, 0.3, 0.2, 0.1]])
    assert project(values, probs, support)[0].tolist() == pytest.approx([0.1, 0.3, 0.4, 0.0, 0.2])


def test_projection_keeps_mass_and_mean_and_equals_algorithm_1() -> None:
    generator = torch.Generator().manual_seed(0)
    support = torch.linspace(-10.0, 10.0, 51)
    values = 16.0 * torch.rand(3, 7, 80, generator=generator) - 8.0
    probs = torch.rand(3, 7, 80, generator=generator).softmax(dim=-1)
    got = project(values, probs, support)
    torch.testing.assert_close(got.sum(dim=-1), torch.ones(3, 7))
    torch.testing.assert_close((got * support).sum(dim=-1), (probs * values).sum(dim=-1), atol=1e-5, rtol=1e-5)
    triangle = (1.0 - (values[..., None] - support).abs() / 0.4).clamp(min=0.0)  # [..., M, K]
    torch.testing.assert_close(got, (probs[..., None] * triangle).sum(dim=-2), atol=1e-5, rtol=1e-4)


def test_the_quantile_loss_by_hand() -> None:
    quantiles = torch.tensor([[0.0, 2.0]], requires_grad=True)
    loss = quantile_huber(quantiles, torch.tensor([[0.25, 0.75]]), torch.tensor([[1.0, 0.5, 5.0]]))
    # errors 1, .5, 5 and -1, -1.5, 3; Huber .5, .125, 4.5 and .5, 1.0, 2.5; weights .25 and (.25, .25, .75)
    first, second = 0.25 * (0.5 + 0.125 + 4.5) / 3, (0.25 * 0.5 + 0.25 * 1.0 + 0.75 * 2.5) / 3
    assert loss.tolist() == pytest.approx([first + second])
    loss.sum().backward()
    assert quantiles.grad[0].tolist() == pytest.approx([-0.25 * 2.5 / 3, (0.25 + 0.25 - 0.75) / 3])
    linear = quantile_huber(quantiles.detach(), torch.tensor([[0.25, 0.75]]), torch.tensor([[1.0, 0.5, 5.0]]), 0.0)
    assert linear.tolist() == pytest.approx([0.25 * 6.5 / 3 + (0.25 + 0.25 * 1.5 + 0.75 * 3.0) / 3])


def test_the_quantile_loss_is_least_at_the_quantiles() -> None:
    target, taus = torch.arange(1.0, 101.0)[None], torch.tensor([[0.1, 0.5, 0.9]])
    quantiles = torch.zeros(1, 3, requires_grad=True)
    for _ in range(400):
        (slope,) = torch.autograd.grad(quantile_huber(quantiles, taus, target, 0.0).sum(), quantiles)
        quantiles = (quantiles - 20.0 * slope).detach().requires_grad_()
    assert quantiles[0].tolist() == pytest.approx([10.5, 50.5, 90.5], abs=2.0)


def test_huber_is_quadratic_then_linear_with_bounded_gradient() -> None:
    error = torch.tensor([0.5, -3.0], requires_grad=True)
    loss = huber(error)
    assert loss.tolist() == pytest.approx([0.125, 2.5])
    loss.sum().backward()
    assert error.grad.tolist() == [0.5, -1.0]


def test_ppo_policy_loss_and_where_its_gradient_stops() -> None:
    log_prob = torch.log(torch.tensor([1.5, 0.5, 1.5, 0.5])).requires_grad_()
    advantage = torch.tensor([1.0, 1.0, -1.0, -1.0])
    loss = ppo_policy_loss(log_prob, torch.zeros(4), advantage, clip=0.2)
    assert loss.tolist() == pytest.approx([-1.2, -0.5, 1.5, 0.8])
    loss.sum().backward()
    # a ratio that has already moved too far in the good direction is left alone
    assert log_prob.grad.tolist() == pytest.approx([0.0, -0.5, 1.5, 0.0])


def test_ppo_value_loss_clips_the_move_but_never_below_the_plain_loss() -> None:
    value, old, target = torch.tensor([2.0, 0.05]), torch.zeros(2), torch.tensor([3.0, 3.0])
    assert ppo_value_loss(value, old, target, None).tolist() == pytest.approx([0.5, 0.5 * 2.95**2])
    assert ppo_value_loss(value, old, target, 0.1).tolist() == pytest.approx([0.5 * 2.9**2, 0.5 * 2.95**2])


def test_masked_rows_do_not_count() -> None:
    x, mask = torch.tensor([1.0, 3.0, math.inf]).nan_to_num(posinf=1e6), torch.tensor([1.0, 1.0, 0.0])
    assert masked_mean(x, mask).item() == 2.0
    normalized = masked_normalize(x, mask)[:2]
    assert normalized.mean().item() == pytest.approx(0.0, abs=1e-6)
    assert normalized.std().item() == pytest.approx(1.0, abs=1e-5)


def ends_of(shape: tuple[int, int], seed: int) -> tuple[torch.Tensor, ...]:
    """Return random rewards, values, last value, ratios, and ends of both kinds, each followed by a dead row."""
    generator = torch.Generator().manual_seed(seed)
    reward, value = (torch.randn(shape, generator=generator) for _ in range(2))
    ratio = (0.7 * torch.randn(shape, generator=generator)).exp()
    kind = torch.rand(shape, generator=generator)
    terminated, truncated = kind < 0.15, (kind > 0.8) & (kind < 0.95)
    both = kind > 0.95
    return reward, value, torch.randn(shape[1], generator=generator), terminated | both, truncated | both, ratio


def test_vtrace_equals_equation_1_of_the_paper() -> None:
    """Equation 1 of Espeholt et al. 2018, term by term for each row."""
    gamma, trace, rho_bar, c_bar = 0.9, 0.8, 1.2, 0.7
    reward, value, last, terminated, truncated, ratio = ends_of((12, 5), 0)
    target, advantage = vtrace(ratio, reward, value, last, terminated, truncated, gamma, trace, rho_bar, c_bar)
    values = torch.cat([value, last[None]])

    def discount(t: int, n: int) -> float:
        return 0.0 if terminated[t, n] else gamma

    for n in range(5):
        for s in range(12):
            total, weight = values[s, n].item(), 1.0
            for t in range(s, 12):
                rho = min(ratio[t, n].item(), rho_bar)
                total += weight * rho * (reward[t, n] + discount(t, n) * values[t + 1, n] - values[t, n]).item()
                if terminated[t, n] or truncated[t, n]:
                    break
                weight *= gamma * trace * min(ratio[t, n].item(), c_bar)
            assert target[s, n].item() == pytest.approx(total, abs=1e-5)
    targets = torch.cat([target, last[None]])
    for n in range(5):
        for s in range(12):
            follows = values[s + 1, n] if truncated[s, n] else targets[s + 1, n]
            expected = min(ratio[s, n].item(), rho_bar) * (reward[s, n] + discount(s, n) * follows - values[s, n])
            assert advantage[s, n].item() == pytest.approx(expected.item(), abs=1e-5)


@pytest.mark.parametrize("trace", [0.0, 0.6, 1.0])
def test_vtrace_on_policy_equals_lambda_returns(trace: float) -> None:
    reward, value, last, terminated, truncated, _ = ends_of((20, 4), 1)
    target, _ = vtrace(torch.ones(20, 4), reward, value, last, terminated, truncated, 0.95, trace)
    expected = value + gae(reward, value, last, terminated, truncated, 0.95, trace)
    torch.testing.assert_close(target, expected)


def test_vtrace_clips_large_ratios_and_shrinks_to_the_critic_at_small_ones() -> None:
    reward, value, last, terminated, truncated, _ = ends_of((8, 3), 2)
    arguments = reward, value, last, terminated, truncated, 0.9
    huge, ones = (vtrace(torch.full((8, 3), size), *arguments)[0] for size in (50.0, 1.0))
    torch.testing.assert_close(huge, ones)
    assert not torch.allclose(vtrace(torch.full((8, 3), 50.0), *arguments, 1.0, 2.0, 2.0)[0], ones)
    torch.testing.assert_close(vtrace(torch.zeros(8, 3), *arguments)[0], value)


def test_rewards_to_go_are_known_where_the_episode_ends() -> None:
    reward, value, last, terminated, truncated, _ = ends_of((14, 6), 3)
    total, known = rewards_to_go(reward, value, last, terminated, truncated, 0.9)
    assert 0 < int(known.sum()) < known.numel()
    values = torch.cat([value, last[None]])
    for n in range(6):
        for s in range(14):
            expected, weight, seen = 0.0, 1.0, False
            for t in range(s, 14):
                expected += weight * reward[t, n].item()
                weight *= 0.9
                if terminated[t, n] or truncated[t, n]:
                    expected += 0.0 if terminated[t, n] else weight * values[t + 1, n].item()
                    seen = True
                    break
            assert bool(known[s, n]) == seen
            assert total[s, n].item() == pytest.approx(expected if seen else 0.0, abs=1e-5)


def test_the_priority_of_a_sequence_mixes_its_largest_and_its_mean_error() -> None:
    error, mask = torch.tensor([[1.0, 4.0], [3.0, 0.0], [9.0, 2.0]]), torch.tensor([[1.0, 1.0], [1.0, 1.0], [0.0, 1.0]])
    assert sequence_priority(error, mask, 0.9).tolist() == pytest.approx([0.9 * 3 + 0.1 * 2, 0.9 * 4 + 0.1 * 2])

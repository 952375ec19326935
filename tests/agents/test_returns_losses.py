"""Returns and losses against numbers worked out by hand, and gradients that reach only what they should."""

from __future__ import annotations

import math

import pytest
import torch

from agents.losses import (
    huber,
    masked_mean,
    masked_normalize,
    ppo_policy_loss,
    ppo_value_loss,
    td_target,
)
from agents.returns import gae


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


def test_td_target_picks_by_one_network_and_values_by_the_other() -> None:
    target_q, online_q = torch.tensor([[1.0, 5.0]]), torch.tensor([[9.0, 2.0]])
    reward, discount = torch.tensor([1.0]), torch.tensor([0.5])
    assert td_target(reward, discount, target_q, target_q).item() == 1.0 + 0.5 * 5.0
    assert td_target(reward, discount, target_q, online_q).item() == 1.0 + 0.5 * 1.0


def test_td_target_carries_no_gradient() -> None:
    next_q = torch.ones(2, 3, requires_grad=True)
    assert not td_target(torch.zeros(2), torch.ones(2), next_q, next_q).requires_grad


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

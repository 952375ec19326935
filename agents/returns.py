"""Returns and advantages: pure functions on [T, N] tensors, rows in time order."""

from __future__ import annotations

import torch
from torch import Tensor


def gae(
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    gae_lambda: float,
) -> Tensor:
    """Generalized advantage estimates [T, N] (Schulman et al. 2016, equation 16).

    `value` is [T, N]; `next_value` [N] is the value after the last row. Under NEXT_STEP autoreset the row after a
    truncated step holds the final observation, so its value is bootstrapped from as usual; the sum of later residuals
    stops at terminations and truncations alike.
    """
    advantage = torch.empty_like(reward)
    running = torch.zeros_like(next_value)
    discount = gamma * (1.0 - terminated.to(reward.dtype))
    trace = gamma * gae_lambda * (1.0 - (terminated | truncated).to(reward.dtype))
    for t in reversed(range(len(reward))):
        delta = reward[t] + discount[t] * next_value - value[t]
        running = delta + trace[t] * running
        advantage[t] = running
        next_value = value[t]
    return advantage


def rewards_to_go(
    reward: Tensor, value: Tensor, next_value: Tensor, terminated: Tensor, truncated: Tensor, gamma: float
) -> tuple[Tensor, Tensor]:
    """Discounted sum of rewards to the end of the episode [T, N], and whether that end is in the rollout [T, N] bool.

    Arguments as in `gae`. A truncated episode continues with the value of its final observation; the return of an
    episode still running after the last row is unknown, and set to 0.
    """
    total, known = torch.zeros_like(reward), torch.zeros_like(terminated)
    running, ends = torch.zeros_like(next_value), torch.zeros_like(terminated[0])
    for t in reversed(range(len(reward))):
        after = torch.where(truncated[t] & ~terminated[t], next_value, running * (1.0 - terminated[t].to(reward.dtype)))
        ends = ends | terminated[t] | truncated[t]
        running = torch.where(ends, reward[t] + gamma * after, 0.0)
        total[t], known[t] = running, ends
        next_value = value[t]
    return total, known


def vtrace(
    ratio: Tensor,
    reward: Tensor,
    value: Tensor,
    next_value: Tensor,
    terminated: Tensor,
    truncated: Tensor,
    gamma: float,
    trace: float = 1.0,
    rho_bar: float = 1.0,
    c_bar: float = 1.0,
) -> tuple[Tensor, Tensor]:
    """V-trace targets and policy-gradient advantages, [T, N] (Espeholt et al. 2018, section 4.1 and 4.2).

    `ratio` [T, N] is the learner's probability of each action over the actor's; `trace` is the lambda of remark 2. The
    row after a truncated step holds the final observation, whose value is bootstrapped from, as in `gae`.
    """
    rho, c = ratio.clamp(max=rho_bar), trace * ratio.clamp(max=c_bar)
    discount = gamma * (1.0 - terminated.to(reward.dtype))
    ends = (terminated | truncated).to(reward.dtype)
    target, advantage = torch.empty_like(reward), torch.empty_like(reward)
    correction, next_target = torch.zeros_like(next_value), next_value
    for t in reversed(range(len(reward))):
        delta = rho[t] * (reward[t] + discount[t] * next_value - value[t])
        correction = delta + discount[t] * (1.0 - ends[t]) * c[t] * correction
        target[t] = value[t] + correction
        # after a truncation the next row belongs to another episode, so its target must not be used
        follows = torch.where(truncated[t], next_value, next_target)
        advantage[t] = rho[t] * (reward[t] + discount[t] * follows - value[t])
        next_value, next_target = value[t], target[t]
    return target, advantage

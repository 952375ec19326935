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

    `value` is [T, N] and `next_value` [N] the value after the last row. Under NEXT_STEP autoreset the row after a
    truncated step is the final observation, so its value is bootstrapped from like any other; the sum of later
    residuals ends at both kinds of end.
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

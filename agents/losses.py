"""Losses: pure functions on tensors, elementwise unless their name says otherwise."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x` over the rows whose `mask` is 1; both of one shape."""
    return (x * mask).sum() / mask.sum().clamp(min=1.0)


def masked_variance(x: Tensor, mask: Tensor) -> Tensor:
    """Variance of `x` over the rows whose `mask` is 1, 0 where there are none."""
    return masked_mean((x - masked_mean(x, mask)) ** 2, mask)


def masked_normalize(x: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """`x` with mean 0 and standard deviation 1 over the rows whose `mask` is 1."""
    mean = masked_mean(x, mask)
    # Bessel's correction, as in the reference implementations of PPO
    variance = ((x - mean) ** 2 * mask).sum() / (mask.sum() - 1.0).clamp(min=1.0)
    return (x - mean) / (variance.sqrt() + epsilon)


def td_target(reward: Tensor, discount: Tensor, next_q: Tensor, selecting_q: Tensor) -> Tensor:
    """reward + discount * Q(next_obs, argmax of `selecting_q`), without gradient.

    `next_q` and `selecting_q` are [..., A]: the target network's values twice gives DQN (Mnih et al. 2015), the
    online network's as `selecting_q` gives Double DQN (van Hasselt et al. 2016, equation 4).
    """
    action = selecting_q.argmax(dim=-1, keepdim=True)
    return (reward + discount * next_q.gather(-1, action).squeeze(-1)).detach()


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Huber loss: error^2 / 2 within `delta`, linear beyond."""
    return F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def ppo_policy_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Clipped surrogate, to be minimised (Schulman et al. 2017, equation 7)."""
    ratio = (log_prob - old_log_prob).exp()
    return torch.max(-advantage * ratio, -advantage * ratio.clamp(1.0 - clip, 1.0 + clip))


def ppo_value_loss(value: Tensor, old_value: Tensor, target: Tensor, clip: float | None) -> Tensor:
    """(value - target)^2 / 2; with `clip` the worse of that and of the value moved by at most `clip`."""
    loss = 0.5 * (value - target) ** 2
    if clip is None:
        return loss
    clipped = old_value + (value - old_value).clamp(-clip, clip)
    return torch.max(loss, 0.5 * (clipped - target) ** 2)

"""Losses and their building blocks: pure functions on tensors, elementwise unless the docstring gives shapes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def masked_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean of `x` over the rows whose `mask` is 1, 0 without such rows; both have one shape, the result is a scalar."""
    return (x * mask).sum() / mask.sum().clamp(min=1.0)


def masked_variance(x: Tensor, mask: Tensor) -> Tensor:
    """Variance of `x` over the rows whose `mask` is 1, 0 without such rows; a scalar."""
    return masked_mean((x - masked_mean(x, mask)) ** 2, mask)


def masked_normalize(x: Tensor, mask: Tensor, epsilon: float = 1e-8) -> Tensor:
    """Shift and scale `x` to mean 0 and standard deviation 1 over the rows whose `mask` is 1; the shape of `x`."""
    mean = masked_mean(x, mask)
    # Bessel's correction, as in the reference implementations of PPO
    variance = ((x - mean) ** 2 * mask).sum() / (mask.sum() - 1.0).clamp(min=1.0)
    return (x - mean) / (variance.sqrt() + epsilon)


def sequence_mean(x: Tensor, mask: Tensor) -> Tensor:
    """Mean [B] of each sequence over its rows whose `mask` is 1; `x` and `mask` are [L, B]."""
    return (x * mask).sum(dim=0) / mask.sum(dim=0).clamp(min=1.0)


def sequence_priority(error: Tensor, mask: Tensor, eta: float) -> Tensor:
    """eta max |error| + (1 - eta) mean |error| of each sequence (Kapturowski et al. 2019, section 2.3): [L, B] -> [B].

    `error` holds absolute values; rows whose `mask` is 0 do not count.
    """
    largest = (error * mask).amax(dim=0)
    return eta * largest + (1.0 - eta) * (error * mask).sum(dim=0) / mask.sum(dim=0).clamp(min=1.0)


def greedy_policy(q: Tensor) -> Tensor:
    """Return probability 1 for the best action of `q` [..., A], 0 for all others: [..., A]."""
    return F.one_hot(q.argmax(dim=-1), q.shape[-1]).to(q.dtype)


def soft_policy(q: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Return softmax(q / temperature) and temperature * its logarithm, both [..., A] (Vieillard et al. 2020)."""
    log_policy = (q / temperature).log_softmax(dim=-1)
    return log_policy.exp(), temperature * log_policy


def rescale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """h(x) = sign(x) (sqrt(|x| + 1) - 1) + epsilon x, a compression of large returns (Pohlen et al. 2018)."""
    return x.sign() * ((x.abs() + 1.0).sqrt() - 1.0) + epsilon * x


def unrescale(x: Tensor, epsilon: float = 1e-3) -> Tensor:
    """Return the inverse of `rescale` (Pohlen et al. 2018, proposition A.2)."""
    root = (1.0 + 4.0 * epsilon * (x.abs() + 1.0 + epsilon)).sqrt()
    # (root - 1) / (2 epsilon), without the cancellation of two numbers of similar size
    return x.sign() * ((2.0 * (x.abs() + 1.0 + epsilon) / (root + 1.0)) ** 2 - 1.0)


def symlog(x: Tensor) -> Tensor:
    """sign(x) ln(1 + |x|), a stronger compression than `rescale` (Hafner et al. 2023, equation 1)."""
    return x.sign() * x.abs().log1p()


def symexp(x: Tensor) -> Tensor:
    """Return the inverse of `symlog`."""
    return x.sign() * x.abs().expm1()


def project(values: Tensor, probs: Tensor, support: Tensor) -> Tensor:
    """Project a distribution over `values` with `probs`, both [..., M], on evenly spaced atoms `support` [K]: [..., K].

    Each probability is split between the two atoms nearest to its value (Bellemare et al. 2017, algorithm 1); values
    beyond the support are clipped to its ends.
    """
    step = support[1] - support[0]
    place = ((values.clamp(support[0], support[-1]) - support[0]) / step).clamp(0.0, len(support) - 1.0)
    below = place.floor()
    share = place - below
    result = torch.zeros(*values.shape[:-1], len(support), dtype=probs.dtype, device=probs.device)
    result.scatter_add_(-1, below.long(), probs * (1.0 - share))
    result.scatter_add_(-1, place.ceil().long(), probs * share)
    return result


def quantile_huber(quantiles: Tensor, taus: Tensor, target: Tensor, kappa: float = 1.0) -> Tensor:
    """Quantile regression loss [...] (Dabney et al. 2018, equation 10; kappa 0 is equation 8).

    `quantiles` and their `taus` are [..., N], `target` is [..., M]; summed over quantiles, averaged over targets.
    """
    error = target[..., None, :] - quantiles[..., :, None]  # [..., N, M]
    asymmetry = (taus[..., :, None] - (error.detach() < 0).to(error.dtype)).abs()
    loss = huber(error, kappa) / kappa if kappa > 0 else error.abs()
    return (asymmetry * loss).mean(dim=-1).sum(dim=-1)


def huber(error: Tensor, delta: float = 1.0) -> Tensor:
    """Huber loss: error^2 / 2 within `delta`, linear beyond; `delta` 0 makes it error^2 / 2 throughout."""
    return 0.5 * error**2 if delta == 0 else F.huber_loss(error, torch.zeros_like(error), reduction="none", delta=delta)


def ppo_policy_loss(log_prob: Tensor, old_log_prob: Tensor, advantage: Tensor, clip: float) -> Tensor:
    """Negated clipped surrogate (Schulman et al. 2017, equation 7)."""
    ratio = (log_prob - old_log_prob).exp()
    return torch.max(-advantage * ratio, -advantage * ratio.clamp(1.0 - clip, 1.0 + clip))


def ppo_value_loss(value: Tensor, old_value: Tensor, target: Tensor, clip: float | None) -> Tensor:
    """(value - target)^2 / 2; with `clip` the larger of that and the same with the value's change clipped to `clip`."""
    loss = 0.5 * (value - target) ** 2
    if clip is None:
        return loss
    clipped = old_value + (value - old_value).clamp(-clip, clip)
    return torch.max(loss, 0.5 * (clipped - target) ** 2)

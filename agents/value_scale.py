"""Scales in which a critic learns values, so that rewards of any size can be learned from.

The critic predicts `encode(value)`; advantages and reports are in the game's own rewards, after `decode`. What a scale
has learned is saved with the agent.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from agents.losses import masked_mean, masked_variance, rescale, symexp, symlog, unrescale

ValueScaleName = Literal["none", "symlog", "rescale", "normalize"]


class ValueScale(nn.Module):
    """Values as they are."""

    def encode(self, value: Tensor) -> Tensor:
        """Return what the critic is to predict."""
        return value

    def decode(self, prediction: Tensor) -> Tensor:
        """Return the value that a prediction means."""
        return prediction

    def follow(self, returns: Tensor, mask: Tensor, layer: nn.Linear) -> None:
        """Learn from returns [T, N] whose `mask` is 1; `layer` is the critic's last one."""


class Symlog(ValueScale):
    """sign(v) ln(1 + |v|) (Hafner et al. 2023)."""

    def encode(self, value: Tensor) -> Tensor:
        """Take the logarithm of the size."""
        return symlog(value)

    def decode(self, prediction: Tensor) -> Tensor:
        """Undo that."""
        return symexp(prediction)


class Rescale(ValueScale):
    """sign(v) (sqrt(1 + |v|) - 1) + 0.001 v (Pohlen et al. 2018)."""

    def encode(self, value: Tensor) -> Tensor:
        """Take the square root of the size, roughly."""
        return rescale(value)

    def decode(self, prediction: Tensor) -> Tensor:
        """Undo that."""
        return unrescale(prediction)


class Normalized(ValueScale):
    """Mean 0 and standard deviation 1 over the returns seen so far, as in rl_games' `normalize_value`.

    When the statistics move, the critic's last layer is changed so that it means what it meant before (van Hasselt et
    al. 2016, "Learning values across many orders of magnitude", section 2).
    """

    mean: Tensor
    std: Tensor
    count: Tensor

    def __init__(self, epsilon: float = 1e-2):
        super().__init__()
        self.epsilon = epsilon
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    def encode(self, value: Tensor) -> Tensor:
        """(v - mean) / std."""
        return (value - self.mean) / self.std

    def decode(self, prediction: Tensor) -> Tensor:
        """Undo that."""
        return prediction * self.std + self.mean

    @torch.no_grad()
    def follow(self, returns: Tensor, mask: Tensor, layer: nn.Linear) -> None:
        """Merge the returns into the statistics (Chan et al. 1983), and keep the critic's meaning."""
        count = mask.sum().double()
        total = (self.count + count).clamp(min=1.0)
        share = (count / total).float()
        mean, variance = masked_mean(returns, mask), masked_variance(returns, mask)
        delta = mean - self.mean
        new_mean = self.mean + share * delta
        new_std = ((1.0 - share) * self.std**2 + share * variance + share * (1.0 - share) * delta**2).sqrt()
        new_std = new_std.clamp(min=self.epsilon)
        layer.weight.mul_(self.std / new_std)
        layer.bias.copy_((layer.bias * self.std + self.mean - new_mean) / new_std)
        self.mean.copy_(new_mean)
        self.std.copy_(new_std)
        self.count.copy_(total)


SCALES: dict[str, type[ValueScale]] = dict(
    zip(get_args(ValueScaleName), (ValueScale, Symlog, Rescale, Normalized), strict=True)
)

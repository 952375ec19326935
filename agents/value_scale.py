"""Scales in which a critic learns values, so that rewards of any size can be learned from.

The critic predicts `encode(value)`; advantages and reports are in the game's own rewards, after `decode`. What a scale
has learned is saved with the agent.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from agents.losses import rescale, symexp, symlog, unrescale
from networks.running_mean_std import RunningMeanStd

ValueScaleName = Literal["none", "symlog", "rescale", "normalize"]


class ValueScale(nn.Module):
    """Values as they are."""

    @property
    def unit(self) -> Tensor | float:
        """Size of an advantage that counts as 1."""
        return 1.0

    def encode(self, value: Tensor) -> Tensor:
        """Return what the critic is to predict."""
        return value

    def decode(self, prediction: Tensor) -> Tensor:
        """Return the value that a prediction means."""
        return prediction

    def update(self, returns: Tensor, mask: Tensor, layer: nn.Linear) -> None:
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

    LEAST_STD = 1e-2

    def __init__(self) -> None:
        super().__init__()
        self.moments = RunningMeanStd()

    @property
    def mean(self) -> Tensor:
        """Of all returns so far."""
        return self.moments.mean

    @property
    def std(self) -> Tensor:
        """Of all returns so far, within reason."""
        return self.moments.variance.sqrt().clamp(min=self.LEAST_STD)

    @property
    def unit(self) -> Tensor:
        """The deviation: the policy learns from normalised advantages too (Hessel et al. 2019, PopArt-IMPALA)."""
        return self.std

    def encode(self, value: Tensor) -> Tensor:
        """(v - mean) / std."""
        return (value - self.mean) / self.std

    def decode(self, prediction: Tensor) -> Tensor:
        """Undo that."""
        return prediction * self.std + self.mean

    @torch.no_grad()
    def update(self, returns: Tensor, mask: Tensor, layer: nn.Linear) -> None:
        """Merge the returns into the statistics, and keep the critic's meaning."""
        mean, std = self.mean.clone(), self.std
        self.moments.merge(returns[mask > 0])
        layer.weight.mul_(std / self.std)
        layer.bias.copy_((layer.bias * std + mean - self.mean) / self.std)


SCALES: dict[str, type[ValueScale]] = dict(
    zip(get_args(ValueScaleName), (ValueScale, Symlog, Rescale, Normalized), strict=True)
)

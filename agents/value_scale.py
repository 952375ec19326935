"""Transforms of a critic's targets, so that it learns from rewards of any size.

The critic predicts `encode(value)`; advantages and metrics are in units of the reward, after `decode`. The state of a
scale is saved with the agent.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
from torch import Tensor, nn

from agents.losses import rescale, symexp, symlog, unrescale
from networks.running_mean_std import RunningMeanStd

ValueScaleName = Literal["none", "symlog", "rescale", "normalize"]


class ValueScale(nn.Module):
    """Identity."""

    @property
    def unit(self) -> Tensor | float:
        """Divisor of advantages, in units of the reward."""
        return 1.0

    def encode(self, value: Tensor) -> Tensor:
        """Return the critic's target for a value in units of the reward."""
        return value

    def decode(self, prediction: Tensor) -> Tensor:
        """Return the value in units of the reward for the critic's prediction."""
        return prediction

    def update(self, returns: Tensor, mask: Tensor, layer: nn.Linear) -> None:
        """Update the statistics with the returns [T, N] whose `mask` is 1; `layer` is the critic's last."""


class Symlog(ValueScale):
    """sign(v) ln(1 + |v|) (Hafner et al. 2023)."""

    def encode(self, value: Tensor) -> Tensor:
        """symlog(value)."""
        return symlog(value)

    def decode(self, prediction: Tensor) -> Tensor:
        """symexp(prediction)."""
        return symexp(prediction)


class Rescale(ValueScale):
    """sign(v) (sqrt(1 + |v|) - 1) + 0.001 v (Pohlen et al. 2018)."""

    def encode(self, value: Tensor) -> Tensor:
        """h(value)."""
        return rescale(value)

    def decode(self, prediction: Tensor) -> Tensor:
        """The inverse of h."""
        return unrescale(prediction)


class Normalized(ValueScale):
    """Mean 0 and standard deviation 1 over all returns so far, as in rl_games' `normalize_value`.

    When the statistics change, the critic's last layer is adjusted so that decoded values stay the same (PopArt: van
    Hasselt et al. 2016, "Learning values across many orders of magnitude", section 2).
    """

    LEAST_STD = 1e-2

    def __init__(self) -> None:
        super().__init__()
        self.moments = RunningMeanStd()

    @property
    def mean(self) -> Tensor:
        """Mean of all returns so far."""
        return self.moments.mean

    @property
    def std(self) -> Tensor:
        """Standard deviation of all returns so far, at least LEAST_STD."""
        return self.moments.variance.sqrt().clamp(min=self.LEAST_STD)

    @property
    def unit(self) -> Tensor:
        """The standard deviation: advantages are normalised too (Hessel et al. 2019, PopArt-IMPALA)."""
        return self.std

    def encode(self, value: Tensor) -> Tensor:
        """(v - mean) / std."""
        return (value - self.mean) / self.std

    def decode(self, prediction: Tensor) -> Tensor:
        """prediction * std + mean."""
        return prediction * self.std + self.mean

    @torch.no_grad()
    def update(self, returns: Tensor, mask: Tensor, layer: nn.Linear) -> None:
        """Merge the returns into the statistics, and adjust the layer so that decoded values stay the same."""
        mean, std = self.mean.clone(), self.std
        self.moments.merge(returns[mask > 0])
        layer.weight.mul_(std / self.std)
        layer.bias.copy_((layer.bias * std + mean - self.mean) / self.std)


SCALES: dict[str, type[ValueScale]] = dict(
    zip(get_args(ValueScaleName), (ValueScale, Symlog, Rescale, Normalized), strict=True)
)

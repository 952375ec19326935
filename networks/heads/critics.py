"""An actor and critics that share nothing but the observation, as one network with one carry."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from networks.model import Model, Network


class CriticOutput(NamedTuple):
    """Action values of several critics."""

    q: Tensor
    """[..., C, A]"""


class ActorAndCriticsOutput(NamedTuple):
    """A categorical policy, and action values of several critics."""

    logits: Tensor
    """[..., A]"""
    q: Tensor
    """[..., C, A]"""


class Critics(Network):
    """Models with Q heads side by side, each with its own part of the carry."""

    def __init__(self, models: Sequence[Model]):
        super().__init__()
        self.models = nn.ModuleList(models)
        self.widths = [model.carry_dim for model in models]

    @property
    def carry_dim(self) -> int:
        """Width of all their memories."""
        return sum(self.widths)

    def forward(
        self, obs: Any, carry: Tensor, first: Tensor, noise: torch.Generator | None = None
    ) -> tuple[CriticOutput, Tensor]:
        """See `Network`; action values are [..., C, A]."""
        parts = carry.split(self.widths, dim=1)
        found = [model(obs, part, first, noise) for model, part in zip(self.models, parts, strict=True)]
        q = torch.stack([output.q for output, _ in found], dim=-2)
        return CriticOutput(q), torch.cat([part for _, part in found], dim=1)


class ActorAndCritics(Network):
    """Critics, an actor with a `PolicyHead`, and the logarithm of the temperature; the critics come first in the carry.

    No parameter is shared, so that one step down the sum of their losses is a step down each.
    """

    def __init__(self, critics: Critics, actor: Model, alpha: float):
        super().__init__()
        self.critics, self.actor = critics, actor
        self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))

    @property
    def carry_dim(self) -> int:
        """Width of all their memories."""
        return self.critics.carry_dim + self.actor.carry_dim

    def forward(
        self, obs: Any, carry: Tensor, first: Tensor, noise: torch.Generator | None = None
    ) -> tuple[ActorAndCriticsOutput, Tensor]:
        """See `Network`; logits are [..., A], action values [..., C, A]."""
        of_critics, of_actor = carry.split([self.critics.carry_dim, self.actor.carry_dim], dim=1)
        values, of_critics = self.critics(obs, of_critics, first, noise)
        policy, of_actor = self.actor(obs, of_actor, first, noise)
        return ActorAndCriticsOutput(policy.logits, values.q), torch.cat([of_critics, of_actor], dim=1)

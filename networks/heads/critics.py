"""Critics, and an actor with critics, as one network with one carry; no weights are shared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from networks.model import Model, Network


class CriticOutput(NamedTuple):
    """Action values of C critics."""

    q: Tensor
    """[..., C, A]"""


class ActorAndCriticsOutput(NamedTuple):
    """A categorical policy, and the action values of C critics."""

    logits: Tensor
    """[..., A]"""
    q: Tensor
    """[..., C, A]"""


class Critics(Network):
    """C models with Q heads, each with its own part of the carry."""

    def __init__(self, models: Sequence[Model]):
        super().__init__()
        self.models = nn.ModuleList(models)
        self.widths = [model.carry_dim for model in models]

    @property
    def carry_dim(self) -> int:
        """Sum of the widths of the models' carries; 0 when feed-forward."""
        return sum(self.widths)

    def forward(
        self, obs: Any, carry: Tensor, first: Tensor, noise: torch.Generator | None = None
    ) -> tuple[CriticOutput, Tensor]:
        """Evaluate each critic; shapes as in `Network`, action values [..., C, A]."""
        carries = carry.split(self.widths, dim=1)
        results = [model(obs, part, first, noise) for model, part in zip(self.models, carries, strict=True)]
        q = torch.stack([output.q for output, _ in results], dim=-2)
        return CriticOutput(q), torch.cat([part for _, part in results], dim=1)


class ActorAndCritics(Network):
    """Critics, an actor with a `PolicyHead`, and the log temperature; the critics' state comes first in the carry.

    No parameters are shared, so a gradient step on the sum of the losses is a step on each.
    """

    def __init__(self, critics: Critics, actor: Model, alpha: float):
        super().__init__()
        self.critics, self.actor = critics, actor
        self.log_alpha = nn.Parameter(torch.tensor(math.log(alpha)))

    @property
    def carry_dim(self) -> int:
        """Sum of the widths of the models' carries; 0 when feed-forward."""
        return self.critics.carry_dim + self.actor.carry_dim

    def forward(
        self, obs: Any, carry: Tensor, first: Tensor, noise: torch.Generator | None = None
    ) -> tuple[ActorAndCriticsOutput, Tensor]:
        """Evaluate critics and actor; shapes as in `Network`, logits [..., A], action values [..., C, A]."""
        critics_carry, actor_carry = carry.split([self.critics.carry_dim, self.actor.carry_dim], dim=1)
        values, critics_carry = self.critics(obs, critics_carry, first, noise)
        policy, actor_carry = self.actor(obs, actor_carry, first, noise)
        return ActorAndCriticsOutput(policy.logits, values.q), torch.cat([critics_carry, actor_carry], dim=1)

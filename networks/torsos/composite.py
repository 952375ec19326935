"""Torsos made of torsos: one for each key of a Dict observation, or one each for policy and value."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from networks.torsos.base import Torso
from networks.torsos.normalize import Normalize


class DictTorso(Torso):
    """One torso for each key of a Dict observation, their features concatenated."""

    def __init__(self, torsos: dict[str, Torso]):
        super().__init__()
        self.torsos = nn.ModuleDict(torsos)
        self.out_dim = sum(torso.out_dim for torso in torsos.values())

    def parts(self) -> dict[str, Torso]:
        """Return the torso of each key."""
        return dict(self.torsos.items())  # type: ignore[arg-type]

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """{key: [B, ...]} -> [B, out_dim]."""
        return torch.cat([torso(x[key]).float() for key, torso in self.torsos.items()], dim=1)


class FusedTorso(Torso):
    """Base of the torsos in networks/fusion.py, which condition the image features of a Dict on its other keys."""

    parts: DictTorso


class TwinTorso(Torso):
    """Two torsos of one shape side by side, so that policy and value share no weights (PPO on vectors)."""

    def __init__(self, policy: Torso, value: Torso):
        super().__init__()
        self.policy, self.value = policy, value
        self.out_dim = policy.out_dim + value.out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim], the policy's half first."""
        return torch.cat([self.policy(x), self.value(x)], dim=1)


def normalized_parts(torso: nn.Module, obs: Any) -> Iterator[tuple[Normalize, Any]]:
    """Yield each input normalisation of a torso with the part of `obs` that it normalises.

    `obs` is an array, or a dict of arrays for a torso over a Dict observation.
    """
    if isinstance(torso, DictTorso):
        for key, part in torso.torsos.items():
            yield from normalized_parts(part, obs[key])
    elif isinstance(torso, FusedTorso):
        yield from normalized_parts(torso.parts, obs)
    elif isinstance(torso, TwinTorso):
        for half in (torso.policy, torso.value):
            yield from normalized_parts(half, obs)
    elif isinstance(normalize := getattr(torso, "normalize", None), Normalize):
        yield normalize, obs

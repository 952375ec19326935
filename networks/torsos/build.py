"""Torsos: from one observation to a feature vector, with the input's normalisation inside; and their names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, TypeGuard

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.model import ACTION_MASK
from networks.tensors import each_text_once
from networks.torsos.base import PLAIN, Style, Torso
from networks.torsos.convnets import CONV_NETS, BagOfWords, ConvNet, ImpalaResNet
from networks.torsos.normalize import Normalize
from networks.torsos.sound import Spectrum, is_sound


class MLP(Torso):
    """Fully connected layers over a flat vector [B, D]."""

    def __init__(self, space: spaces.Box, style: Style = PLAIN):
        super().__init__()
        self.normalize = Normalize(space)
        widths = [int(np.prod(space.shape)), *style.hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers.append(nn.Linear(width_in, width_out))
            layers += [nn.LayerNorm(width_out)] if style.layer_norm else []
            layers.append(style.activation())
        self.layers = nn.Sequential(*layers)
        self.out_dim = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim]."""
        return self.layers(self.normalize(x).flatten(1))


class OneHot(Torso):
    """A Discrete or MultiDiscrete observation as one-hot vectors, then an MLP."""

    def __init__(self, sizes: Sequence[int], hidden: tuple[int, ...] = (64,)):
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)
        self.mlp = MLP(spaces.Box(0.0, 1.0, (sum(self.sizes),)), Style(hidden))
        self.out_dim = self.mlp.out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B] or [B, K] of category numbers -> [B, out_dim]."""
        columns = x.long().reshape(x.shape[0], -1).unbind(dim=1)
        one_hot = [F.one_hot(column, size) for column, size in zip(columns, self.sizes, strict=True)]
        return self.mlp(torch.cat(one_hot, dim=1))


class Tokens(Torso):
    """Token ids [B, L], 0 for padding, read by a GRU; gives its state after the last word."""

    def __init__(self, vocabulary_size: int, embedding: int = 32, out_dim: int = 128):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding, padding_idx=0)
        self.gru = nn.GRU(embedding, out_dim, batch_first=True)
        self.out_dim = out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, out_dim]."""
        return each_text_once(self._read, x)

    def _read(self, x: Tensor) -> Tensor:
        tokens = x.long()
        states, _ = self.gru(self.embedding(tokens))  # [B, L, out_dim]
        last = (tokens != 0).sum(dim=1).clamp(min=1) - 1
        return states[torch.arange(len(tokens), device=x.device), last]


class Flat(Torso):
    """The numbers as they are."""

    def __init__(self, space: spaces.Box):
        super().__init__()
        self.normalize = Normalize(space)
        self.out_dim = int(np.prod(space.shape))

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim]."""
        return self.normalize(x).flatten(1)


class DictTorso(Torso):
    """One torso per key of a Dict observation; their features side by side."""

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


class Fused(Torso):
    """Torsos whose features change each other; networks/fusion.py has the ways."""

    parts: DictTorso


class TwinTorso(Torso):
    """Two torsos of one shape side by side, so that policy and value share nothing (PPO on vectors)."""

    def __init__(self, policy: Torso, value: Torso):
        super().__init__()
        self.policy, self.value = policy, value
        self.out_dim = policy.out_dim + value.out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim], policy half first."""
        return torch.cat([self.policy(x), self.value(x)], dim=1)


def normalized_parts(torso: nn.Module, obs: Any) -> Iterator[tuple[Normalize, Any]]:
    """Yield every input normalisation of a torso, with the part of the observation that it reads."""
    if isinstance(torso, DictTorso):
        for key, part in torso.torsos.items():
            yield from normalized_parts(part, obs[key])
    elif isinstance(torso, Fused):
        yield from normalized_parts(torso.parts, obs)
    elif isinstance(torso, TwinTorso):
        for half in (torso.policy, torso.value):
            yield from normalized_parts(half, obs)
    elif isinstance(normalize := getattr(torso, "normalize", None), Normalize):
        yield normalize, obs


def torso_name(space: spaces.Space) -> str:
    """Return the torso that suits an observation space: what `auto` chooses."""
    if isinstance(space, spaces.Dict):
        return "dict"
    if is_sound(space):
        return "sound"
    if is_image(space):
        return "minatar" if min(space.shape[1:]) < 20 else "nature"
    if isinstance(space, spaces.MultiDiscrete) and len(set(space.nvec.tolist())) == 1 and len(space.nvec) > 8:
        return "tokens"
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return "one-hot"
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return "mlp"
    raise ValueError(f"no torso reads observations of the space {space}; wrap the environment to give arrays")


def _conv_net(
    space: spaces.Space, style: Style, layers: Sequence[tuple[int, int, int]], out_dim: int
) -> ConvNet | None:
    return ConvNet(space, layers, out_dim, style) if is_image(space) else None


def _impala(space: spaces.Space, style: Style) -> ImpalaResNet | None:
    return ImpalaResNet(space, style=style) if is_image(space) else None


def _impala_large(space: spaces.Space, style: Style) -> ImpalaResNet | None:
    return ImpalaResNet(space, (32, 64, 64), 512, style, pool=6, spectral=True) if is_image(space) else None


def _bag_of_words(space: spaces.Space, style: Style, embedded: bool = True) -> BagOfWords | None:
    return BagOfWords(space, 32, style=style, embedded=embedded) if is_image(space) else None


def _mlp(space: spaces.Space, style: Style) -> MLP | None:
    if isinstance(space, spaces.MultiBinary):
        space = spaces.Box(0, 1, space.shape, np.int8)
    return MLP(space, style) if isinstance(space, spaces.Box) else None


def _dict(space: spaces.Space, style: Style, name: str = "auto") -> DictTorso | None:
    """Build a torso for each part: the one called `name` for those that it reads, `auto` for the others."""
    if not isinstance(space, spaces.Dict):
        return None
    # what the agent did last is a few numbers beside features that are read from the game: they need no layer
    parts = {key: part for key, part in space.spaces.items() if key not in (*LAST_KEYS, ACTION_MASK)}
    named = {key: TORSOS[name](part, style) if name in TORSOS else None for key, part in parts.items()}
    if name != "auto" and not any(named.values()):
        return None
    torsos = {key: named[key] or build_torso(part, "auto", style) for key, part in parts.items()}
    torsos |= {key: build_torso(space[key], "flat", style) for key in LAST_KEYS if key in space.spaces}
    return DictTorso(torsos)


LAST_KEYS = ("last_action", "last_reward")
"""Parts of a Dict observation that hold what the agent did last."""

TORSOS: dict[str, Callable[[spaces.Space, Style], Torso | None]] = {
    "mlp": _mlp,
    **{name: partial(_conv_net, layers=layers, out_dim=out_dim) for name, layers, out_dim in CONV_NETS},
    "impala": _impala,
    "impala-large": _impala_large,
    "bow": _bag_of_words,
    "planes": partial(_bag_of_words, embedded=False),
    "sound": lambda space, style: Spectrum(space) if isinstance(space, spaces.Box) and is_sound(space) else None,
    "tokens": lambda space, style: Tokens(int(space.nvec[0])) if isinstance(space, spaces.MultiDiscrete) else None,
    "one-hot": lambda space, style: OneHot(categories(space)) if categories(space) else None,
    "flat": lambda space, style: Flat(space) if isinstance(space, spaces.Box) else None,
    "dict": _dict,
}
"""Name -> a function that builds the torso in a style, or gives None where the space is not for it."""


def build_torso(space: spaces.Space, name: str = "auto", style: Style = PLAIN) -> Torso:
    """Build the torso called `name` for `space`; raise ValueError where the two do not fit."""
    name = torso_name(space) if name == "auto" else name
    if isinstance(space, spaces.Dict) and name != "dict":
        torso: Torso | None = _dict(space, style, name)
    else:
        torso = TORSOS[name](space, style) if name in TORSOS else None
    if torso is None:
        problem = (
            "does not read observations of the space" if name in TORSOS else f"is none of {', '.join(TORSOS)}; for"
        )
        raise ValueError(f"the torso '{name}' {problem} {space}; --torso auto chooses one")
    return torso


def parts_of(space: spaces.Space) -> tuple[spaces.Space, ...]:
    """Return the parts of a Dict, or the space itself."""
    return tuple(space.spaces.values()) if isinstance(space, spaces.Dict) else (space,)


def observation_bytes(space: spaces.Space) -> int:
    """Return the size of one observation as an environment hands it out."""
    return sum(int(np.prod(part.shape or (1,))) * np.dtype(part.dtype).itemsize for part in parts_of(space))


def is_image(space: spaces.Space) -> TypeGuard[spaces.Box]:
    """Whether the space is of images [C, H, W]."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def categories(space: spaces.Space) -> list[int]:
    """Sizes of the category numbers that the space consists of; empty if it does not."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    return space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else []

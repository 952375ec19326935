"""Torsos by name, and the choice of one for an observation space."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from gymnasium import spaces

from networks.model import ACTION_MASK
from networks.observation_spaces import categories, is_image
from networks.torsos.base import PLAIN, Style, Torso
from networks.torsos.composite import DictTorso
from networks.torsos.convnets import CONV_NETS, BagOfWords, ConvNet, ImpalaResNet
from networks.torsos.sound import Spectrum, is_sound
from networks.torsos.tokens import Tokens
from networks.torsos.vectors import MLP, Flat, OneHot


def torso_name(space: spaces.Space) -> str:
    """Return the name of the torso that `auto` chooses; raise ValueError if no torso reads the space."""
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
    raise ValueError(f"no torso reads observations of the space {space}; wrap the environment to return arrays")


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
    """Build a torso for each key: the torso called `name` where it reads the part, `auto` elsewhere."""
    if not isinstance(space, spaces.Dict):
        return None
    # the last action and reward are a few numbers that need no layer before they join the other features
    parts = {key: part for key, part in space.spaces.items() if key not in (*LAST_KEYS, ACTION_MASK)}
    named = {key: TORSOS[name](part, style) if name in TORSOS else None for key, part in parts.items()}
    if name != "auto" and not any(named.values()):
        return None
    torsos = {key: named[key] or build_torso(part, "auto", style) for key, part in parts.items()}
    torsos |= {key: build_torso(space[key], "flat", style) for key in LAST_KEYS if key in space.spaces}
    return DictTorso(torsos)


LAST_KEYS = ("last_action", "last_reward")
"""Keys of a Dict observation that hold the last action and the last reward."""

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
"""Name -> a function that builds the torso for a space in a style, or returns None if it does not read the space."""


def build_torso(space: spaces.Space, name: str = "auto", style: Style = PLAIN) -> Torso:
    """Build the torso called `name` for `space`; on a Dict, for each key that it reads, and `auto` for the others.

    Raises ValueError if there is no such torso or it does not read the space.
    """
    name = torso_name(space) if name == "auto" else name
    if isinstance(space, spaces.Dict) and name != "dict":
        torso: Torso | None = _dict(space, style, name)
    else:
        torso = TORSOS[name](space, style) if name in TORSOS else None
    if torso is None and name not in TORSOS:
        raise ValueError(f"unknown torso '{name}'; use --torso auto or one of {', '.join(TORSOS)}")
    if torso is None:
        raise ValueError(f"the torso '{name}' does not read observations of the space {space}; use --torso auto")
    return torso

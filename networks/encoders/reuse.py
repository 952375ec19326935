"""Trained encoders inside an agent's network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders import store
from networks.encoders.base import Encoder, EncoderError
from networks.torsos.base import PLAIN, Style, Torso
from networks.torsos.build import build_torso
from networks.torsos.composite import DictTorso

PLAIN_KEY = "obs"
"""What an observation that is no Dict goes by."""


def features(encoder: Encoder, x: Tensor) -> Tensor:
    """Return an encoder's features [B, out_dim], each row with mean 0 and deviation 1 (Ba et al. 2016, no parameters).

    Cross-entropy makes features as large as it likes: those of Pong's memory are thirty times an untrained network's,
    and a policy gradient at its usual rate would throw a policy on top of them away within its first updates.
    """
    return F.layer_norm(encoder(x).float(), (encoder.out_dim,))


class Pretrained(Torso):
    """An encoder as a torso, whose weights go on learning with the agent; `restore` gives it the trained ones.

    What reads its features is what reads those of a frozen one, so that the two can be compared: layers in a `style`,
    or none.
    """

    def __init__(self, stored: store.Stored, style: Style | None = PLAIN):
        super().__init__()
        self.encoder = stored.encoder
        self.reader = read_features(spaces.Box(-np.inf, np.inf, (stored.encoder.out_dim,), np.float32), style)
        self.out_dim = self.reader.out_dim
        self.trained = {key: value.clone() for key, value in stored.encoder.state_dict().items()}

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim]."""
        return self.reader(features(self.encoder, x))

    def restore(self) -> None:
        """Take the trained weights, which an agent's own initialisation has drawn anew."""
        self.encoder.load_state_dict(self.trained)


def check_key(key: str, space: spaces.Space) -> spaces.Space:
    """Return the part of the observation that `key` is; raise EncoderError where there is none."""
    if isinstance(space, spaces.Dict):
        if key not in space.spaces:
            raise EncoderError(f"observations have the keys {', '.join(space.spaces)}; an encoder is given for '{key}'")
        return space[key]
    if key != PLAIN_KEY:
        raise EncoderError(f"the observation is one array, which goes by {PLAIN_KEY}; an encoder is given for '{key}'")
    return space


def load_for(key: str, path: Path, space: spaces.Space) -> store.Stored:
    """Read an encoder for a part of an observation; raise EncoderError where the two do not fit."""
    part = check_key(key, space)
    stored = store.load(path)
    store.check_fits(stored, key, part)
    return stored


def read_features(space: spaces.Space, style: Style | None) -> Torso:
    """Return what reads an encoder's features: layers in a style; nothing that changes them without one."""
    return build_torso(space, "flat") if style is None else build_torso(space, "auto", style)


def put_into(torso: Torso, key: str, part: Torso) -> Torso:
    """Return the torso with `part` in the place of what reads `key`."""
    return DictTorso({**torso.parts(), key: part}) if isinstance(torso, DictTorso) else part


def pretrained(module: nn.Module) -> Iterator[Pretrained]:
    """Yield every trained encoder inside a network."""
    return (part for part in module.modules() if isinstance(part, Pretrained))

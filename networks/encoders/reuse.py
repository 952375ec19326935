"""Trained encoders inside an agent's network."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from gymnasium import spaces
from torch import Tensor, nn

from networks.encoders import store
from networks.encoders.base import EncoderError
from networks.inputs import Torso
from networks.torsos import DictTorso

PLAIN_KEY = "obs"
"""What an observation that is no Dict goes by."""


class Pretrained(Torso):
    """An encoder as a torso, whose weights go on learning with the agent; `restore` gives it the trained ones."""

    def __init__(self, stored: store.Stored):
        super().__init__()
        self.encoder = stored.encoder
        self.out_dim = stored.encoder.out_dim
        self.trained = {key: value.clone() for key, value in stored.encoder.state_dict().items()}

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim]."""
        return self.encoder(x)

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


def put_into(torso: Torso, key: str, stored: store.Stored) -> Torso:
    """Return the torso with an encoder in the place of what reads `key`."""
    if isinstance(torso, DictTorso):
        return DictTorso({**torso.parts(), key: Pretrained(stored)})
    return Pretrained(stored)


def pretrained(module: nn.Module) -> Iterator[Pretrained]:
    """Yield every trained encoder inside a network."""
    return (part for part in module.modules() if isinstance(part, Pretrained))

"""Pretrained encoders inside an agent's network."""

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
"""Key of an observation that is not a Dict."""


def features(encoder: Encoder, x: Tensor) -> Tensor:
    """Return an encoder's features [B, out_dim], layer-normalised without parameters (Ba et al. 2016).

    Cross-entropy does not bound the scale of features: trained on Pong's RAM they are thirty times as large as an
    untrained network's, and a policy gradient at its usual learning rate would destroy the policy within a few updates.
    """
    return F.layer_norm(encoder(x).float(), (encoder.out_dim,))


class Pretrained(Torso):
    """An encoder as a trainable torso; `restore` loads the pretrained weights.

    The same reader (layers in a `style`, or none) follows frozen features, so that both modes are comparable.
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
        """Load the pretrained weights again, after the agent's initialisation has overwritten them."""
        self.encoder.load_state_dict(self.trained)


def check_key(key: str, space: spaces.Space) -> spaces.Space:
    """Return the space of the observation's part `key`; raise EncoderError if there is none."""
    if isinstance(space, spaces.Dict):
        if key not in space.spaces:
            raise EncoderError(
                f"observations have the keys {', '.join(space.spaces)}, but an encoder is given for '{key}'"
            )
        return space[key]
    if key != PLAIN_KEY:
        raise EncoderError(
            f"the observation is one array with the key {PLAIN_KEY}, but an encoder is given for '{key}'"
        )
    return space


def load_for(key: str, path: Path, space: spaces.Space) -> store.Stored:
    """Load an encoder for the observation's part `key`; raise EncoderError if it does not fit."""
    part = check_key(key, space)
    stored = store.load(path)
    store.check_fits(stored, key, part)
    return stored


def read_features(space: spaces.Space, style: Style | None) -> Torso:
    """Return the layers on top of an encoder's features: a torso in a style, or the identity without one."""
    return build_torso(space, "flat") if style is None else build_torso(space, "auto", style)


def put_into(torso: Torso, key: str, part: Torso) -> Torso:
    """Return the torso with `part` in place of its torso for `key`."""
    return DictTorso({**torso.parts(), key: part}) if isinstance(torso, DictTorso) else part


def pretrained(module: nn.Module) -> Iterator[Pretrained]:
    """Yield every pretrained encoder inside a network."""
    return (part for part in module.modules() if isinstance(part, Pretrained))

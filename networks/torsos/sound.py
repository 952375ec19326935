"""A torso for the sound of a console: raw samples in, features of its spectrum out."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.torsos.base import Torso

SILENCE: Final = 128
"""Of unsigned bytes, as the ALE gives sound."""
LEAST: Final = 512
"""Bytes from which on a vector is taken for sound: a frame's."""


class Spectrum(Torso):
    """Samples uint8 [B, L] -> short-time spectrum, log(1 + magnitude), two convolutions, a layer.

    As "CASL" (Omidshafiei et al. 2018) and later agents do for the Arcade Learning Environment, on the samples of all
    frames of a step instead of the last one's.
    """

    WINDOW = 256
    window: Tensor

    def __init__(self, space: spaces.Box, width: int = 16, out_dim: int = 128):
        super().__init__()
        if not is_sound(space):
            raise ValueError(f"sound is uint8 [samples], at least {LEAST} of them, not {space}")
        self.register_buffer("window", torch.hann_window(self.WINDOW))
        moments, bands = 1 + space.shape[0] // (self.WINDOW // 2), 1 + self.WINDOW // 2
        self.convs = nn.ModuleList([nn.Conv2d(1, width, 3, 2, 1), nn.Conv2d(width, 2 * width, 3, 2, 1)])
        for _ in self.convs:
            moments, bands = (moments + 1) // 2, (bands + 1) // 2
        self.fc = nn.Linear(2 * width * moments * bands, out_dim)
        self.out_dim = out_dim

    def spectrum(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, moments, bands]; silence is 0."""
        with torch.autocast(x.device.type, enabled=False):
            wave = (x.float() - SILENCE) / SILENCE
            bands = torch.stft(wave, self.WINDOW, self.WINDOW // 2, window=self.window, return_complex=True)
            return bands.abs().log1p().transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, out_dim]."""
        picture = self.spectrum(x)[:, None]
        for conv in self.convs:
            picture = F.relu(conv(picture))
        return F.relu(self.fc(picture.flatten(1)))


def is_sound(space: spaces.Space) -> bool:
    """Whether a space is of the samples of a console's sound."""
    return (
        isinstance(space, spaces.Box) and space.dtype == np.uint8
        and len(space.shape) == 1 and space.shape[0] >= LEAST
    )  # fmt: skip

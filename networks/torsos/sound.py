"""A torso for the sound of a game console: a spectrogram and two convolutions."""

from __future__ import annotations

from typing import Final

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.torsos.base import Torso

SILENCE: Final = 128
"""Value of a silent sample, as the ALE encodes sound in unsigned bytes."""
MIN_SAMPLES: Final = 512
"""Shortest uint8 vector that is taken for sound: the samples of one emulator frame."""


class Spectrum(Torso):
    """Samples uint8 [B, L] -> log(1 + magnitude) of the short-time spectrum, two convolutions, one layer.

    Similar to CASL (Omidshafiei et al. 2018) and later agents for the Arcade Learning Environment, but on the samples
    of all frames of a step rather than only the last frame.
    """

    WINDOW = 256
    window: Tensor

    def __init__(self, space: spaces.Box, width: int = 16, out_dim: int = 128):
        super().__init__()
        if not is_sound(space):
            raise ValueError(f"sound is uint8 [samples] with at least {MIN_SAMPLES} samples, not {space}")
        self.register_buffer("window", torch.hann_window(self.WINDOW))
        times, bands = 1 + space.shape[0] // (self.WINDOW // 2), 1 + self.WINDOW // 2
        self.convs = nn.ModuleList([nn.Conv2d(1, width, 3, 2, 1), nn.Conv2d(width, 2 * width, 3, 2, 1)])
        for _ in self.convs:
            times, bands = (times + 1) // 2, (bands + 1) // 2
        self.fc = nn.Linear(2 * width * times * bands, out_dim)
        self.out_dim = out_dim

    def spectrum(self, x: Tensor) -> Tensor:
        """Return the log spectrogram: [B, L] -> [B, times, bands]; silence is 0."""
        with torch.autocast(x.device.type, enabled=False):
            wave = (x.float() - SILENCE) / SILENCE
            bands = torch.stft(wave, self.WINDOW, self.WINDOW // 2, window=self.window, return_complex=True)
            return bands.abs().log1p().transpose(1, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, out_dim]."""
        features = self.spectrum(x)[:, None]
        for conv in self.convs:
            features = F.relu(conv(features))
        return F.relu(self.fc(features.flatten(1)))


def is_sound(space: spaces.Space) -> bool:
    """Return whether the space holds the samples of a console's sound."""
    return (
        isinstance(space, spaces.Box) and space.dtype == np.uint8
        and len(space.shape) == 1 and space.shape[0] >= MIN_SAMPLES
    )  # fmt: skip

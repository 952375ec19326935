"""Encoders for sound: waveforms [N] at a fixed rate, int16 or uint8, zero-padded at the end.

Log-mel spectrograms feed a small CNN for spoken commands, or a CRNN for connectionist temporal classification (Graves
et al. 2006) with convolutions before a recurrent network as in Deep Speech 2 (Amodei et al. 2016, section 3).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.base import Encoder, EncoderError, attention_pool, masked_mean, packed_gru, register
from networks.torsos.sound import Spectrum, is_sound


class LogMel(nn.Module):
    """Waveforms [B, N] -> log-mel energies [B, T, mels] at 100 frames per second, and the mask of frames [B, T].

    Each recording is normalised by the mean and deviation of its own frames, so that loudness has no influence.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, space: spaces.Space, sample_rate: int, mels: int = 40):
        super().__init__()
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise EncoderError(f"a sound encoder takes waveforms [samples], not {space}")
        self.hop, self.size = sample_rate // 100, 2 ** math.ceil(math.log2(sample_rate / 40))
        unsigned = space.dtype == np.uint8
        self.zero, self.scale = (128.0, 128.0) if unsigned else (0.0, 32768.0 if space.dtype == np.int16 else 1.0)
        self.register_buffer("window", torch.hann_window(self.size))
        self.register_buffer("filters", mel_filters(mels, self.size, sample_rate))
        self.spec_augment = False
        """Whether training masks random spans of time and frequency (SpecAugment without warping, Park et al. 2019)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return energies and mask; see the class."""
        inside = (x != 0).flip(1).cummax(dim=1).values.flip(1)  # up to the last nonzero sample
        length = inside.sum(dim=1)
        wave = ((x.float() - self.zero) / self.scale) * inside
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.stft(
                wave, self.size, self.hop, window=self.window, center=True, pad_mode="constant", return_complex=True
            )
            energy = (self.filters @ spectrum.abs().square()).add(1e-6).log().transpose(1, 2)  # [B, T, mels]
        frames = torch.arange(energy.shape[1], device=x.device)
        mask = frames[None] <= (length // self.hop)[:, None]
        weights = mask[:, :, None].float()
        count = weights.sum(dim=1, keepdim=True).clamp(min=1.0)
        mean = (energy * weights).sum(dim=1, keepdim=True) / count
        variance = ((energy - mean).square() * weights).sum(dim=1, keepdim=True) / count
        energy = (energy - mean) / (variance.mean(dim=2, keepdim=True).sqrt() + 1e-3) * weights
        return self._mask_spans(energy) if self.training and self.spec_augment else energy, mask

    def _mask_spans(self, energy: Tensor) -> Tensor:
        """Mask two bands of up to 1/8 of the mels and two spans of up to 0.2 s in each recording."""
        batch, frames, mels = energy.shape
        keep = torch.ones_like(energy, dtype=torch.bool)
        for axis, count, limit in ((2, mels, mels // 8), (2, mels, mels // 8), (1, frames, 20), (1, frames, 20)):
            width = torch.randint(0, limit + 1, (batch, 1), device=energy.device)
            begin = (torch.rand(batch, 1, device=energy.device) * (count - width)).long()
            index = torch.arange(count, device=energy.device)[None]
            masked = (index >= begin) & (index < begin + width)
            keep &= ~(masked[:, None, :] if axis == 2 else masked[:, :, None])
        return energy * keep


def mel_filters(mels: int, size: int, sample_rate: int) -> Tensor:
    """Return triangular filters [mels, size / 2 + 1] of equal area, equally spaced on the mel scale."""

    def to_hertz(mel: np.ndarray) -> np.ndarray:
        return 700.0 * (10.0 ** (mel / 2595.0) - 1.0)

    top = 2595.0 * math.log10(1.0 + sample_rate / 2 / 700.0)
    edges = to_hertz(np.linspace(0.0, top, mels + 2))
    bins = np.linspace(0.0, sample_rate / 2, size // 2 + 1)
    rising = (bins[None] - edges[:-2, None]) / np.maximum(edges[1:-1] - edges[:-2], 1e-9)[:, None]
    falling = (edges[2:, None] - bins[None]) / np.maximum(edges[2:] - edges[1:-1], 1e-9)[:, None]
    triangles = np.maximum(0.0, np.minimum(rising, falling)) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return torch.from_numpy(triangles.astype(np.float32))


class SoundEncoder(Encoder):
    """Base of speech encoders: log-mel frames, strided convolutions, pooling over valid frames."""

    modality = "audio"
    convs: nn.ModuleList
    norms: nn.ModuleList

    def __init__(self, space: spaces.Space, sample_rate: int, mels: int):
        super().__init__()
        self.log_mel = LogMel(space, sample_rate, mels)

    def steps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return convolutional features of each frame [B, T, D], and the mask of frames [B, T]."""
        energy, mask = self.log_mel(x)
        picture = energy[:, None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            mask = mask[:, ::2]
            picture = F.relu(norm(conv(picture).movedim(1, -1)).movedim(-1, 1))
            picture = picture * mask[:, None, :, None]  # the features do not depend on the padding
        return picture.transpose(1, 2).flatten(2), mask

    def forward(self, x: Tensor) -> Tensor:
        """[B, N] -> [B, out_dim]."""
        return self.pool(*self.tokens(x))

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return mean and maximum over the valid frames, [B, 2 D]."""
        maximum = tokens.masked_fill(~mask[:, :, None], -1e4).amax(dim=1).clamp(min=-1e3)
        return torch.cat([masked_mean(tokens, mask), maximum], dim=1)


@register("logmel-cnn", "audio")
class LogMelCNN(SoundEncoder):
    """Strided convolutions over time and frequency, mean and maximum over time: for commands of about a second."""

    def __init__(
        self, space: spaces.Space, sample_rate: int = 16_000, mels: int = 40, width: int = 32, out_dim: int = 128
    ):
        super().__init__(space, sample_rate, mels)
        widths = (1, width, 2 * width, 2 * width)
        self.convs = nn.ModuleList(nn.Conv2d(a, b, 3, (2, 2), 1) for a, b in pairwise(widths))
        self.norms = nn.ModuleList(nn.LayerNorm(channels) for channels in widths[1:])
        rows = mels
        for _ in self.convs:
            rows = (rows + 1) // 2
        self.fc = nn.Sequential(nn.Linear(2 * width * rows, out_dim), nn.ReLU())
        self.token_dim, self.out_dim = out_dim, 2 * out_dim

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of each 80 ms."""
        steps, mask = self.steps(x)
        return self.fc(steps), mask

    def layer_groups(self) -> list[nn.Module]:
        """Return each convolution, then the linear layer."""
        return [*self.convs, self.fc]


@register("crnn", "audio")
class CRNN(SoundEncoder):
    """Two strided convolutions and a bidirectional GRU: features of each 40 ms, for speech to text."""

    def __init__(
        self, space: spaces.Space, sample_rate: int = 16_000, mels: int = 40, width: int = 32, hidden: int = 128
    ):
        super().__init__(space, sample_rate, mels)
        self.convs = nn.ModuleList([nn.Conv2d(1, width, 3, 2, 1), nn.Conv2d(width, width, 3, 2, 1)])
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in self.convs)
        rows = ((mels + 1) // 2 + 1) // 2
        self.fc = nn.Linear(width * rows, hidden)
        self.gru = nn.GRU(hidden, hidden, batch_first=True, bidirectional=True)
        self.token_dim, self.out_dim = 2 * hidden, 4 * hidden

    def frames(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return convolutional features of each 40 ms, [B, T, hidden], and their mask [B, T]."""
        steps, mask = self.steps(x)
        return F.relu(self.fc(steps)), mask

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the GRU states of each 40 ms."""
        frames, mask = self.frames(x)
        return packed_gru(self.gru, frames, mask), mask

    def layer_groups(self) -> list[nn.Module]:
        """Return the convolutions, then the recurrent layers."""
        return [*self.convs, self.fc, self.gru]


@register("crnn-attention", "audio")
class CRNNAttention(CRNN):
    """Learned queries that attend to local sound features (within 0.3 s), or to nothing.

    The audio counterpart of `word-attention`: attention scores come from the GRU, values from a narrow convolution, so
    that "red" has the same features before "ball" and before "box".
    """

    def __init__(
        self,
        space: spaces.Space,
        sample_rate: int = 16_000,
        mels: int = 40,
        width: int = 32,
        hidden: int = 128,
        questions: int = 32,
        answer: int = 16,
    ):
        super().__init__(space, sample_rate, mels, width, hidden)
        self.score = nn.Linear(self.token_dim, questions)
        self.answers = nn.Conv1d(hidden, answer, 7, padding=3)
        self.parts = (self.token_dim, answer)
        self.token_dim, self.out_dim = sum(self.parts), questions * answer

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return for each 40 ms the GRU states and the local features, concatenated."""
        frames, mask = self.frames(x)
        local = self.answers((frames * mask[:, :, None]).transpose(1, 2))
        return torch.cat([packed_gru(self.gru, frames, mask), torch.tanh(local).transpose(1, 2)], dim=2), mask

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the result of each query, concatenated."""
        states, local = tokens.split(self.parts, dim=2)
        return attention_pool(self.score(states), mask, local).flatten(1)

    def layer_groups(self) -> list[nn.Module]:
        """Return the convolutions, the recurrent layers, and the attention with its values."""
        return [*super().layer_groups(), nn.ModuleList([self.score, self.answers])]


@register("console", "audio")
class ConsoleSound(Encoder):
    """The agents' torso for the sound of a game console (networks/torsos/sound.py)."""

    modality = "audio"

    def __init__(self, space: spaces.Space, width: int = 16, out_dim: int = 128):
        super().__init__()
        if not isinstance(space, spaces.Box) or not is_sound(space):
            raise EncoderError(f"the architecture 'console' takes sound uint8 [samples], not {space}")
        self.torso = Spectrum(space, width, out_dim)
        self.out_dim = out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, out_dim]."""
        return self.torso(x)

    def layer_groups(self) -> list[nn.Module]:
        """Return the convolutions, then the last layer."""
        return [*self.torso.convs, self.torso.fc]

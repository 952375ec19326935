"""Encoders of sound: waveforms [N] at a fixed rate, int16 or uint8 as sound cards have them, 0 behind the end.

Log-mel spectrograms with Slaney's mel scale. Commands: a small convolutional network in the manner of BC-ResNet's
baselines. CRNN for connectionist temporal classification: Graves et al. 2006; convolutions before a recurrent network
as in Deep Speech 2 (Amodei et al. 2016, section 3).
"""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.base import Encoder, EncoderError, attention_pool, real_mean, recurrent, register
from networks.torsos.sound import Spectrum, is_sound


class LogMel(nn.Module):
    """Waveforms [B, N] -> log energies [B, T, mels], 100 a second, and which of them are before the end, bool [B, T].

    Energies of a recording are normalised by the mean and deviation of its own moments, so that loudness plays no part.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, space: spaces.Space, sample_rate: int, mels: int = 40):
        super().__init__()
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise EncoderError(f"an encoder of sound reads waveforms [samples], not {space}")
        self.hop, self.size = sample_rate // 100, 2 ** math.ceil(math.log2(sample_rate / 40))
        unsigned = space.dtype == np.uint8
        self.zero, self.scale = (128.0, 128.0) if unsigned else (0.0, 32768.0 if space.dtype == np.int16 else 1.0)
        self.register_buffer("window", torch.hann_window(self.size))
        self.register_buffer("filters", mel_filters(mels, self.size, sample_rate))
        self.spec_augment = False
        """Whether stretches of time and bands of pitch are blanked in training (Park et al. 2019, without warping)."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """See the class."""
        real = (x != 0).flip(1).cummax(dim=1).values.flip(1)  # up to the last sample that is not 0
        length = real.sum(dim=1)
        wave = ((x.float() - self.zero) / self.scale) * real
        with torch.autocast(x.device.type, enabled=False):
            spectrum = torch.stft(
                wave, self.size, self.hop, window=self.window, center=True, pad_mode="constant", return_complex=True
            )
            energy = (self.filters @ spectrum.abs().square()).add(1e-6).log().transpose(1, 2)  # [B, T, mels]
        moments = torch.arange(energy.shape[1], device=x.device)
        kept = moments[None] <= (length // self.hop)[:, None]
        share = kept[:, :, None].float()
        count = share.sum(dim=1, keepdim=True).clamp(min=1.0)
        mean = (energy * share).sum(dim=1, keepdim=True) / count
        variance = ((energy - mean).square() * share).sum(dim=1, keepdim=True) / count
        energy = (energy - mean) / (variance.mean(dim=2, keepdim=True).sqrt() + 1e-3) * share
        return self._blanked(energy) if self.training and self.spec_augment else energy, kept

    def _blanked(self, energy: Tensor) -> Tensor:
        """Blank two bands of up to an 8th of the pitches, and two stretches of up to 0.2 s, in each recording."""
        batch, frames, mels = energy.shape
        keep = torch.ones_like(energy, dtype=torch.bool)
        for axis, count, most in ((2, mels, mels // 8), (2, mels, mels // 8), (1, frames, 20), (1, frames, 20)):
            width = torch.randint(0, most + 1, (batch, 1), device=energy.device)
            begin = (torch.rand(batch, 1, device=energy.device) * (count - width)).long()
            place = torch.arange(count, device=energy.device)[None]
            lost = (place >= begin) & (place < begin + width)
            keep &= ~(lost[:, None, :] if axis == 2 else lost[:, :, None])
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
    """Log-mel energies inside, and features of moments that are pooled over those before the end."""

    modality = "audio"
    convs: nn.ModuleList
    norms: nn.ModuleList

    def __init__(self, space: spaces.Space, sample_rate: int, mels: int):
        super().__init__()
        self.log_mel = LogMel(space, sample_rate, mels)

    def steps(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the convolutions make of each moment, [B, T, D], and which are before the end."""
        energy, kept = self.log_mel(x)
        picture = energy[:, None]
        for conv, norm in zip(self.convs, self.norms, strict=True):
            kept = kept[:, ::2]
            picture = masked(F.relu(norm(conv(picture).movedim(1, -1)).movedim(-1, 1)), kept)
        return picture.transpose(1, 2).flatten(2), kept

    def forward(self, x: Tensor) -> Tensor:
        """[B, N] -> [B, out_dim]."""
        return self.pool(*self.tokens(x))

    def pool(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Return mean and maximum over the moments that are real, [B, 2 D]."""
        most = tokens.masked_fill(~real[:, :, None], -1e4).amax(dim=1).clamp(min=-1e3)
        return torch.cat([real_mean(tokens, real), most], dim=1)


def masked(picture: Tensor, kept: Tensor) -> Tensor:
    """Blank what lies behind the end, so that a recording's features do not depend on its padding."""
    return picture * kept[:, None, :, None]


@register("logmel-cnn", "audio")
class LogMelCNN(SoundEncoder):
    """Convolutions over time and frequency, halved twice, and the mean over time: for commands of a second or so."""

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
        """Return features of each 80 ms."""
        steps, kept = self.steps(x)
        return self.fc(steps), kept

    def layer_groups(self) -> list[nn.Module]:
        """Return each convolution, then the last layer."""
        return [*self.convs, self.fc]


@register("crnn", "audio")
class CRNN(SoundEncoder):
    """Two strided convolutions and a GRU in both directions: features of each 40 ms, as speech-to-text wants them."""

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

    def moments(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what the convolutions and a layer make of each 40 ms, [B, T, hidden], and which are before the end."""
        steps, kept = self.steps(x)
        return F.relu(self.fc(steps)), kept

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of each 40 ms."""
        moments, kept = self.moments(x)
        return recurrent(self.gru, moments, kept), kept

    def layer_groups(self) -> list[nn.Module]:
        """Return the convolutions, then the recurrent layers."""
        return [*self.convs, self.fc, self.gru]


@register("crnn-attention", "audio")
class CRNNAttention(CRNN):
    """Learned questions to a CRNN, each answered by what sounds within 0.3 s of a moment, or by nothing.

    As the text encoder `word-attention`: states say when the answer is heard, and the answer itself is of that stretch
    alone, so that "red" is the same before "ball" as before "box". The mean and maximum of states are codes of whole
    recordings.
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
        """Return features of each 40 ms, and what sounds around it."""
        moments, kept = self.moments(x)
        heard = self.answers((moments * kept[:, :, None]).transpose(1, 2))
        return torch.cat([recurrent(self.gru, moments, kept), torch.tanh(heard).transpose(1, 2)], dim=2), kept

    def pool(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the answers, side by side."""
        states, heard = tokens.split(self.parts, dim=2)
        return attention_pool(self.score(states), real, heard).flatten(1)

    def layer_groups(self) -> list[nn.Module]:
        """Return the convolutions, the recurrent layers, the questions with their answers."""
        return [*super().layer_groups(), nn.ModuleList([self.score, self.answers])]


@register("console", "audio")
class ConsoleSound(Encoder):
    """The agents' torso for a console's sound (networks/torsos/sound.py) as an encoder."""

    modality = "audio"

    def __init__(self, space: spaces.Space, width: int = 16, out_dim: int = 128):
        super().__init__()
        if not isinstance(space, spaces.Box) or not is_sound(space):
            raise EncoderError(f"the architecture 'console' reads sound uint8 [samples], not {space}")
        self.torso = Spectrum(space, width, out_dim)
        self.out_dim = out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, out_dim]."""
        return self.torso(x)

    def layer_groups(self) -> list[nn.Module]:
        """Return the convolutions, then the last layer."""
        return [*self.torso.convs, self.torso.fc]

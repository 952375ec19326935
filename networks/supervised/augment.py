"""Data augmentation: random shifts, cutout, noise and word dropout, drawn again for every batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.audio import LogMel
from networks.supervised.data import DataError

Augment = Callable[[Tensor, torch.Generator], Tensor]


def random_shift(x: Tensor, generator: torch.Generator, share: float = 0.05) -> Tensor:
    """Shift each image [B, C, H, W] by up to `share` of its side, replicating the border (Yarats et al. 2021)."""
    pad = max(1, round(share * x.shape[-1]))
    padded = F.pad(x.float(), (pad, pad, pad, pad), mode="replicate").to(x.dtype)
    offsets = torch.randint(0, 2 * pad + 1, (len(x), 2), generator=generator).tolist()
    height, width = x.shape[-2:]
    return torch.stack([image[:, r : r + height, c : c + width] for image, (r, c) in zip(padded, offsets, strict=True)])


def cutout(x: Tensor, generator: torch.Generator, share: float = 0.25) -> Tensor:
    """Zero a random square, `share` of the side long, in each image (DeVries & Taylor 2017)."""
    x, side = x.clone(), max(1, round(share * x.shape[-1]))
    corners = torch.randint(0, max(1, x.shape[-1] - side + 1), (len(x), 2), generator=generator).tolist()
    for image, (row, column) in zip(x, corners, strict=True):
        image[:, row : row + side, column : column + side] = 0
    return x


def add_noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Add Gaussian noise: to pixels, with up to a tenth of their range; to sound, 5 to 30 dB below its power."""
    if x.dim() == 4:
        amount = 25.5 * torch.rand(len(x), 1, 1, 1, generator=generator)
        return (x.float() + amount * torch.randn(x.shape, generator=generator)).clamp(0, 255).to(x.dtype)
    wave = x.float()
    inside = x != 0
    power = (wave.square().sum(dim=1) / inside.sum(dim=1).clamp(min=1)).sqrt()[:, None]
    amount = power * 10 ** (-(5 + 25 * torch.rand(len(x), 1, generator=generator)) / 20)
    noisy = wave + amount * torch.randn(x.shape, generator=generator) * inside
    return noisy.clamp(-32767, 32767).to(x.dtype)


def word_dropout(x: Tensor, generator: torch.Generator, share: float = 0.1) -> Tensor:
    """Replace a share of the word ids [B, L] by the unknown word (Bowman et al. 2016)."""
    dropped = (torch.rand(x.shape, generator=generator) < share) & (x > 1)
    return x.masked_fill(dropped, 1)


AUGMENTS: dict[str, tuple[tuple[str, ...], Augment]] = {
    "shift": (("image",), random_shift),
    "cutout": (("image",), cutout),
    "noise": (("image", "audio"), add_noise),
    "words": (("text",), word_dropout),
}
"""Name -> modalities and function."""


def make_augmentation(names: Sequence[str], modality: str, encoder: nn.Module) -> Augment | None:
    """Return the named augmentations in sequence; `specaug` is enabled inside a sound encoder instead."""
    functions = []
    for name in names:
        if name == "specaug" and modality == "audio":
            for module in encoder.modules():
                if isinstance(module, LogMel):
                    module.spec_augment = True
            continue
        if name not in AUGMENTS or modality not in AUGMENTS[name][0]:
            available = [each for each, (kinds, _) in AUGMENTS.items() if modality in kinds]
            available += ["specaug"] if modality == "audio" else []
            raise DataError(
                f"there is no augmentation '{name}' for {modality}; available: {', '.join(available) or 'none'}"
            )
        functions.append(AUGMENTS[name][1])

    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        for function in functions:
            x = function(x, generator)
        return x

    return apply if functions else None

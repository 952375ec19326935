"""Examples made harder for the learner: shifts, blanks and noise, drawn anew each time one is seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.audio import LogMel
from networks.supervised.data import DataError

Augment = Callable[[Tensor, torch.Generator], Tensor]


def shift(x: Tensor, generator: torch.Generator, share: float = 0.05) -> Tensor:
    """Move each image [B, C, H, W] by up to a 20th of its side, its border repeated (Yarats et al. 2021)."""
    pad = max(1, round(share * x.shape[-1]))
    padded = F.pad(x.float(), (pad, pad, pad, pad), mode="replicate").to(x.dtype)
    offsets = torch.randint(0, 2 * pad + 1, (len(x), 2), generator=generator).tolist()
    height, width = x.shape[-2:]
    return torch.stack([image[:, r : r + height, c : c + width] for image, (r, c) in zip(padded, offsets, strict=True)])


def cutout(x: Tensor, generator: torch.Generator, share: float = 0.25) -> Tensor:
    """Blank a square of a quarter of the side in each image (DeVries & Taylor 2017)."""
    x, side = x.clone(), max(1, round(share * x.shape[-1]))
    corners = torch.randint(0, max(1, x.shape[-1] - side + 1), (len(x), 2), generator=generator).tolist()
    for image, (row, column) in zip(x, corners, strict=True):
        image[:, row : row + side, column : column + side] = 0
    return x


def noise(x: Tensor, generator: torch.Generator) -> Tensor:
    """Add normal noise: up to a tenth of the range of pixels, 5 to 30 dB below a recording's power."""
    if x.dim() == 4:
        amount = 25.5 * torch.rand(len(x), 1, 1, 1, generator=generator)
        return (x.float() + amount * torch.randn(x.shape, generator=generator)).clamp(0, 255).to(x.dtype)
    wave = x.float()
    heard = x != 0
    power = (wave.square().sum(dim=1) / heard.sum(dim=1).clamp(min=1)).sqrt()[:, None]
    amount = power * 10 ** (-(5 + 25 * torch.rand(len(x), 1, generator=generator)) / 20)
    noisy = wave + amount * torch.randn(x.shape, generator=generator) * heard
    return noisy.clamp(-32767, 32767).to(x.dtype)


def word_dropout(x: Tensor, generator: torch.Generator, share: float = 0.1) -> Tensor:
    """Replace a tenth of the words [B, L] by the unknown word (Bowman et al. 2016)."""
    lost = (torch.rand(x.shape, generator=generator) < share) & (x > 1)
    return x.masked_fill(lost, 1)


AUGMENTS: dict[str, tuple[tuple[str, ...], Augment]] = {
    "shift": (("image",), shift),
    "cutout": (("image",), cutout),
    "noise": (("image", "audio"), noise),
    "words": (("text",), word_dropout),
}
"""Name -> the modalities that it is for, and what it does."""


def augmentation(names: Sequence[str], modality: str, encoder: nn.Module) -> Augment | None:
    """Return all of them one after the other; `specaug` is switched on inside the encoder of sound."""
    found = []
    for name in names:
        if name == "specaug" and modality == "audio":
            for module in encoder.modules():
                if isinstance(module, LogMel):
                    module.spec_augment = True
            continue
        if name not in AUGMENTS or modality not in AUGMENTS[name][0]:
            fitting = [each for each, (kinds, _) in AUGMENTS.items() if modality in kinds]
            fitting += ["specaug"] if modality == "audio" else []
            raise DataError(f"there is no augmentation '{name}' of {modality}; there is {', '.join(fitting) or 'none'}")
        found.append(AUGMENTS[name][1])

    def apply(x: Tensor, generator: torch.Generator) -> Tensor:
        for each in found:
            x = each(x, generator)
        return x

    return apply if found else None

"""Image augmentation for learning from little data (DrQ, Kostrikov et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from agents.interface import Sequences, Transitions
from networks.model import map_tree


def random_shift(x: Tensor, pad: int, rng: torch.Generator) -> Tensor:
    """Shift images [..., B, C, H, W] by up to `pad` pixels, one shift for each of the B; borders are repeated.

    Pad and random crop of DrQ (Kostrikov et al. 2021, section 3.1).
    """
    lead, (batch, channels, height, width) = x.shape[:-4], x.shape[-4:]
    pixels = x.reshape(-1, batch, channels, height, width).movedim(2, -1)  # [K, B, H, W, C], the order in memory
    shift = torch.randint(-pad, pad + 1, (2, batch, 1), generator=rng, device=x.device)
    rows = (torch.arange(height, device=x.device) + shift[0]).clamp(0, height - 1)  # [B, H]
    columns = (torch.arange(width, device=x.device) + shift[1]).clamp(0, width - 1)  # [B, W]
    image = height * width * torch.arange(batch, device=x.device)[:, None, None]
    source = (image + width * rows[:, :, None] + columns[:, None, :]).flatten()
    # copies whole pixels: several times faster than single numbers
    moved = pixels.reshape(len(pixels), batch * height * width, channels).index_select(1, source)
    return moved.view(*lead, batch, height, width, channels).movedim(-1, -3)


def random_intensity(x: Tensor, scale: float, rng: torch.Generator) -> Tensor:
    """Multiply each image of [..., B, C, H, W] by 1 + scale * noise, a unit Gaussian clipped to [-2, 2].

    Laskin et al. 2020; used by DrQ(eps). One factor for each of the B.
    """
    noise = torch.randn(x.shape[-4], 1, 1, 1, generator=rng, device=x.device).clamp(-2.0, 2.0)
    return x.float() * (1.0 + scale * noise)


SMALLEST = 36
"""Shortest side of an image that may be shifted by 4 pixels."""


def can_shift(shape: Sequence[int]) -> bool:
    """Whether an array of this shape is an image [C, H, W] that is large enough to be shifted."""
    return len(shape) == 3 and min(shape[1:]) >= SMALLEST


def augment(obs: Any, lead: int, rng: torch.Generator) -> Any:
    """Shift images by up to 4 pixels and change their intensity by about 5 %; other arrays, also of a dict, stay.

    An image has three dimensions after `lead` others (1 for [B, C, H, W], 2 for [L, B, C, H, W]) and sides of at least
    `SMALLEST` pixels: a shift would change the meaning of smaller ones, such as the view of a grid.
    """

    def change(x: Tensor) -> Tensor:
        return random_intensity(random_shift(x, 4, rng), 0.05, rng) if can_shift(x.shape[lead:]) else x

    return map_tree(change, obs)


def augment_batch(batch: Transitions | Sequences, rng: torch.Generator) -> Transitions | Sequences:
    """Return the minibatch with augmented images; all rows of a sequence are changed alike."""
    if isinstance(batch, Sequences):
        return batch._replace(obs=augment(batch.obs, 2, rng))
    return batch._replace(obs=augment(batch.obs, 1, rng), next_obs=augment(batch.next_obs, 1, rng))

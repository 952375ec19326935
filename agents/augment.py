"""Random changes to images that leave their meaning as it is, for learning from little data."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from networks.model import map_tree


def random_shift(x: Tensor, pad: int, rng: torch.Generator) -> Tensor:
    """Shift each image by up to `pad` pixels, its border repeated; [..., B, C, H, W], one shift for each of the B.

    DrQ's pad and random crop (Kostrikov et al. 2021, section 3.1).
    """
    lead, (batch, channels, height, width) = x.shape[:-4], x.shape[-4:]
    pixels = x.reshape(-1, batch, channels, height, width).movedim(2, -1)  # [K, B, H, W, C], as they lie in memory
    shift = torch.randint(-pad, pad + 1, (2, batch, 1), generator=rng, device=x.device)
    rows = (torch.arange(height, device=x.device) + shift[0]).clamp(0, height - 1)  # [B, H]
    columns = (torch.arange(width, device=x.device) + shift[1]).clamp(0, width - 1)  # [B, W]
    image = height * width * torch.arange(batch, device=x.device)[:, None, None]
    source = (image + width * rows[:, :, None] + columns[:, None, :]).flatten()
    # whole pixels are copied: several times faster than numbers one by one
    moved = pixels.reshape(len(pixels), batch * height * width, channels).index_select(1, source)
    return moved.view(*lead, batch, height, width, channels).movedim(-1, -3)


def random_intensity(x: Tensor, scale: float, rng: torch.Generator) -> Tensor:
    """Multiply each image by 1 + scale * noise, a unit Gaussian cut at 2 (Laskin et al. 2020; DrQ(eps))."""
    noise = torch.randn(x.shape[-4], 1, 1, 1, generator=rng, device=x.device).clamp(-2.0, 2.0)
    return x.float() * (1.0 + scale * noise)


SMALLEST = 36
"""Side of an image that bears a shift by 4 pixels."""


def is_picture(shape: Sequence[int]) -> bool:
    """Whether an array of this shape is an image [C, H, W] that can be shifted."""
    return len(shape) == 3 and min(shape[1:]) >= SMALLEST


def augment(obs: Any, lead: int, rng: torch.Generator) -> Any:
    """Shift images by up to 4 pixels and change their intensity by about 5 %, in a dict too; leave the rest as it is.

    An image has three dimensions after `lead` others (1 for [B, C, H, W], 2 for [L, B, C, H, W]) and sides of at least
    `SMALLEST` pixels: what is smaller, such as the view of a grid, would mean something else.
    """

    def change(x: Tensor) -> Tensor:
        return random_intensity(random_shift(x, 4, rng), 0.05, rng) if is_picture(x.shape[lead:]) else x

    return map_tree(change, obs)

"""Tensors as networks read them: images with their channels last in memory, texts without repetition or padding.

Convolutions read the channels of a pixel side by side, but environments return planes. Converting inside every forward
pass costs a fifth of a training step on a CPU, so it happens once, when an array becomes a tensor. Shapes stay
[..., C, H, W]; only the strides change.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor


def to_tensor(array: np.ndarray, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """Return the array as a tensor of the same shape; uint8 images [..., C, H, W] have channels last in memory."""
    if array.dtype != np.uint8 or array.ndim < 4:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)
    import cv2  # only for images: it takes a tenth of a second to load

    *lead, channels, height, width = array.shape
    planes = np.ascontiguousarray(array).reshape(-1, channels, height, width)
    pixels = np.empty((len(planes), height, width, channels), np.uint8)
    for image, out in zip(planes, pixels, strict=True):
        cv2.merge(list(image), out)  # vectorised, unlike a strided copy
    return torch.from_numpy(pixels.reshape(*lead, height, width, channels)).movedim(-1, -3).to(device, dtype)


def take_columns(x: Tensor, index: Tensor) -> Tensor:
    """Return x[:, index] of x [L, M, ...], keeping the memory layout of images [L, M, C, H, W]."""
    if x.dim() == 5:
        return x.movedim(2, 4).index_select(1, index).movedim(4, 2)
    return x.index_select(1, index)


def map_unique_rows(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return `function(x)` [B, ...] for token ids `x` [B, L], computed once for each distinct row.

    A mission stays the same for a whole episode, so a batch repeats few texts. On a GPU every row is computed, because
    finding the distinct ones would wait for the device.
    """
    if x.device.type != "cpu":
        return function(x)
    texts, inverse = torch.unique(x, dim=0, return_inverse=True)
    return function(trim_padding(texts))[inverse]


def trim_padding(x: Tensor) -> Tensor:
    """Return token ids [B, L] without the last columns that are padding (0) in every row; at least one remains."""
    used = torch.nonzero((x != 0).any(dim=0))
    return x[:, : int(used[-1]) + 1 if len(used) else 1]

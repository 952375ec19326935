"""Images in memory: convolutions want the channels of a pixel side by side, environments give planes.

Turning planes around inside every forward pass costs a fifth of a training step on a CPU, so it is done once, when an
array becomes a tensor. Shapes stay [..., C, H, W]; only the strides say where the bytes are.
"""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor


def to_tensor(array: np.ndarray, device: torch.device | str, dtype: torch.dtype | None = None) -> Tensor:
    """Return the array as a tensor; uint8 images [..., C, H, W] with their channels last in memory."""
    if array.dtype != np.uint8 or array.ndim < 4:
        return torch.from_numpy(np.ascontiguousarray(array)).to(device, dtype)
    *lead, channels, height, width = array.shape
    planes = np.ascontiguousarray(array).reshape(-1, channels, height, width)
    pixels = np.empty((len(planes), height, width, channels), np.uint8)
    for image, out in zip(planes, pixels, strict=True):
        cv2.merge(list(image), out)  # vectorised, unlike a strided copy
    return torch.from_numpy(pixels.reshape(*lead, height, width, channels)).movedim(-1, -3).to(device, dtype)


def take_columns(x: Tensor, index: Tensor) -> Tensor:
    """Return x[:, index] of [L, M, ...], with the layout of images kept."""
    if x.dim() == 5:
        return x.movedim(2, 4).index_select(1, index).movedim(4, 2)
    return x.index_select(1, index)


def each_text_once(read: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Apply `read` to the different rows of token ids [B, L] only, up to their last word; return [B, ...].

    A mission stays the same for a whole episode. On a GPU the number of texts would have to be waited for.
    """
    if x.device.type != "cpu":
        return read(x)
    texts, which = torch.unique(x, dim=0, return_inverse=True)
    return read(trimmed(texts))[which]


def trimmed(x: Tensor) -> Tensor:
    """Return token ids [B, L] without the columns behind the last word of all."""
    used = torch.nonzero((x != 0).any(dim=0))
    return x[:, : int(used[-1]) + 1 if len(used) else 1]

"""Input normalisation, as a module of the network so that its statistics are saved with the weights."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from networks.running_mean_std import RunningMeanStd


class Normalize(nn.Module):
    """(x - mean) * inverse_std, elementwise.

    At first, pixels and counts are divided by their upper bound and real numbers are left alone. `fit` sets mean and
    standard deviation from samples once; `update` maintains running statistics, and from then on normalised values are
    clipped to [-BOUND, BOUND].
    """

    BOUND = 10.0
    mean: Tensor
    inverse_std: Tensor

    def __init__(self, space: spaces.Box):
        super().__init__()
        # integers have a range to divide by (255 for a frame, 1 for a binary plane); real numbers have none
        integral = np.issubdtype(space.dtype, np.integer) or space.dtype == np.bool_
        scale = float(np.max(space.high)) if integral and np.all(np.isfinite(space.high)) else 1.0
        self.register_buffer("mean", torch.zeros(space.shape))
        self.register_buffer("inverse_std", torch.full(space.shape, 1.0 / max(scale, 1.0)))
        self.moments = RunningMeanStd(space.shape)
        self.register_load_state_dict_post_hook(lambda module, keys: module._refresh())
        self._refresh()

    def fit(self, samples: Tensor, per_channel: bool = False) -> None:
        """Set mean and standard deviation per element from `samples` [B, ...].

        The deviation of a pixel is at least the average over pixels, since many pixels hardly ever change. With
        `per_channel`, all pixels of a channel of images [B, C, H, W] share one mean and deviation.
        """
        samples = samples.to(self.mean.device, torch.float32)
        axes = (0, 2, 3) if per_channel else (0,)
        std = samples.std(dim=axes, keepdim=True)[0].expand(self.mean.shape)
        self.mean.copy_(samples.mean(dim=axes, keepdim=True)[0].expand(self.mean.shape))
        floor = max(std.mean().item(), 1e-3) if std.dim() == 3 else 1e-3
        self.inverse_std.copy_(1.0 / torch.clamp(std, min=floor))
        self._refresh()

    def update(self, samples: Tensor) -> None:
        """Merge `samples` [B, ...] into the running statistics, and normalise by them.

        The deviation of a pixel is at least the average over pixels, and of any other number at least 0.01.
        """
        self.moments.merge(samples.to(self.mean.device))
        std = self.moments.variance.sqrt()
        floor = std.mean().clamp(min=1e-2) if std.dim() == 3 else torch.tensor(1e-2, device=std.device)
        self.mean.copy_(self.moments.mean)
        self.inverse_std.copy_(1.0 / torch.maximum(std, floor))
        self._refresh()

    def _refresh(self) -> None:
        """Check whether one factor is enough, which saves a pass over each batch, and whether to clip."""
        first = self.inverse_std.flatten()[0].item()
        self.factor = first if not self.mean.any() and bool((self.inverse_std == first).all()) else None
        self.clips = bool(self.moments.count > 0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] of any dtype -> the same shape, in float32; images [B, C, H, W] in autocast's dtype, if it is on."""
        if x.dim() != 4:  # vectors of unknown scale: normalise in float32 before autocast rounds them
            x = x.to(torch.float32, copy=True)
            return (
                x.mul_(self.factor) if self.factor is not None else self._clip(x.sub_(self.mean).mul_(self.inverse_std))
            )
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        x = x.to(dtype, copy=True).contiguous(memory_format=torch.channels_last)
        if self.factor is not None:
            return x.mul_(self.factor)
        mean, inverse_std = (
            buffer.to(dtype)[None].contiguous(memory_format=torch.channels_last)
            for buffer in (self.mean, self.inverse_std)
        )
        return self._clip(x.sub_(mean).mul_(inverse_std))

    def _clip(self, x: Tensor) -> Tensor:
        return x.clamp_(-self.BOUND, self.BOUND) if self.clips else x

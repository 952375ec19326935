"""Input normalisation: part of the model, so that a policy never travels without it."""

from __future__ import annotations

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from networks.running_mean_std import RunningMeanStd


class Normalize(nn.Module):
    """(x - mean) * inverse_std, elementwise; part of the model, so a policy never travels without it.

    Divides by the range where there is one; or takes mean and standard deviation from samples (`fit`), and goes on
    learning them (`update`), when what is further than `BOUND` deviations away is cut.
    """

    BOUND = 10.0
    mean: Tensor
    inverse_std: Tensor

    def __init__(self, space: spaces.Box):
        super().__init__()
        # Counts and pixels have a range to divide by (255 for a frame, 1 for a binary plane); other vectors have none.
        integral = np.issubdtype(space.dtype, np.integer) or space.dtype == np.bool_
        scale = float(np.max(space.high)) if integral and np.all(np.isfinite(space.high)) else 1.0
        self.register_buffer("mean", torch.zeros(space.shape))
        self.register_buffer("inverse_std", torch.full(space.shape, 1.0 / max(scale, 1.0)))
        self.moments = RunningMeanStd(space.shape)
        self.register_load_state_dict_post_hook(lambda module, keys: module._look())
        self._look()

    def fit(self, samples: Tensor, per_channel: bool = False) -> None:
        """Take mean and std per element from `samples` [B, ...]; the std of pixels is floored at its average.

        With `per_channel` all pixels of a channel of images [B, C, H, W] have them in common.
        """
        samples = samples.to(self.mean.device, torch.float32)
        over = (0, 2, 3) if per_channel else (0,)
        std = samples.std(dim=over, keepdim=True)[0].expand(self.mean.shape)
        self.mean.copy_(samples.mean(dim=over, keepdim=True)[0].expand(self.mean.shape))
        floor = max(std.mean().item(), 1e-3) if std.dim() == 3 else 1e-3
        self.inverse_std.copy_(1.0 / torch.clamp(std, min=floor))
        self._look()

    def update(self, samples: Tensor) -> None:
        """Normalise by mean and std of all that was ever followed, `samples` [B, ...] among it.

        The std of pixels is floored at its average, as many hardly ever change; that of other numbers at 0.01.
        """
        self.moments.merge(samples.to(self.mean.device))
        std = self.moments.variance.sqrt()
        floor = std.mean().clamp(min=1e-2) if std.dim() == 3 else torch.tensor(1e-2, device=std.device)
        self.mean.copy_(self.moments.mean)
        self.inverse_std.copy_(1.0 / torch.maximum(std, floor))
        self._look()

    def _look(self) -> None:
        """Note whether one factor is all there is to it, which spares a pass over every batch, and whether to cut."""
        first = self.inverse_std.flatten()[0].item()
        self.factor = first if not self.mean.any() and bool((self.inverse_std == first).all()) else None
        self.bounded = bool(self.moments.count > 0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] of any type -> the same shape, float32 or what autocast works in."""
        if x.dim() != 4:  # few numbers, whose scale is not known: rounded only once they are normalised
            x = x.to(torch.float32, copy=True)
            return (
                x.mul_(self.factor) if self.factor is not None else self._cut(x.sub_(self.mean).mul_(self.inverse_std))
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
        return self._cut(x.sub_(mean).mul_(inverse_std))

    def _cut(self, x: Tensor) -> Tensor:
        return x.clamp_(-self.BOUND, self.BOUND) if self.bounded else x

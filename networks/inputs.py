"""What all torsos build on: their style, and the normalisation of what they read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from networks.moments import Moments


@dataclass(frozen=True)
class Style:
    """How a torso is built, whatever it reads."""

    hidden: tuple[int, ...] = (64, 64)
    """Widths of an mlp's layers."""
    activation: type[nn.Module] = nn.Tanh
    """Of an mlp."""
    layer_norm: bool = False
    """Normalise after each layer, over the channels of each pixel or the units of the layer."""
    flat: bool = False
    """End with the last convolution, for a head that has hidden layers of its own."""


PLAIN = Style()
"""As in the papers that the torsos come from."""


class Torso(nn.Module):
    """Any module from an observation to features [B, out_dim]."""

    out_dim: int


class PictureTorso(Torso):
    """Convolutions down to a last picture, and what makes features of all of it."""

    normalize: Normalize
    picture_dim: int
    """Channels of the last picture."""

    def picture(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> the last picture [B, picture_dim, h, w]."""
        raise NotImplementedError

    def top(self, picture: Tensor) -> Tensor:
        """Return the features of a last picture, [B, out_dim]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_dim]."""
        return self.top(self.picture(x))


class Normalize(nn.Module):
    """(x - mean) * inverse_std, elementwise; part of the model, so a policy never travels without it.

    Divides by the range where there is one; or takes mean and standard deviation from samples (`center`), and goes on
    learning them (`follow`), when what is further than `BOUND` deviations away is cut.
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
        self.moments = Moments(space.shape)
        self.register_load_state_dict_post_hook(lambda module, keys: module._look())
        self._look()

    def center(self, samples: Tensor, per_channel: bool = False) -> None:
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

    def follow(self, samples: Tensor) -> None:
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

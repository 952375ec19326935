"""Shared bases of torsos: their style, and those that end in a last picture."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from networks.torsos.normalize import Normalize


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

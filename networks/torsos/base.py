"""Base classes of torsos, and the style that every torso is built in."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from networks.torsos.normalize import Normalize


@dataclass(frozen=True)
class Style:
    """Options that any torso is built with; each torso uses those that apply to it."""

    hidden: tuple[int, ...] = (64, 64)
    """Layer widths of an MLP."""
    activation: type[nn.Module] = nn.Tanh
    """Activation of an MLP."""
    layer_norm: bool = False
    """Normalise after each layer, over the channels of each pixel or the units of the layer."""
    flat: bool = False
    """Stop after the last convolution, for a head with hidden layers of its own."""


PLAIN = Style()
"""The style of the papers that the torsos come from."""


class Torso(nn.Module):
    """Any module from an observation to features [B, out_dim]."""

    out_dim: int


class SpatialTorso(Torso):
    """Convolutions down to a feature map, then layers that turn the whole map into features."""

    normalize: Normalize
    map_channels: int
    """Channels of the feature map."""

    def feature_map(self, x: Tensor) -> Tensor:
        """Compute the last feature map: [B, C, H, W] -> [B, map_channels, h, w]."""
        raise NotImplementedError

    def top(self, feature_map: Tensor) -> Tensor:
        """Apply the layers above the feature map: [B, map_channels, h, w] -> [B, out_dim]."""
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_dim]."""
        return self.top(self.feature_map(x))

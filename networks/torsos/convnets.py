"""Convolutional torsos: from images [B, C, H, W] to features.

Nature CNN: Mnih et al. 2015 (Methods, "Model architecture"). IMPALA ResNet: Espeholt et al. 2018 (figure 3, right);
"impala-large" is the variant in BTR (Clark et al. 2024, section 3): twice as wide, spectrally normalised, pooled to
6x6. MinAtar: Young & Tian 2019 (section 4). Data-efficient: van Hasselt et al. 2019 (appendix). Bag of words: Hui et
al. 2020, "BabyAI 1.1" (section 3).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

from networks.torsos.base import PLAIN, SpatialTorso, Style
from networks.torsos.normalize import Normalize

CONV_NETS = (
    ("nature", ((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
    ("pong-small", ((16, 4, 2), (32, 4, 2), (32, 3, 1)), 256),
    ("data-efficient", ((32, 5, 5), (64, 5, 5)), 256),
    ("minatar", ((16, 3, 1),), 128),
)
"""Name, convolutions as (channels, kernel, stride), width of the fully connected layer."""
HEAVY = ("nature", "impala", "impala-large", "pong-small", "data-efficient")
"""Torsos whose convolutions run faster on several threads."""


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel (flax's default, which PQN's code uses)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class ConvNet(SpatialTorso):
    """Convolutions with ReLU, then one fully connected layer unless `style.flat`.

    Raises ValueError for images that are too small for the convolutions.
    """

    def __init__(
        self, space: spaces.Box, layers: Sequence[tuple[int, int, int]], out_dim: int = 512, style: Style = PLAIN
    ):
        super().__init__()
        self.normalize = Normalize(space)
        channels, height, width = space.shape
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for out_channels, kernel, stride in layers:
            self.convs.append(nn.Conv2d(channels, out_channels, kernel, stride))
            self.norms.append(ChannelNorm(out_channels) if style.layer_norm else nn.Identity())
            channels, height, width = out_channels, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        self.map_channels = channels
        if height < 1 or width < 1:
            raise ValueError(f"an image of {space.shape[1]}x{space.shape[2]} is too small for these convolutions")
        self.fc = _last_layer(channels * height * width, out_dim, style)
        self.out_dim = channels * height * width if style.flat else out_dim

    def feature_map(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, map_channels, h, w]."""
        x = self.normalize(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        return x

    def top(self, feature_map: Tensor) -> Tensor:
        """[B, map_channels, h, w] -> [B, out_dim]."""
        return self.fc(feature_map.flatten(1))


class BagOfWords(SpatialTorso):
    """Embed each cell of a grid as the sum of its words' embeddings, then two convolutions and a layer over all cells.

    Observations are binary planes [P, H, W], one for each word: object type, colour, state. The embedded grid is the
    feature map that fusion conditions on the mission; Hui et al. 2020 (section 3) put two convolutions before it, which
    makes cloning BabyAI's bot need several times as many games. With `embedded=False` the feature map is the planes
    themselves.
    """

    def __init__(
        self, space: spaces.Box, width: int = 128, out_dim: int = 128, style: Style = PLAIN, embedded: bool = True
    ):
        super().__init__()
        self.normalize = Normalize(space)
        planes, height, size = space.shape
        self.words = nn.Conv2d(planes, width, 1, bias=False) if embedded else nn.Identity()
        self.map_channels = width if embedded else planes
        channels = (self.map_channels, width, width)
        self.convs = nn.ModuleList(nn.Conv2d(*pair, 3, padding=1) for pair in pairwise(channels))
        self.fc = _last_layer(width * height * size, out_dim, style)
        self.out_dim = width * height * size if style.flat else out_dim

    def feature_map(self, x: Tensor) -> Tensor:
        """[B, P, H, W] -> [B, map_channels, H, W]."""
        return self.words(self.normalize(x))

    def top(self, feature_map: Tensor) -> Tensor:
        """[B, map_channels, h, w] -> [B, out_dim]."""
        for conv in self.convs:
            feature_map = F.relu(conv(feature_map))
        return self.fc(feature_map.flatten(1))


def _last_layer(in_dim: int, out_dim: int, style: Style) -> nn.Module:
    """Return the fully connected layer after the convolutions; the identity if `style.flat`."""
    if style.flat:
        return nn.Identity()
    norm = [nn.LayerNorm(out_dim)] if style.layer_norm else []
    return nn.Sequential(nn.Linear(in_dim, out_dim), *norm, nn.ReLU())


class ResidualBlock(nn.Module):
    """x + conv(ReLU(conv(ReLU(x)))); `spectral` divides each kernel by its largest singular value."""

    def __init__(self, channels: int, style: Style = PLAIN, spectral: bool = False):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = (ChannelNorm(channels) if style.layer_norm else nn.Identity() for _ in range(2))
        if spectral:
            spectral_norm(self.conv1)
            spectral_norm(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(F.relu(x))))))


class ImpalaResNet(SpatialTorso):
    """Three sections, each a convolution, a max-pool and two residual blocks; then one fully connected layer.

    `pool` max-pools the feature map to `pool` x `pool` (BTR: 6; 0 for none); `spectral` normalises the blocks.
    """

    def __init__(
        self, space: spaces.Box, channels: Sequence[int] = (16, 32, 32), out_dim: int = 256, style: Style = PLAIN,
        pool: int = 0, spectral: bool = False,
    ):  # fmt: skip
        super().__init__()
        self.normalize = Normalize(space)
        layers: list[nn.Module] = []
        width_in, height, width = space.shape
        for width_out in channels:
            layers.append(nn.Conv2d(width_in, width_out, 3, padding=1))
            layers += [ChannelNorm(width_out)] if style.layer_norm else []
            layers.append(nn.MaxPool2d(3, stride=2, padding=1))
            layers += [ResidualBlock(width_out, style, spectral) for _ in range(2)]
            width_in, height, width = width_out, math.ceil(height / 2), math.ceil(width / 2)
        layers.append(nn.ReLU())
        if pool:
            layers.append(nn.AdaptiveMaxPool2d(pool))
            height = width = pool
        self.layers = nn.Sequential(*layers)
        self.map_channels = width_in
        self.fc = _last_layer(width_in * height * width, out_dim, style)
        self.out_dim = width_in * height * width if style.flat else out_dim

    def feature_map(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, map_channels, h, w]."""
        return self.layers(self.normalize(x))

    def top(self, feature_map: Tensor) -> Tensor:
        """[B, map_channels, h, w] -> [B, out_dim]."""
        return self.fc(feature_map.flatten(1))

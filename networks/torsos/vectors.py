"""Torsos for vectors and category numbers."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.torsos.base import PLAIN, Style, Torso
from networks.torsos.normalize import Normalize


class MLP(Torso):
    """Fully connected layers over the flattened observation."""

    def __init__(self, space: spaces.Box, style: Style = PLAIN):
        super().__init__()
        self.normalize = Normalize(space)
        widths = [int(np.prod(space.shape)), *style.hidden]
        layers: list[nn.Module] = []
        for width_in, width_out in pairwise(widths):
            layers.append(nn.Linear(width_in, width_out))
            layers += [nn.LayerNorm(width_out)] if style.layer_norm else []
            layers.append(style.activation())
        self.layers = nn.Sequential(*layers)
        self.out_dim = widths[-1]

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim]."""
        return self.layers(self.normalize(x).flatten(1))


class OneHot(Torso):
    """A Discrete or MultiDiscrete observation as one-hot vectors, then an MLP."""

    def __init__(self, sizes: Sequence[int], hidden: tuple[int, ...] = (64,)):
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)
        self.mlp = MLP(spaces.Box(0.0, 1.0, (sum(self.sizes),)), Style(hidden))
        self.out_dim = self.mlp.out_dim

    def forward(self, x: Tensor) -> Tensor:
        """Category numbers [B] or [B, K] -> [B, out_dim]."""
        columns = x.long().reshape(x.shape[0], -1).unbind(dim=1)
        one_hot = [F.one_hot(column, size) for column, size in zip(columns, self.sizes, strict=True)]
        return self.mlp(torch.cat(one_hot, dim=1))


class Flat(Torso):
    """The flattened, normalised observation, without any layer."""

    def __init__(self, space: spaces.Box):
        super().__init__()
        self.normalize = Normalize(space)
        self.out_dim = int(np.prod(space.shape))

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim]."""
        return self.normalize(x).flatten(1)

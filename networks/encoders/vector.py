"""Encoder for vectors with missing values."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from networks.encoders.base import Encoder, EncoderError, register
from networks.torsos.normalize import Normalize


@register("mlp", "vector")
class VectorMLP(Encoder):
    """MLP over the values and a mask of missing ones (NaN), which are replaced by the mean."""

    modality = "vector"

    def __init__(self, space: spaces.Space, hidden: int = 64, out_dim: int = 64):
        super().__init__()
        if not isinstance(space, spaces.Box):
            raise EncoderError(f"the architecture 'mlp' takes vectors, not {space}")
        self.normalize = Normalize(space)
        widths = (2 * int(np.prod(space.shape)), hidden, out_dim)
        self.layers = nn.ModuleList(nn.Sequential(nn.Linear(a, b), nn.ReLU()) for a, b in pairwise(widths))
        self.out_dim = out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim]."""
        x = x.float()
        missing = torch.isnan(x)
        x = self.normalize(torch.where(missing, self.normalize.mean, x))
        x = torch.cat([x.flatten(1), missing.flatten(1).float()], dim=1)
        for layer in self.layers:
            x = layer(x)
        return x

    def layer_groups(self) -> list[nn.Module]:
        """Return the layers."""
        return list(self.layers)

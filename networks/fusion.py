"""Fusion of a Dict observation's image with its other keys, such as a mission.

Concatenated features cannot change each other's meaning before a linear head: "the red one" would favour an action
whatever the image shows. Each method here conditions the image features on the other features.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.reuse import Pretrained
from networks.observation_spaces import is_image
from networks.torsos.base import SpatialTorso, Torso
from networks.torsos.composite import DictTorso, FusedTorso


class FiLMBlock(nn.Module):
    """A residual block with a convolution that the condition scales and shifts (Perez et al. 2018, figure 3)."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.narrow, self.conv = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[B, C, H, W], [B, condition] -> [B, C, H, W]."""
        x = F.relu(self.narrow(x))
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        return x + F.relu(self.conv(x) * (1.0 + scale) + shift)


class SpatialFiLM(nn.Module):
    """FiLM blocks between a torso's feature map and its top (BabyAI 1.1: Hui et al. 2020, section 3)."""

    def __init__(self, torso: SpatialTorso, condition: int, blocks: int = 2):
        super().__init__()
        self.modulated = nn.ModuleList(FiLMBlock(torso.map_channels, condition) for _ in range(blocks))
        self.out_dim = torso.out_dim

    def forward(self, torso: SpatialTorso, x: Tensor, condition: Tensor) -> Tensor:
        """Images [B, C, H, W], condition [B, D] -> [B, out_dim]."""
        feature_map = torso.feature_map(x)
        for block in self.modulated:
            feature_map = block(feature_map, condition)
        return torso.top(feature_map)


class FeatureFiLM(nn.Module):
    """FiLM on a feature vector, then one layer; for torsos without a feature map, as on a frozen encoder."""

    def __init__(self, torso: Torso, condition: int, width: int = 128):
        super().__init__()
        self.film, self.mix = nn.Linear(condition, 2 * torso.out_dim), nn.Linear(torso.out_dim, width)
        self.out_dim = width

    def forward(self, torso: Torso, x: Tensor, condition: Tensor) -> Tensor:
        """Observations [B, ...], condition [B, D] -> [B, out_dim]."""
        scale, shift = self.film(condition).chunk(2, dim=1)
        return F.relu(self.mix(torso(x).float() * (1.0 + scale) + shift))


class ConditionedKernels(nn.Module):
    """Convolve the feature map with 1x1 kernels computed from the condition (Misra et al. 2018, section 4).

    Each kernel is a softmax over the input channels, and only the convolved map goes on to the torso's top. A kernel
    with negative weights learns that "blue" never goes with a key, which holds in training and fails on pairs of words
    met later; FiLM can dedicate a unit to a pair, too. Meant for maps whose channels each have a meaning, as in the
    `planes` torso. Kernels start out different from each other; the condition is layer-normalised, and its
    influence is small at first (`scale` / sqrt(D)).
    """

    def __init__(self, torso: SpatialTorso, condition: int, scale: float = 4.0):
        super().__init__()
        self.kernels = nn.Linear(condition, torso.map_channels**2)
        self.base = nn.Parameter(torch.randn(torso.map_channels**2))
        self.scale = scale / condition**0.5
        self.out_dim = torso.out_dim

    def forward(self, torso: SpatialTorso, x: Tensor, condition: Tensor) -> Tensor:
        """Images [B, C, H, W], condition [B, D] -> [B, out_dim]."""
        feature_map = torso.feature_map(x)
        channels = feature_map.shape[1]
        scores = self.base + self.scale * self.kernels(F.layer_norm(condition, condition.shape[1:]))
        kernels = scores.view(-1, channels, channels).softmax(dim=2)
        return torso.top(torch.bmm(kernels, feature_map.flatten(2)).view_as(feature_map))


class SpatialAttention(nn.Module):
    """Attend to the feature map's positions with queries from the condition (Vaswani et al. 2017, section 3.2).

    The attended values are concatenated to the torso's own features.
    """

    def __init__(self, torso: SpatialTorso, condition: int, heads: int = 4, width: int = 32):
        super().__init__()
        self.heads, self.width = heads, width
        self.query = nn.Linear(condition, heads * width)
        self.key, self.value = (nn.Conv2d(torso.map_channels + 2, heads * width, 1) for _ in range(2))
        self.out_dim = torso.out_dim + heads * width

    def forward(self, torso: SpatialTorso, x: Tensor, condition: Tensor) -> Tensor:
        """Images [B, C, H, W], condition [B, D] -> [B, out_dim]."""
        feature_map = torso.feature_map(x)
        batch, _, height, width = feature_map.shape
        rows, columns = (
            torch.linspace(-1, 1, count, device=x.device, dtype=feature_map.dtype) for count in (height, width)
        )
        positions = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(batch, -1, -1, -1)
        inputs = torch.cat([feature_map, positions], dim=1)
        key, value = (layer(inputs).view(batch, self.heads, self.width, -1) for layer in (self.key, self.value))
        query = self.query(condition).view(batch, self.heads, self.width, 1)
        weights = ((query * key).sum(dim=2, keepdim=True) / self.width**0.5).softmax(dim=3)
        return torch.cat([torso.top(feature_map), (weights * value).sum(dim=3).flatten(1)], dim=1)


class Fusion(FusedTorso):
    """Condition each image of a Dict on the features of all other keys, and concatenate these features as well.

    `methods` maps each image's key to its module.
    """

    def __init__(self, torso: DictTorso, methods: dict[str, nn.Module]):
        super().__init__()
        self.parts, self.ways = torso, nn.ModuleDict(methods)  # both are names in checkpoints
        condition = sum(part.out_dim for key, part in torso.parts().items() if key not in methods)
        self.out_dim = sum(method.out_dim for method in methods.values()) + condition  # type: ignore[misc]

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """{key: [B, ...]} -> [B, out_dim]."""
        parts = self.parts.parts()
        condition = torch.cat([part(x[key]).float() for key, part in parts.items() if key not in self.ways], dim=1)
        images = [method(_unwrap(parts[key]), x[key], condition).float() for key, method in self.ways.items()]
        return torch.cat([*images, condition], dim=1)


def _film(torso: Torso, condition: int) -> nn.Module:
    if isinstance(torso, SpatialTorso):
        return SpatialFiLM(torso, condition)
    return FeatureFiLM(torso, condition)


def _spatial(name: str, build: Callable[[SpatialTorso, int], nn.Module], torso: Torso, condition: int) -> nn.Module:
    if not isinstance(torso, SpatialTorso):
        raise ValueError(f"--fusion {name} needs an image's feature map, but the input is a feature vector; use film")
    return build(torso, condition)


METHODS: dict[str, Callable[[Torso, int], nn.Module]] = {
    "film": _film,
    "kernels": partial(_spatial, "kernels", ConditionedKernels),
    "attention": partial(_spatial, "attention", SpatialAttention),
}
"""Name -> a function that builds the module for an image's torso and the width of its condition."""
LINEAR = frozenset({"kernels"})
"""Methods that read an encoder's features with no layer between; a layer would learn a code for each pair of words."""


def _unwrap(torso: Torso) -> Torso:
    return torso.encoder if isinstance(torso, Pretrained) else torso


def fuse(torso: Torso, space: spaces.Space, method: str) -> Torso:
    """Return the torso with its images conditioned on all other keys by `method`; "concat" returns it unchanged.

    Raises ValueError unless `space` is a Dict with an image and at least one other key.
    """
    if method == "concat":
        return torso
    parts = torso.parts() if isinstance(torso, DictTorso) else {}
    images = [key for key in parts if isinstance(space, spaces.Dict) and (is_image(space[key]) or key == "image")]
    if not images or len(images) == len(parts):
        raise ValueError(f"--fusion {method} needs an image and something else beside it, not {space}")
    assert isinstance(torso, DictTorso)
    condition = sum(part.out_dim for key, part in parts.items() if key not in images)
    return Fusion(torso, {key: METHODS[method](_unwrap(parts[key]), condition) for key in images})

"""Encoders for images [C, H, W] and grids of binary planes.

Nature CNN, IMPALA ResNet and the bag of words wrap the agents' torsos (torsos/convnets.py). ResNet-18 (He et al. 2016,
table 1) uses the parameter names of published weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from itertools import pairwise

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.base import Encoder, EncoderError, register
from networks.torsos.base import SpatialTorso, Style
from networks.torsos.convnets import CONV_NETS, BagOfWords, ConvNet, ImpalaResNet
from networks.torsos.normalize import Normalize


def _image(space: spaces.Space, arch: str) -> spaces.Box:
    if not isinstance(space, spaces.Box) or len(space.shape) != 3:
        raise EncoderError(f"the architecture '{arch}' takes images [channels, height, width], not {space}")
    return space


def _flatten_positions(features: Tensor) -> tuple[Tensor, Tensor]:
    """Feature map [B, C, H, W] -> tokens [B, H W, C] and a mask of ones [B, H W]."""
    tokens = features.flatten(2).transpose(1, 2)
    return tokens, torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)


class ImageEncoder(Encoder, SpatialTorso):
    """Base of convolutional encoders; the positions of the last feature map are the tokens."""

    fc: nn.Module

    def top(self, feature_map: Tensor) -> Tensor:
        """Feature map [B, C, H, W] -> features [B, out_dim]."""
        return self.fc(feature_map.flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_dim]."""
        return self.top(self.feature_map(x))

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positions of the last feature map, row by row."""
        return _flatten_positions(self.feature_map(x))

    def features_and_tokens(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, tokens and mask from a single forward pass."""
        feature_map = self.feature_map(x)
        return self.top(feature_map), *_flatten_positions(feature_map)

    @property
    def token_dim(self) -> int:
        """Channels of the last feature map."""
        return self.map_channels


class FromTorso(ImageEncoder):
    """Wraps a convolutional torso of the agents."""

    modality = "image"

    def __init__(self, torso: ConvNet | ImpalaResNet | BagOfWords):
        super().__init__()
        self.torso = torso
        self.out_dim, self.map_channels = torso.out_dim, torso.map_channels

    @property
    def normalize(self) -> Normalize:  # type: ignore[override]
        """Input normalisation."""
        return self.torso.normalize

    def feature_map(self, x: Tensor) -> Tensor:
        """Return the last feature map [B, C, H, W]."""
        return self.torso.feature_map(x)

    def top(self, feature_map: Tensor) -> Tensor:
        """Feature map [B, C, H, W] -> features [B, out_dim]."""
        return self.torso.top(feature_map)

    def layer_groups(self) -> list[nn.Module]:
        """Return each convolution or residual section, then the linear layer."""
        if isinstance(self.torso, ImpalaResNet):
            parts = [module for module in self.torso.layers if any(True for _ in module.parameters())]
            return [*parts, self.torso.fc]
        words = [self.torso.words] if isinstance(self.torso, BagOfWords) else []
        return [*words, *self.torso.convs, self.torso.fc]


def _conv_net(space: spaces.Space, name: str, layers: Sequence[tuple[int, int, int]], out_dim: int) -> FromTorso:
    return FromTorso(ConvNet(_image(space, name), layers, out_dim, Style()))


for _name, _layers, _out_dim in CONV_NETS:
    register(_name, "image")(partial(_conv_net, name=_name, layers=_layers, out_dim=_out_dim))


@register("impala", "image")
def _impala(space: spaces.Space) -> FromTorso:
    return FromTorso(ImpalaResNet(_image(space, "impala"), style=Style()))


@register("bow", "grid")
def _bag_of_words(space: spaces.Space, width: int = 128, out_dim: int = 128) -> FromTorso:
    return FromTorso(BagOfWords(_image(space, "bow"), width, out_dim))


@register("small-cnn", "image")
class SmallCNN(ImageEncoder):
    """Three convolutions with pooling after the second and third, for images of 8x8 to 64x64 pixels."""

    modality = "image"

    def __init__(self, space: spaces.Space, width: int = 32, out_dim: int = 128):
        super().__init__()
        box = _image(space, "small-cnn")
        self.normalize = Normalize(box)
        channels, height, width_in = box.shape
        widths = (channels, width, 2 * width, 4 * width)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, after, 3, padding=1), nn.GroupNorm(8, after), nn.ReLU())
            for before, after in pairwise(widths)
        )
        positions = (height // 4) * (width_in // 4)
        if positions < 1:
            raise EncoderError(f"an image of {height}x{width_in} is too small for small-cnn; give 8x8 or more")
        self.map_channels, self.out_dim = widths[-1], out_dim
        self.fc = nn.Sequential(nn.Linear(widths[-1] * positions, out_dim), nn.ReLU())

    def feature_map(self, x: Tensor) -> Tensor:
        """Return the last feature map [B, C, H, W]."""
        x = self.blocks[0](self.normalize(x))
        for block in list(self.blocks)[1:]:
            x = F.max_pool2d(block(x), 2)
        return x

    def layer_groups(self) -> list[nn.Module]:
        """Return each block, then the linear layer."""
        return [*self.blocks, self.fc]


class BasicBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, with the parameter names of published weights."""

    def __init__(self, width_in: int, width: int, stride: int, norm: str):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = _norm(norm, width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = _norm(norm, width)
        self.downsample: nn.Module | None = None
        if stride != 1 or width_in != width:
            self.downsample = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False), _norm(norm, width))

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, width, H / stride, W / stride]."""
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + shortcut)


def _norm(name: str, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if name == "batch" else nn.GroupNorm(min(32, width), width)


@register("resnet18", "image")
class ResNet18(ImageEncoder):
    """ResNet-18. `norm="batch"` is for published weights, whose batch statistics stay frozen in eval mode."""

    modality = "image"

    def __init__(self, space: spaces.Space, norm: str = "group"):
        super().__init__()
        box = _image(space, "resnet18")
        if norm not in ("group", "batch"):
            raise EncoderError(f"resnet18 takes norm group or batch, not {norm}")
        self.norm = norm
        self.normalize = Normalize(box)
        self.conv1 = nn.Conv2d(box.shape[0], 64, 7, 2, 3, bias=False)
        self.bn1 = _norm(norm, 64)
        widths = (64, 64, 128, 256, 512)
        for index, (before, after) in enumerate(pairwise(widths), start=1):
            first = BasicBlock(before, after, 1 if index == 1 else 2, norm)
            setattr(self, f"layer{index}", nn.Sequential(first, BasicBlock(after, after, 1, norm)))
        self.map_channels = self.out_dim = 512

    def train(self, mode: bool = True) -> ResNet18:
        """Keep batch normalisation in eval mode: frames of a game would distort its statistics."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.eval()
        return self

    def feature_map(self, x: Tensor) -> Tensor:
        """Return the last feature map [B, C, H, W]."""
        x = F.max_pool2d(F.relu(self.bn1(self.conv1(self.normalize(x)))), 3, 2, 1)
        for index in range(1, 5):
            x = getattr(self, f"layer{index}")(x)
        return x

    def top(self, feature_map: Tensor) -> Tensor:
        """Return [B, 512]."""
        return feature_map.mean(dim=(2, 3))

    def layer_groups(self) -> list[nn.Module]:
        """Return the stem and the four stages."""
        return [nn.ModuleList([self.conv1, self.bn1]), *(getattr(self, f"layer{index}") for index in range(1, 5))]

    def load_published(self, tensors: dict[str, Tensor]) -> None:
        """Load published weights; the classifier `fc` is ignored."""
        own = {key: value for key, value in tensors.items() if not key.startswith("fc.")}
        expected = {key for key in self.state_dict() if not key.startswith("normalize.")}
        if set(own) != expected:
            mismatched = sorted(set(own) ^ expected)[:3]
            raise EncoderError(f"these are not weights of a ResNet-18 with {self.norm} norm: {', '.join(mismatched)}")
        self.load_state_dict(own, strict=False)

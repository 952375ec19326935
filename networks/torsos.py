"""Torsos: from one observation to a feature vector, with the input's normalisation inside.

Nature CNN: Mnih et al. 2015 (Methods, "Model architecture"). IMPALA ResNet: Espeholt et al. 2018 (Figure 3, right);
"impala-large" is its form in BTR (Clark et al. 2024, section 3): twice as wide, spectrally normalised, pooled to 6x6.
The MinAtar network: Young & Tian 2019 (section 4). The data-efficient one: van Hasselt et al. 2019 (appendix).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TypeGuard

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrizations import spectral_norm

CONV_NETS = (
    ("nature", ((32, 8, 4), (64, 4, 2), (64, 3, 1)), 512),
    ("pong-small", ((16, 4, 2), (32, 4, 2), (32, 3, 1)), 256),
    ("data-efficient", ((32, 5, 5), (64, 5, 5)), 256),
    ("minatar", ((16, 3, 1),), 128),
)
"""Name, convolutions as (channels, kernel, stride), width of the layer after them."""
HEAVY = ("nature", "impala", "impala-large", "pong-small", "data-efficient")
"""Torsos whose convolutions are worth several threads."""


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


class ChannelNorm(nn.LayerNorm):
    """Layer normalisation over the channels of each pixel (flax's default, which PQN's code uses)."""

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


class Normalize(nn.Module):
    """(x - mean) * inverse_std, elementwise; part of the model, so a policy never travels without it."""

    mean: Tensor
    inverse_std: Tensor

    def __init__(self, space: spaces.Box):
        super().__init__()
        # Counts and pixels have a range to divide by (255 for a frame, 1 for a binary plane); other vectors have none.
        integral = np.issubdtype(space.dtype, np.integer) or space.dtype == np.bool_
        scale = float(np.max(space.high)) if integral and np.all(np.isfinite(space.high)) else 1.0
        self.register_buffer("mean", torch.zeros(space.shape))
        self.register_buffer("inverse_std", torch.full(space.shape, 1.0 / max(scale, 1.0)))
        self.register_load_state_dict_post_hook(lambda module, keys: module._look())
        self._look()

    def center(self, samples: Tensor) -> None:
        """Take mean and std per element from `samples` [B, ...]; the std is floored at its average."""
        samples = samples.to(self.mean.device, torch.float32)
        std = samples.std(dim=0)
        self.mean.copy_(samples.mean(dim=0))
        self.inverse_std.copy_(1.0 / torch.clamp(std, min=max(std.mean().item(), 1e-3)))
        self._look()

    def _look(self) -> None:
        """Note whether one factor is all there is to it, which spares a pass over every batch."""
        first = self.inverse_std.flatten()[0].item()
        self.factor = first if not self.mean.any() and bool((self.inverse_std == first).all()) else None

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] of any type -> the same shape, float32 or what autocast works in."""
        if x.dim() != 4:  # few numbers, whose scale is not known: rounded only once they are normalised
            x = x.to(torch.float32, copy=True)
            return x.mul_(self.factor) if self.factor is not None else x.sub_(self.mean).mul_(self.inverse_std)
        device = x.device.type
        dtype = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else torch.float32
        x = x.to(dtype, copy=True).contiguous(memory_format=torch.channels_last)
        if self.factor is not None:
            return x.mul_(self.factor)
        mean, inverse_std = (
            buffer.to(dtype)[None].contiguous(memory_format=torch.channels_last)
            for buffer in (self.mean, self.inverse_std)
        )
        return x.sub_(mean).mul_(inverse_std)


class Torso(nn.Module):
    """Any module from an observation to features [B, out_dim]."""

    out_dim: int


class MLP(Torso):
    """Fully connected layers over a flat vector [B, D]."""

    def __init__(self, space: spaces.Box, style: Style = Style()):
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


class ConvNet(Torso):
    """Convolutions with ReLU, then one fully connected layer unless `style` is flat; images are [B, C, H, W]."""

    def __init__(
        self, space: spaces.Box, layers: Sequence[tuple[int, int, int]], out_dim: int = 512, style: Style = Style()
    ):
        super().__init__()
        self.normalize = Normalize(space)
        channels, height, width = space.shape
        self.convs, self.norms = nn.ModuleList(), nn.ModuleList()
        for out_channels, kernel, stride in layers:
            self.convs.append(nn.Conv2d(channels, out_channels, kernel, stride))
            self.norms.append(ChannelNorm(out_channels) if style.layer_norm else nn.Identity())
            channels, height, width = out_channels, (height - kernel) // stride + 1, (width - kernel) // stride + 1
        if height < 1 or width < 1:
            raise ValueError(f"an image of {space.shape[1]}x{space.shape[2]} is too small for these convolutions")
        self.fc = _last_layer(channels * height * width, out_dim, style)
        self.out_dim = channels * height * width if style.flat else out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_dim]."""
        x = self.normalize(x)
        for conv, norm in zip(self.convs, self.norms, strict=True):
            x = F.relu(norm(conv(x)), inplace=True)
        return self.fc(x.flatten(1))


def _last_layer(in_dim: int, out_dim: int, style: Style) -> nn.Module:
    """Return the fully connected layer after convolutions, or nothing where the head does its work."""
    if style.flat:
        return nn.Identity()
    norm = [nn.LayerNorm(out_dim)] if style.layer_norm else []
    return nn.Sequential(nn.Linear(in_dim, out_dim), *norm, nn.ReLU())


class ResidualBlock(nn.Module):
    """ReLU, conv, ReLU, conv, plus the input; `spectral` divides each kernel by its largest singular value."""

    def __init__(self, channels: int, style: Style = Style(), spectral: bool = False):
        super().__init__()
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))
        self.norm1, self.norm2 = (ChannelNorm(channels) if style.layer_norm else nn.Identity() for _ in range(2))
        if spectral:
            spectral_norm(self.conv1)
            spectral_norm(self.conv2)

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, C, H, W]."""
        return x + self.norm2(self.conv2(F.relu(self.norm1(self.conv1(F.relu(x))))))


class ImpalaResNet(Torso):
    """Three sections of conv, max-pool and two residual blocks; images are [B, C, H, W].

    `pool` is the side that the last picture is max-pooled to (BTR: 6), 0 for none; `spectral` normalises the blocks.
    """

    def __init__(
        self, space: spaces.Box, channels: Sequence[int] = (16, 32, 32), out_dim: int = 256, style: Style = Style(),
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
        self.fc = _last_layer(width_in * height * width, out_dim, style)
        self.out_dim = width_in * height * width if style.flat else out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, out_dim]."""
        return self.fc(self.layers(self.normalize(x)).flatten(1))


class OneHot(Torso):
    """A Discrete or MultiDiscrete observation as one-hot vectors, then an MLP."""

    def __init__(self, sizes: Sequence[int], hidden: tuple[int, ...] = (64,)):
        super().__init__()
        self.sizes = tuple(int(size) for size in sizes)
        self.mlp = MLP(spaces.Box(0.0, 1.0, (sum(self.sizes),)), Style(hidden))
        self.out_dim = self.mlp.out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B] or [B, K] of category numbers -> [B, out_dim]."""
        columns = x.long().reshape(x.shape[0], -1).unbind(dim=1)
        one_hot = [F.one_hot(column, size) for column, size in zip(columns, self.sizes, strict=True)]
        return self.mlp(torch.cat(one_hot, dim=1))


class Tokens(Torso):
    """Token ids [B, L], 0 for padding, read by a GRU; gives its state after the last word."""

    def __init__(self, vocabulary_size: int, embedding: int = 32, out_dim: int = 128):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding, padding_idx=0)
        self.gru = nn.GRU(embedding, out_dim, batch_first=True)
        self.out_dim = out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, out_dim]."""
        tokens = x.long()
        states, _ = self.gru(self.embedding(tokens))  # [B, L, out_dim]
        last = (tokens != 0).sum(dim=1).clamp(min=1) - 1
        return states[torch.arange(len(tokens), device=x.device), last]


class Flat(Torso):
    """The numbers as they are."""

    def __init__(self, space: spaces.Box):
        super().__init__()
        self.normalize = Normalize(space)
        self.out_dim = int(np.prod(space.shape))

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim]."""
        return self.normalize(x).flatten(1)


class DictTorso(Torso):
    """One torso per key of a Dict observation; their features side by side."""

    def __init__(self, torsos: dict[str, Torso]):
        super().__init__()
        self.torsos = nn.ModuleDict(torsos)
        self.out_dim = sum(torso.out_dim for torso in torsos.values())

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """{key: [B, ...]} -> [B, out_dim]."""
        return torch.cat([torso(x[key]).float() for key, torso in self.torsos.items()], dim=1)


class TwinTorso(Torso):
    """Two torsos of one shape side by side, so that policy and value share nothing (PPO on vectors)."""

    def __init__(self, policy: Torso, value: Torso):
        super().__init__()
        self.policy, self.value = policy, value
        self.out_dim = policy.out_dim + value.out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] -> [B, out_dim], policy half first."""
        return torch.cat([self.policy(x), self.value(x)], dim=1)


def torso_name(space: spaces.Space) -> str:
    """Return the torso that suits an observation space: what `auto` chooses."""
    if isinstance(space, spaces.Dict):
        return "dict"
    if is_image(space):
        return "minatar" if min(space.shape[1:]) < 20 else "nature"
    if isinstance(space, spaces.MultiDiscrete) and len(set(space.nvec.tolist())) == 1 and len(space.nvec) > 8:
        return "tokens"
    if isinstance(space, spaces.Discrete | spaces.MultiDiscrete):
        return "one-hot"
    if isinstance(space, spaces.Box | spaces.MultiBinary):
        return "mlp"
    raise ValueError(f"no torso reads observations of the space {space}; wrap the environment to give arrays")


def _conv_net(
    space: spaces.Space, style: Style, layers: Sequence[tuple[int, int, int]], out_dim: int
) -> ConvNet | None:
    return ConvNet(space, layers, out_dim, style) if is_image(space) else None


def _impala(space: spaces.Space, style: Style) -> ImpalaResNet | None:
    return ImpalaResNet(space, style=style) if is_image(space) else None


def _impala_large(space: spaces.Space, style: Style) -> ImpalaResNet | None:
    return ImpalaResNet(space, (32, 64, 64), 512, style, pool=6, spectral=True) if is_image(space) else None


def _mlp(space: spaces.Space, style: Style) -> MLP | None:
    if isinstance(space, spaces.MultiBinary):
        space = spaces.Box(0, 1, space.shape, np.int8)
    return MLP(space, style) if isinstance(space, spaces.Box) else None


def _dict(space: spaces.Space, style: Style, name: str = "auto") -> DictTorso | None:
    """Build a torso for each part: the one called `name` for those that it reads, `auto` for the others."""
    if not isinstance(space, spaces.Dict):
        return None
    # what the agent did last is a few numbers beside features that are read from the game: they need no layer
    parts = {key: part for key, part in space.spaces.items() if key not in LAST_KEYS}
    named = {key: TORSOS[name](part, style) if name in TORSOS else None for key, part in parts.items()}
    if name != "auto" and not any(named.values()):
        return None
    torsos = {key: named[key] or build_torso(part, "auto", style) for key, part in parts.items()}
    torsos |= {key: build_torso(space[key], "flat", style) for key in LAST_KEYS if key in space.spaces}
    return DictTorso(torsos)


LAST_KEYS = ("last_action", "last_reward")
"""Parts of a Dict observation that hold what the agent did last."""

TORSOS: dict[str, Callable[[spaces.Space, Style], Torso | None]] = {
    "mlp": _mlp,
    **{name: partial(_conv_net, layers=layers, out_dim=out_dim) for name, layers, out_dim in CONV_NETS},
    "impala": _impala,
    "impala-large": _impala_large,
    "tokens": lambda space, style: Tokens(int(space.nvec[0])) if isinstance(space, spaces.MultiDiscrete) else None,
    "one-hot": lambda space, style: OneHot(categories(space)) if categories(space) else None,
    "flat": lambda space, style: Flat(space) if isinstance(space, spaces.Box) else None,
    "dict": _dict,
}
"""Name -> a function that builds the torso in a style, or gives None where the space is not for it."""


def build_torso(space: spaces.Space, name: str = "auto", style: Style = Style()) -> Torso:
    """Build the torso called `name` for `space`; raise ValueError where the two do not fit."""
    name = torso_name(space) if name == "auto" else name
    if isinstance(space, spaces.Dict) and name != "dict":
        torso: Torso | None = _dict(space, style, name)
    else:
        torso = TORSOS[name](space, style) if name in TORSOS else None
    if torso is None:
        problem = (
            "does not read observations of the space" if name in TORSOS else f"is none of {', '.join(TORSOS)}; for"
        )
        raise ValueError(f"the torso '{name}' {problem} {space}; --torso auto chooses one")
    return torso


def is_image(space: spaces.Space) -> TypeGuard[spaces.Box]:
    """Whether the space is of images [C, H, W]."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def categories(space: spaces.Space) -> list[int]:
    """Sizes of the category numbers that the space consists of; empty if it does not."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    return space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else []

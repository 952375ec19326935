"""How what is seen and all else, such as a mission, come together in a Dict observation.

Side by side, two parts cannot change each other's meaning before a linear head: "the red one" would favour an action,
whatever is seen.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.reuse import Pretrained
from networks.torsos.base import PictureTorso, Torso
from networks.torsos.build import DictTorso, Fused, is_image


class Modulated(nn.Module):
    """A residual block whose second convolution a condition scales and shifts (Perez et al. 2018, figure 3)."""

    def __init__(self, channels: int, condition: int):
        super().__init__()
        self.narrow, self.conv = nn.Conv2d(channels, channels, 1), nn.Conv2d(channels, channels, 3, padding=1)
        self.film = nn.Linear(condition, 2 * channels)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """[B, C, H, W], [B, condition] -> [B, C, H, W]."""
        x = F.relu(self.narrow(x))
        scale, shift = self.film(condition)[:, :, None, None].chunk(2, dim=1)
        return x + F.relu(self.conv(x) * (1.0 + scale) + shift)


class FilmedPicture(nn.Module):
    """Modulated blocks between a torso's last picture and its features (BabyAI 1.1: Hui et al. 2020, section 3)."""

    def __init__(self, torso: PictureTorso, condition: int, blocks: int = 2):
        super().__init__()
        self.modulated = nn.ModuleList(Modulated(torso.picture_dim, condition) for _ in range(blocks))
        self.out_dim = torso.out_dim

    def forward(self, torso: PictureTorso, x: Tensor, condition: Tensor) -> Tensor:
        """Return [B, out_dim]."""
        picture = torso.picture(x)
        for block in self.modulated:
            picture = block(picture, condition)
        return torso.top(picture)


class FilmedFeatures(nn.Module):
    """Features scaled and shifted, and a layer: for what comes without a picture, as from a frozen encoder."""

    def __init__(self, torso: Torso, condition: int, width: int = 128):
        super().__init__()
        self.film, self.mix = nn.Linear(condition, 2 * torso.out_dim), nn.Linear(torso.out_dim, width)
        self.out_dim = width

    def forward(self, torso: Torso, x: Tensor, condition: Tensor) -> Tensor:
        """Return [B, out_dim]."""
        scale, shift = self.film(condition).chunk(2, dim=1)
        return F.relu(self.mix(torso(x).float() * (1.0 + scale) + shift))


class Matched(nn.Module):
    """How much of each place is what the condition asks for: 1x1 kernels made from it (Misra et al. 2018, section 4).

    Each kernel shares itself out between the channels of the picture, and only the answers go on. A kernel that may be
    negative learns that with "blue" no key is ever meant, which is right in training and wrong for pairs that are met
    later; film can let a unit stand for a pair. Made for pictures whose channels mean something each, as `planes` do.
    The kernels begin apart from each other, and the condition, of whatever size, has a small say at first.
    """

    def __init__(self, torso: PictureTorso, condition: int, say: float = 4.0):
        super().__init__()
        self.kernels = nn.Linear(condition, torso.picture_dim**2)
        self.base = nn.Parameter(torch.randn(torso.picture_dim**2))
        self.say = say / condition**0.5
        self.out_dim = torso.out_dim

    def forward(self, torso: PictureTorso, x: Tensor, condition: Tensor) -> Tensor:
        """Return [B, out_dim]."""
        picture = torso.picture(x)
        channels = picture.shape[1]
        scores = self.base + self.say * self.kernels(F.layer_norm(condition, condition.shape[1:]))
        kernels = scores.view(-1, channels, channels).softmax(dim=2)
        return torso.top(torch.bmm(kernels, picture.flatten(2)).view_as(picture))


class Attended(nn.Module):
    """Beside the features, what learned questions of the condition find in the picture (Vaswani et al. 2017, 3.2)."""

    def __init__(self, torso: PictureTorso, condition: int, heads: int = 4, width: int = 32):
        super().__init__()
        self.heads, self.width = heads, width
        self.query = nn.Linear(condition, heads * width)
        self.key, self.value = (nn.Conv2d(torso.picture_dim + 2, heads * width, 1) for _ in range(2))
        self.out_dim = torso.out_dim + heads * width

    def forward(self, torso: PictureTorso, x: Tensor, condition: Tensor) -> Tensor:
        """Return [B, out_dim]."""
        picture = torso.picture(x)
        batch, _, height, size = picture.shape
        rows, columns = (torch.linspace(-1, 1, count, device=x.device, dtype=picture.dtype) for count in (height, size))
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij")).expand(batch, -1, -1, -1)
        placed = torch.cat([picture, places], dim=1)
        key, value = (layer(placed).view(batch, self.heads, self.width, -1) for layer in (self.key, self.value))
        query = self.query(condition).view(batch, self.heads, self.width, 1)
        weights = ((query * key).sum(dim=2, keepdim=True) / self.width**0.5).softmax(dim=3)
        return torch.cat([torso.top(picture), (weights * value).sum(dim=3).flatten(1)], dim=1)


class Fusion(Fused):
    """Each part that is seen, under the condition of all that is not; the condition itself beside them."""

    def __init__(self, torso: DictTorso, ways: dict[str, nn.Module]):
        super().__init__()
        self.parts, self.ways = torso, nn.ModuleDict(ways)
        condition = sum(part.out_dim for key, part in torso.parts().items() if key not in ways)
        self.out_dim = sum(way.out_dim for way in ways.values()) + condition  # type: ignore[misc]

    def forward(self, x: dict[str, Tensor]) -> Tensor:
        """{key: [B, ...]} -> [B, out_dim]."""
        parts = self.parts.parts()
        condition = torch.cat([part(x[key]).float() for key, part in parts.items() if key not in self.ways], dim=1)
        seen = [way(_inner(parts[key]), x[key], condition).float() for key, way in self.ways.items()]
        return torch.cat([*seen, condition], dim=1)


def _film(torso: Torso, condition: int) -> nn.Module:
    if isinstance(torso, PictureTorso):
        return FilmedPicture(torso, condition)
    return FilmedFeatures(torso, condition)


def _at_places(way: str, build: Callable[[PictureTorso, int], nn.Module], torso: Torso, condition: int) -> nn.Module:
    if not isinstance(torso, PictureTorso):
        raise ValueError(f"--fusion {way} looks at the places of a picture, and features have none; use film")
    return build(torso, condition)


WAYS: dict[str, Callable[[Torso, int], nn.Module]] = {
    "film": _film,
    "kernels": partial(_at_places, "kernels", Matched),
    "attention": partial(_at_places, "attention", Attended),
}
"""Name -> what is built for a part that is seen, and the width of what it depends on."""
LINEAR = frozenset({"kernels"})
"""Ways that take an encoder's features as they are: a layer in between would make a code for each pair of words."""


def _inner(torso: Torso) -> Torso:
    return torso.encoder if isinstance(torso, Pretrained) else torso


def fuse(torso: Torso, space: spaces.Space, way: str) -> Torso:
    """Put images under the condition of all else; raise ValueError where there are not both."""
    if way == "concat":
        return torso
    parts = torso.parts() if isinstance(torso, DictTorso) else {}
    seen = [key for key in parts if isinstance(space, spaces.Dict) and (is_image(space[key]) or key == "image")]
    if not seen or len(seen) == len(parts):
        raise ValueError(f"--fusion {way} takes an image and something else beside it, not {space}")
    assert isinstance(torso, DictTorso)
    condition = sum(part.out_dim for key, part in parts.items() if key not in seen)
    return Fusion(torso, {key: WAYS[way](_inner(parts[key]), condition) for key in seen})

"""How a mission and an image come together: each formula, and that who is told what stays apart."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

from networks.fusion import ConditionedKernels, FeatureFiLM, Fusion, SpatialAttention, SpatialFiLM, fuse
from networks.torsos.build import build_torso
from networks.torsos.composite import DictTorso, normalized_parts

SEEN = spaces.Box(0, 1, (5, 7, 7), np.uint8)
MISSION = spaces.MultiDiscrete([9] * 12)
SPACE = spaces.Dict({"image": SEEN, "mission": MISSION})


def fused(way: str, name: str = "bow", space: spaces.Dict = SPACE) -> Fusion:
    torch.manual_seed(0)
    torso = fuse(build_torso(space, name), space, way)
    assert isinstance(torso, Fusion)
    return torso


def observations(count: int = 3) -> dict[str, torch.Tensor]:
    return {
        "image": torch.randint(0, 2, (count, 5, 7, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
        "mission": torch.arange(count * 12).view(count, 12) % 9,
    }


@pytest.mark.parametrize("way", ["film", "kernels", "attention"])
@pytest.mark.parametrize("name", ["bow", "planes", "minatar", "dict"])
def test_shape_and_that_the_mission_changes_what_is_seen(way: str, name: str) -> None:
    torso, obs = fused(way, name), observations()
    found = torso(obs)
    assert found.shape == (3, torso.out_dim)
    other = torso({**obs, "mission": obs["mission"].flip(0)})
    seen = torso.out_dim - torso.parts.parts()["mission"].out_dim
    assert not torch.equal(found[0, :seen], other[0, :seen])
    assert torch.equal(found[1, :seen], other[1, :seen])  # the middle row's mission stays
    assert torch.allclose(found[1:2], torso({key: part[1:2] for key, part in obs.items()}), atol=1e-6)


def test_film_on_a_picture_is_the_papers_block() -> None:
    torso, obs = fused("film"), observations()
    parts, way = torso.parts.parts(), torso.ways["image"]
    assert isinstance(way, SpatialFiLM)
    condition = parts["mission"](obs["mission"])
    feature_map = parts["image"].feature_map(obs["image"])  # type: ignore[operator]
    for block in way.modulated:
        narrow = F.relu(block.narrow(feature_map))  # type: ignore[operator]
        scale, shift = block.film(condition).chunk(2, dim=1)  # type: ignore[operator]
        bent = block.conv(narrow) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]  # type: ignore[operator]
        feature_map = narrow + F.relu(bent)
    expected = torch.cat([parts["image"].top(feature_map), condition], dim=1)  # type: ignore[operator]
    assert torch.allclose(torso(obs), expected, atol=1e-6)


def test_kernels_are_shares_made_from_the_mission_and_only_their_answers_go_on() -> None:
    torso, obs = fused("kernels", "planes"), observations()
    part, way, condition = torso.parts.parts()["image"], torso.ways["image"], torch.randn(3, 128)
    assert isinstance(way, ConditionedKernels)
    feature_map = part.feature_map(obs["image"])  # type: ignore[operator]
    assert torch.equal(feature_map, obs["image"].float())  # a channel for each word
    scores = way.base + 4.0 / 128**0.5 * way.kernels(F.layer_norm(condition, (128,)))
    kernels = scores.view(3, 5, 5, 1, 1).softmax(dim=2)
    rows = zip(feature_map, kernels, strict=True)
    expected = part.top(torch.stack([F.conv2d(seen, kernel) for seen, kernel in rows]))  # type: ignore[operator]
    assert torch.allclose(way(part, obs["image"], condition), expected, atol=1e-5)
    assert torch.allclose(way(part, obs["image"], 50.0 * condition), expected, atol=1e-4)  # of whatever size
    with torch.no_grad():
        way.kernels.weight.zero_()
        way.kernels.bias.zero_()
        way.base.copy_(100.0 * torch.eye(5).flatten())  # each kernel asks for a word of its own
    assert torch.allclose(way(part, obs["image"], condition), part(obs["image"]), atol=1e-5)


def test_attention_weighs_places_and_tells_them_apart() -> None:
    torso, obs = fused("attention"), observations()
    way = torso.ways["image"]
    assert isinstance(way, SpatialAttention)
    part, condition = torso.parts.parts()["image"], torch.randn(3, 128)
    feature_map = part.feature_map(obs["image"])  # type: ignore[operator]
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 7), indexing="ij")
    placed = torch.cat([feature_map, rows.expand(3, 1, 7, 7), columns.expand(3, 1, 7, 7)], dim=1)
    key, value = (layer(placed).view(3, 4, 32, 49) for layer in (way.key, way.value))
    query = way.query(condition).view(3, 4, 1, 32)
    expected = F.scaled_dot_product_attention(query, key.transpose(2, 3), value.transpose(2, 3)).flatten(1)
    found = way(part, obs["image"], condition)
    assert torch.allclose(found[:, part.out_dim :], expected, atol=1e-5)
    assert torch.allclose(found[:, : part.out_dim], part(obs["image"]), atol=1e-6)


def test_features_without_a_picture_are_bent_too_and_cannot_be_attended() -> None:
    space = spaces.Dict({"image": spaces.Box(-np.inf, np.inf, (12,), np.float32), "mission": MISSION})
    torso = fused("film", "dict", space)
    way = torso.ways["image"]
    assert isinstance(way, FeatureFiLM)
    x, condition = torch.randn(3, 12), torch.randn(3, 128)
    part = torso.parts.parts()["image"]
    scale, shift = way.film(condition).chunk(2, dim=1)
    assert torch.allclose(way(part, x, condition), F.relu(way.mix(part(x) * (1 + scale) + shift)))
    for name in ("attention", "kernels"):
        with pytest.raises(
            ValueError, match="needs an image's feature map, but the input is a feature vector; use film"
        ):
            fused(name, "dict", space)


@pytest.mark.parametrize("space", [SEEN, MISSION, spaces.Dict({"image": SEEN}), spaces.Dict({"mission": MISSION})])
def test_film_wants_an_image_and_something_beside_it(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match="needs an image and something else beside it"):
        fuse(build_torso(space), space, "film")


def test_side_by_side_is_left_as_it_is_and_normalisation_is_found_inside() -> None:
    plain = build_torso(SPACE)
    assert fuse(plain, SPACE, "concat") is plain
    torso, obs = fused("film", "minatar"), observations()
    image: Any = torso.parts.parts()["image"]
    assert isinstance(torso.parts, DictTorso)
    assert [part for part, _ in normalized_parts(torso, obs)] == [image.normalize]

"""Fusion of a mission and an image: each method against its formula, and rows do not mix."""

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

IMAGE = spaces.Box(0, 1, (5, 7, 7), np.uint8)
MISSION = spaces.MultiDiscrete([9] * 12)
SPACE = spaces.Dict({"image": IMAGE, "mission": MISSION})


def fused(method: str, name: str = "bow", space: spaces.Dict = SPACE) -> Fusion:
    torch.manual_seed(0)
    torso = fuse(build_torso(space, name), space, method)
    assert isinstance(torso, Fusion)
    return torso


def observations(count: int = 3) -> dict[str, torch.Tensor]:
    return {
        "image": torch.randint(0, 2, (count, 5, 7, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)),
        "mission": torch.arange(count * 12).view(count, 12) % 9,
    }


@pytest.mark.parametrize("method", ["film", "kernels", "attention"])
@pytest.mark.parametrize("name", ["bow", "planes", "minatar", "dict"])
def test_the_mission_changes_the_image_features_of_its_row(method: str, name: str) -> None:
    torso, obs = fused(method, name), observations()
    output = torso(obs)
    assert output.shape == (3, torso.out_dim)
    other = torso({**obs, "mission": obs["mission"].flip(0)})
    width = torso.out_dim - torso.parts.parts()["mission"].out_dim
    assert not torch.equal(output[0, :width], other[0, :width])
    assert torch.equal(output[1, :width], other[1, :width])  # the middle row keeps its mission
    assert torch.allclose(output[1:2], torso({key: part[1:2] for key, part in obs.items()}), atol=1e-6)


def test_spatial_film_is_the_papers_block() -> None:
    torso, obs = fused("film"), observations()
    parts, method = torso.parts.parts(), torso.ways["image"]
    assert isinstance(method, SpatialFiLM)
    condition = parts["mission"](obs["mission"])
    feature_map = parts["image"].feature_map(obs["image"])  # type: ignore[operator]
    for block in method.modulated:
        narrow = F.relu(block.narrow(feature_map))  # type: ignore[operator]
        scale, shift = block.film(condition).chunk(2, dim=1)  # type: ignore[operator]
        modulated = block.conv(narrow) * (1 + scale[:, :, None, None]) + shift[:, :, None, None]  # type: ignore[operator]
        feature_map = narrow + F.relu(modulated)
    expected = torch.cat([parts["image"].top(feature_map), condition], dim=1)  # type: ignore[operator]
    assert torch.allclose(torso(obs), expected, atol=1e-6)


def test_kernels_are_softmaxes_computed_from_the_mission() -> None:
    torso, obs = fused("kernels", "planes"), observations()
    part, method, condition = torso.parts.parts()["image"], torso.ways["image"], torch.randn(3, 128)
    assert isinstance(method, ConditionedKernels)
    feature_map = part.feature_map(obs["image"])  # type: ignore[operator]
    assert torch.equal(feature_map, obs["image"].float())  # one channel per word
    scores = method.base + 4.0 / 128**0.5 * method.kernels(F.layer_norm(condition, (128,)))
    kernels = scores.view(3, 5, 5, 1, 1).softmax(dim=2)
    rows = zip(feature_map, kernels, strict=True)
    expected = part.top(torch.stack([F.conv2d(row, kernel) for row, kernel in rows]))  # type: ignore[operator]
    assert torch.allclose(method(part, obs["image"], condition), expected, atol=1e-5)
    # the scale of the condition does not matter
    assert torch.allclose(method(part, obs["image"], 50.0 * condition), expected, atol=1e-4)
    with torch.no_grad():
        method.kernels.weight.zero_()
        method.kernels.bias.zero_()
        method.base.copy_(100.0 * torch.eye(5).flatten())  # each kernel selects one channel
    assert torch.allclose(method(part, obs["image"], condition), part(obs["image"]), atol=1e-5)


def test_attention_is_over_positions_and_uses_their_coordinates() -> None:
    torso, obs = fused("attention"), observations()
    method = torso.ways["image"]
    assert isinstance(method, SpatialAttention)
    part, condition = torso.parts.parts()["image"], torch.randn(3, 128)
    feature_map = part.feature_map(obs["image"])  # type: ignore[operator]
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 7), indexing="ij")
    inputs = torch.cat([feature_map, rows.expand(3, 1, 7, 7), columns.expand(3, 1, 7, 7)], dim=1)
    key, value = (layer(inputs).view(3, 4, 32, 49) for layer in (method.key, method.value))
    query = method.query(condition).view(3, 4, 1, 32)
    expected = F.scaled_dot_product_attention(query, key.transpose(2, 3), value.transpose(2, 3)).flatten(1)
    output = method(part, obs["image"], condition)
    assert torch.allclose(output[:, part.out_dim :], expected, atol=1e-5)
    assert torch.allclose(output[:, : part.out_dim], part(obs["image"]), atol=1e-6)


def test_feature_vectors_take_film_but_no_spatial_method() -> None:
    space = spaces.Dict({"image": spaces.Box(-np.inf, np.inf, (12,), np.float32), "mission": MISSION})
    torso = fused("film", "dict", space)
    method = torso.ways["image"]
    assert isinstance(method, FeatureFiLM)
    x, condition = torch.randn(3, 12), torch.randn(3, 128)
    part = torso.parts.parts()["image"]
    scale, shift = method.film(condition).chunk(2, dim=1)
    assert torch.allclose(method(part, x, condition), F.relu(method.mix(part(x) * (1 + scale) + shift)))
    for name in ("attention", "kernels"):
        with pytest.raises(
            ValueError, match="needs an image's feature map, but the input is a feature vector; use film"
        ):
            fused(name, "dict", space)


@pytest.mark.parametrize("space", [IMAGE, MISSION, spaces.Dict({"image": IMAGE}), spaces.Dict({"mission": MISSION})])
def test_film_needs_an_image_and_something_else(space: spaces.Space) -> None:
    with pytest.raises(ValueError, match="needs an image and something else beside it"):
        fuse(build_torso(space), space, "film")


def test_concat_changes_nothing_and_fusion_exposes_the_normalisation() -> None:
    plain = build_torso(SPACE)
    assert fuse(plain, SPACE, "concat") is plain
    torso, obs = fused("film", "minatar"), observations()
    image: Any = torso.parts.parts()["image"]
    assert isinstance(torso.parts, DictTorso)
    assert [part for part, _ in normalized_parts(torso, obs)] == [image.normalize]

"""Torsos: axes of normalisation, sizes, spectral norms, initialisation, and texts computed once."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.cores import build_core
from networks.heads.policies import PolicyValueHead
from networks.model import Model, he_init
from networks.torsos.base import Style
from networks.torsos.build import TORSOS, build_torso
from networks.torsos.composite import DictTorso
from networks.torsos.convnets import ConvNet, ImpalaResNet, ResidualBlock
from networks.torsos.tokens import Tokens
from networks.torsos.vectors import Flat

FRAME = spaces.Box(0, 255, (4, 84, 84), np.uint8)
SMALL = spaces.Box(-np.inf, np.inf, (4, 20, 20), np.float32)
"""Images of large numbers, so that the epsilon of a norm is negligible."""
VECTOR = spaces.Box(-np.inf, np.inf, (5,), np.float32)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


def wide(space: spaces.Box, count: int = 3) -> Tensor:
    return 30.0 * torch.randn(count, *space.shape)


def frames(count: int = 2) -> Tensor:
    return torch.randint(0, 256, (count, 4, 84, 84), dtype=torch.uint8)


def size(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def stretch(norm: nn.LayerNorm) -> nn.LayerNorm:
    """Set a norm's affine parameters to random values, as if learned."""
    nn.init.uniform_(norm.weight, 0.5, 2.0)
    nn.init.normal_(norm.bias)
    return norm


def normalized(x: Tensor, dim: int) -> Tensor:
    """Normalise to mean 0 and variance 1 along one axis."""
    mean, variance = x.mean(dim, keepdim=True), x.var(dim, unbiased=False, keepdim=True)
    return (x - mean) / torch.sqrt(variance + 1e-5)


def test_layer_norm_is_over_the_channels_of_every_pixel_between_conv_and_relu() -> None:
    torso = ConvNet(SMALL, ((8, 3, 2), (6, 3, 1)), 16, Style(layer_norm=True))
    x = features = wide(SMALL)
    for conv, norm in zip(torso.convs, torso.norms, strict=True):
        stretch(norm)  # type: ignore[arg-type]
        before = normalized(conv(features), dim=1)
        torch.testing.assert_close(before.mean(dim=1), torch.zeros_like(before[:, 0]), atol=1e-4, rtol=0)
        torch.testing.assert_close(before.var(dim=1, unbiased=False), torch.ones_like(before[:, 0]), atol=1e-2, rtol=0)
        features = F.relu(before * norm.weight[:, None, None] + norm.bias[:, None, None])  # type: ignore[index]
    linear, norm, _ = torso.fc  # type: ignore[misc]
    stretch(norm)
    expected = F.relu(normalized(linear(features.flatten(1)), dim=1) * norm.weight + norm.bias)
    torch.testing.assert_close(torso(x), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", ["nature", "minatar", "data-efficient", "pong-small"])
def test_the_output_of_each_norm_has_mean_0_and_variance_1_at_every_pixel(name: str) -> None:
    torso, outputs = build_torso(FRAME, name, Style(layer_norm=True)), []
    norms = [part for part in torso.modules() if isinstance(part, nn.LayerNorm)]
    for norm in norms:
        norm.register_forward_hook(lambda module, inputs, out: outputs.append(out.clone()))  # ReLU works in place
    torso(frames())
    assert len(outputs) == len(norms) == len(torso.convs) + 1  # type: ignore[arg-type]
    for number, out in enumerate(outputs):
        assert out.dim() == (2 if number == len(torso.convs) else 4)  # type: ignore[arg-type]
        assert out.mean(dim=1).abs().max() < 1e-4
        assert (out.var(dim=1, unbiased=False) - 1).abs().max() < 0.05


@pytest.mark.parametrize("name", ["nature", "impala", "impala-large"])
def test_without_layer_norm_there_is_none(name: str) -> None:
    assert not [part for part in build_torso(FRAME, name).modules() if isinstance(part, nn.LayerNorm)]


def test_layer_norm_in_an_mlp_is_over_the_units_of_each_layer() -> None:
    torso = build_torso(VECTOR, "mlp", Style(hidden=(16, 12), activation=nn.ReLU, layer_norm=True))
    x = features = wide(VECTOR)
    for first in (0, 3):
        linear, norm, activation = torso.layers[first : first + 3]  # type: ignore[misc,index]
        assert isinstance(activation, nn.ReLU)
        stretch(norm)
        before = normalized(linear(features), dim=1)
        torch.testing.assert_close(before.var(dim=1, unbiased=False), torch.ones(3), atol=1e-2, rtol=0)
        features = F.relu(before * norm.weight + norm.bias)
    torch.testing.assert_close(torso(x), features, atol=1e-4, rtol=1e-4)


def test_layer_norm_in_impala_is_after_the_last_layer() -> None:
    torso = ImpalaResNet(SMALL, (4, 6), 16, Style(layer_norm=True))
    linear, norm, _ = torso.fc  # type: ignore[misc]
    stretch(norm)
    x = wide(SMALL)
    hidden = linear(torso.layers(x).flatten(1))
    torch.testing.assert_close(torso(x), F.relu(normalized(hidden, dim=1) * norm.weight + norm.bias))


@pytest.mark.parametrize(
    ("name", "features"),
    # nature: 84 -> 20 -> 9 -> 7; data-efficient: 84 -> 16 -> 3; impala: 84 -> 42 -> 21 -> 11, or pooled to 6
    [("nature", 64 * 7 * 7), ("data-efficient", 64 * 3 * 3), ("impala", 32 * 11 * 11), ("impala-large", 64 * 6 * 6)],
)
def test_flat_ends_with_the_last_convolution(name: str, features: int) -> None:
    torch.manual_seed(1)
    flat = build_torso(FRAME, name, Style(flat=True, layer_norm=True)).eval()
    full = build_torso(FRAME, name, Style(layer_norm=True)).eval()
    assert flat.out_dim == features
    assert size(flat) == size(full) - size(full.fc)  # type: ignore[arg-type]
    full.load_state_dict(flat.state_dict(), strict=False)  # all but the last layer
    x = frames()
    out = flat(x)
    assert out.shape == (2, features)
    assert torch.equal(full.fc(out), full(x))
    assert (out >= 0).all()  # after its ReLU


def test_nature_is_flat_at_3136() -> None:
    assert build_torso(FRAME, "nature", Style(flat=True)).out_dim == 3136


def test_the_data_efficient_network_has_its_published_size() -> None:
    # 5x5x4x32+32, 5x5x32x64+64, 576x256+256
    torso = build_torso(FRAME, "data-efficient")
    assert size(torso) == 3232 + 51264 + 147712
    assert torso.out_dim == 256
    assert [conv.stride for conv in torso.convs] == [(5, 5), (5, 5)]  # type: ignore[union-attr]


def blocks(torso: nn.Module) -> list[ResidualBlock]:
    return [part for part in torso.modules() if isinstance(part, ResidualBlock)]


def test_impala_large_has_its_published_layers_and_size() -> None:
    torso = build_torso(FRAME, "impala-large")
    sections = [layer.weight.shape[:2] for layer in torso.layers if isinstance(layer, nn.Conv2d)]  # type: ignore[union-attr]
    assert sections == [(32, 4), (64, 32), (64, 64)]
    assert [block.conv1.out_channels for block in blocks(torso)] == [32, 32, 64, 64, 64, 64]
    section = [4 * 9 * 32 + 32, 32 * 9 * 64 + 64, 64 * 9 * 64 + 64]
    residual = [4 * (width * 9 * width + width) for width in (32, 64, 64)]
    assert size(torso) == sum(section) + sum(residual) + 64 * 6 * 6 * 512 + 512
    assert torso.out_dim == 512
    assert torso(frames()).shape == (2, 512)


@pytest.mark.parametrize("side", [20, 84, 100])
def test_impala_large_pools_any_image_to_6x6(side: int) -> None:
    torso = build_torso(spaces.Box(0, 255, (4, side, side), np.uint8), "impala-large")
    images = torch.randint(0, 256, (1, 4, side, side), dtype=torch.uint8)
    assert torso.layers(images.float()).shape == (1, 64, 6, 6)  # type: ignore[operator]
    assert torso(images).shape == (1, 512)


def test_pooling_takes_the_maximum_of_each_cell() -> None:
    torch.manual_seed(2)
    pooled, whole = (ImpalaResNet(SMALL, (4,), style=Style(flat=True), pool=pool).eval() for pool in (5, 0))
    whole.load_state_dict(pooled.state_dict())
    x = wide(SMALL)
    feature_map = whole(x).view(3, 4, 10, 10)
    expected = feature_map.unflatten(3, (5, 2)).unflatten(2, (5, 2)).amax(dim=(3, 5))
    assert torch.equal(pooled(x).view(3, 4, 5, 5), expected)


def kernels(torso: nn.Module) -> list[nn.Module]:
    return [conv for block in blocks(torso) for conv in (block.conv1, block.conv2)]


def largest(conv: nn.Module) -> float:
    """Return the largest singular value of a kernel as a matrix [out, in * 3 * 3]."""
    weight = conv.weight.detach()  # type: ignore[union-attr,operator]
    return torch.linalg.matrix_norm(weight.flatten(1), 2).item()


def test_a_residual_block_adds_its_input() -> None:
    block, x = ResidualBlock(3), torch.randn(2, 3, 5, 5)
    for parameter in block.conv2.parameters():
        nn.init.ones_(parameter)
    inner = block.conv2(F.relu(block.conv1(F.relu(x))))
    torch.testing.assert_close(block(x), x + inner)


def test_residual_kernels_have_a_spectral_norm_of_1_however_they_are_scaled() -> None:
    torso = build_torso(SMALL, "impala-large").eval()
    convs = kernels(torso)
    assert len(convs) == 12
    for conv in convs:
        original = conv.parametrizations.weight.original  # type: ignore[union-attr]
        nn.init.normal_(original, std=50.0 * original.std().item())  # a new kernel, 50 times as large
    assert max(abs(largest(conv) - 1.0) for conv in convs) > 0.5  # the old power iteration no longer fits
    torso.train()
    with torch.no_grad():
        for _ in range(100):
            torso(wide(SMALL, 1))
    torso.eval()
    assert [largest(conv) for conv in convs] == pytest.approx([1.0] * 12, abs=0.02)


def test_only_residual_kernels_of_impala_large_are_normalised() -> None:
    for name, expected in (("impala", 0), ("impala-large", 12)):
        torso = build_torso(SMALL, name)
        assert len([key for key in torso.state_dict() if key.endswith("weight.original")]) == expected
    before = torso.layers[0].weight.detach().clone()  # type: ignore[index,union-attr]
    torso(wide(SMALL))
    assert torch.equal(torso.layers[0].weight, before)  # type: ignore[index,union-attr]


def test_evaluation_changes_nothing_and_training_refines_the_spectral_norms() -> None:
    torso = build_torso(SMALL, "impala-large").eval()
    before = {name: buffer.clone() for name, buffer in torso.named_buffers()}
    assert len([name for name in before if name.endswith("._u")]) == 12
    x = wide(SMALL)
    first = torso(x)
    assert torch.equal(torso(x), first)
    assert all(torch.equal(buffer, before[name]) for name, buffer in torso.named_buffers())
    torso.train()(x)
    changed = {name for name, buffer in torso.named_buffers() if not torch.equal(buffer, before[name])}
    assert {name for name in before if name.endswith(("._u", "._v"))} == changed


def test_spectral_norms_are_saved() -> None:
    torso, other = (build_torso(SMALL, "impala-large") for _ in range(2))
    x = wide(SMALL)
    for _ in range(3):
        torso(x)
    assert not torch.allclose(torso.eval()(x), other.eval()(x))
    other.load_state_dict(torso.state_dict())
    assert torch.equal(other(x), torso(x))


def test_a_deep_copy_is_equal_and_independent() -> None:
    torso, x = build_torso(SMALL, "impala-large"), wide(SMALL)
    torso(x).sum().backward()  # as during training
    twin = copy.deepcopy(torso).eval()
    torso.eval()
    before = torso(x)
    assert torch.equal(twin(x), before)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.mul_(1.5)
    twin.train()(x)
    assert torch.equal(torso(x), before)
    assert not torch.allclose(twin.eval()(x), before)


def test_gradients_reach_every_kernel_of_impala_large() -> None:
    torso = build_torso(SMALL, "impala-large")
    torso(wide(SMALL)).sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in torso.parameters())


def test_flat_returns_the_normalised_observation() -> None:
    numbers = build_torso(spaces.Box(-np.inf, np.inf, (2, 3), np.float32), "flat")
    x = wide(spaces.Box(-np.inf, np.inf, (2, 3), np.float32), 4)
    assert numbers.out_dim == 6
    assert size(numbers) == 0
    assert torch.equal(numbers(x), x.reshape(4, 6))
    counts = build_torso(spaces.Box(0, 10, (3,), np.int64), "flat")
    torch.testing.assert_close(counts(torch.tensor([[0, 5, 10]])), torch.tensor([[0.0, 0.5, 1.0]]))


def test_last_action_and_reward_are_concatenated_unchanged() -> None:
    last = {
        "last_action": spaces.Box(0.0, 1.0, (3,), np.float32),
        "last_reward": spaces.Box(-np.inf, np.inf, (1,), np.float32),
    }
    torso = build_torso(spaces.Dict({"obs": FRAME, "vector": VECTOR, **last}), "dict", Style(hidden=(8,)))
    assert isinstance(torso, DictTorso)
    kinds = {key: isinstance(part, Flat) for key, part in torso.torsos.items()}
    assert kinds == {"obs": False, "vector": False, "last_action": True, "last_reward": True}
    obs = {
        "obs": frames(), "vector": wide(VECTOR, 2),
        "last_action": torch.eye(3)[:2], "last_reward": torch.tensor([[-2.5], [7.0]]),
    }  # fmt: skip
    out, columns = torso(obs), {}
    for key, part in torso.torsos.items():
        columns[key], out = out[:, : part.out_dim], out[:, part.out_dim :]  # type: ignore[misc]
    assert out.shape == (2, 0)
    assert torch.equal(columns["last_action"], obs["last_action"])
    assert torch.equal(columns["last_reward"], obs["last_reward"])
    assert torch.equal(columns["obs"], torso.torsos["obs"](obs["obs"]))
    assert columns["vector"].shape == (2, 8)


def test_an_unknown_name_is_answered_with_all_names() -> None:
    with pytest.raises(ValueError, match="unknown torso 'resnet'") as raised:
        build_torso(FRAME, "resnet")
    message = str(raised.value)
    assert all(name in message for name in TORSOS)
    assert "impala-large" in message
    assert "--torso auto" in message


def test_he_init_by_hand() -> None:
    torso = build_torso(FRAME, "nature")
    model = Model(torso, build_core("none", torso.out_dim, 0), PolicyValueHead(torso.out_dim, spaces.Discrete(60)))
    he_init(model)
    fans = {  # fan in, of each layer
        "torso.convs.0": 4 * 8 * 8, "torso.convs.1": 32 * 4 * 4, "torso.convs.2": 64 * 3 * 3, "torso.fc.0": 3136,
        "head.policy.layer": 512, "head.value": 512,
    }  # fmt: skip
    layers = {name: part for name, part in model.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)}
    assert layers.keys() == fans.keys()
    for name, layer in layers.items():
        gain = 1.0 if name.startswith("head.") else 2.0
        assert layer.weight.std().item() == pytest.approx(math.sqrt(gain / fans[name]), rel=0.1), name
        assert layer.weight.abs().max() > 1.9 * layer.weight.std(), name  # Gaussian: a uniform one ends at 1.73 stds
        assert not layer.bias.any(), name


def test_computing_each_distinct_text_once_equals_computing_every_row() -> None:
    torch.manual_seed(0)
    torso = Tokens(9, embedding=4, out_dim=5)
    texts = torch.tensor([[3, 4, 0, 0, 0], [8, 1, 2, 0, 0], [0, 0, 0, 0, 0], [3, 4, 5, 0, 0]])
    rows = texts[[1, 0, 1, 3, 2, 0, 1]]
    weight = torch.randn(7, 5)
    (torso(rows) * weight).sum().backward()
    grads = [parameter.grad.clone() for parameter in torso.parameters() if parameter.grad is not None]
    torso.zero_grad()
    alone = []
    for row in rows:
        words = row[row != 0] if row.any() else row[:1]
        alone.append(torso.gru(torso.embedding(words)[None])[0][0, -1])
    assert torch.allclose(torso(rows), torch.stack(alone), atol=1e-6)
    (torch.stack(alone) * weight).sum().backward()
    for grad, parameter in zip(grads, torso.parameters(), strict=True):
        assert parameter.grad is not None
        assert torch.allclose(grad, parameter.grad, atol=1e-6)


def test_vectors_of_switches_are_read_as_numbers() -> None:
    torso = build_torso(spaces.MultiBinary(5), "mlp", Style())
    assert torso(torch.ones(3, 5)).shape == (3, torso.out_dim)


def test_a_named_torso_must_read_some_part() -> None:
    numbers = spaces.Box(-1, 1, (3,), np.float32)
    with pytest.raises(ValueError, match="nature"):
        build_torso(spaces.Dict({"a": numbers, "b": numbers}), "nature", Style())

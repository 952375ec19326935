"""Augmentation against a plain loop over the same draws: pad with the border, crop, change intensity."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from agents.augment import augment, augment_batch, random_intensity, random_shift
from agents.interface import Sequences, Transitions


def rng(seed: int = 3) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def frames(*shape: int) -> Tensor:
    """Random images, whose pixels rarely repeat."""
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=rng(0))


def shifts(pad: int, batch: int, generator: torch.Generator) -> list[tuple[int, int]]:
    """Return the shifts (rows, columns) of each image, from the generator's draws."""
    rows, columns = torch.randint(-pad, pad + 1, (2, batch, 1), generator=generator).flatten(1).tolist()
    return list(zip(rows, columns, strict=True))


def padded_and_cropped(image: Tensor, pad: int, row: int, column: int) -> Tensor:
    """DrQ's pad and crop for one image [C, H, W]."""
    _, height, width = image.shape
    big = F.pad(image[None].double(), (pad, pad, pad, pad), mode="replicate")[0]
    top, left = pad + row, pad + column
    return big[:, top : top + height, left : left + width].to(image.dtype)


@pytest.mark.parametrize("pad", [1, 4])
@pytest.mark.parametrize("lead", [(), (5,), (2, 5)])
def test_a_shift_is_a_pad_and_a_crop(lead: tuple[int, ...], pad: int) -> None:
    x = frames(*lead, 7, 3, 12, 10)
    moved = random_shift(x, pad, rng())
    assert moved.shape == x.shape
    drawn = shifts(pad, 7, rng())
    for got, image in zip(moved.view(-1, 7, 3, 12, 10), x.view(-1, 7, 3, 12, 10), strict=True):
        for member, (row, column) in enumerate(drawn):
            assert torch.equal(got[member], padded_and_cropped(image[member], pad, row, column))


def test_each_image_has_one_shift_for_all_its_channels() -> None:
    x = frames(1, 1, 12, 12).expand(200, 3, 12, 12)
    moved = random_shift(x, 2, rng())
    assert len(moved.flatten(1).unique(dim=0)) == 25  # every one of them occurs, and the axes are independent
    assert torch.equal(moved, moved[:, :1].expand_as(moved))


def test_all_steps_of_a_sequence_have_one_shift() -> None:
    x = frames(6, 3, 12, 12).expand(5, 6, 3, 12, 12)
    moved = random_shift(x, 3, rng())
    assert torch.equal(moved, moved[:1].expand_as(moved))
    assert torch.equal(moved[0], random_shift(x[0], 3, rng()))
    assert len(shifts(3, 6, rng())) == len(set(shifts(3, 6, rng())))


def test_shifts_are_at_most_the_pad() -> None:
    drawn = shifts(4, 2000, rng())
    for axis in range(2):
        assert sorted({shift[axis] for shift in drawn}) == list(range(-4, 5))
    marked = torch.zeros(2000, 1, 21, 21)
    marked[..., 10, 10] = 1.0
    _, _, rows, columns = random_shift(marked, 4, rng()).nonzero(as_tuple=True)
    assert list(zip((10 - rows).tolist(), (10 - columns).tolist(), strict=True)) == drawn


def test_no_pad_is_no_change() -> None:
    x = frames(2, 5, 3, 9, 8)
    assert torch.equal(random_shift(x, 0, rng()), x)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16, torch.int64])
def test_a_shift_keeps_dtype_and_values(dtype: torch.dtype) -> None:
    x = frames(5, 3, 8, 8).to(dtype)
    before = x.clone()
    moved = random_shift(x, 3, rng())
    assert moved.dtype == dtype
    assert torch.isin(moved.long(), x.long()).all()
    assert torch.equal(x, before)


def test_borders_are_repeated() -> None:
    x = frames(40, 2, 8, 8)
    drawn = shifts(2, 40, rng())
    moved = random_shift(x, 2, rng())
    looked = 0
    for member, (row, column) in enumerate(drawn):
        if (row, column) == (2, -1):
            inner = x[member, :, 2:, :7]
            assert torch.equal(moved[member, :, :6, 1:], inner)
            assert torch.equal(moved[member, :, 6:, 1:], inner[:, -1:].expand(2, 2, 7))
            assert torch.equal(moved[member, :, :6, 0], inner[:, :, 0])
            looked += 1
    assert looked


def test_channels_last_images_shift_alike() -> None:
    x = frames(5, 3, 8, 8)
    assert torch.equal(
        random_shift(x.contiguous(memory_format=torch.channels_last), 3, rng()), random_shift(x, 3, rng())
    )


@pytest.mark.parametrize("lead", [(), (4,)])
def test_intensity_by_hand(lead: tuple[int, ...]) -> None:
    x = frames(*lead, 6, 3, 8, 8)
    out = random_intensity(x, 0.1, rng())
    noise = torch.randn(6, generator=rng())
    assert out.dtype == torch.float32
    for member, number in enumerate(noise.tolist()):
        expected = x[..., member, :, :, :].float() * (1.0 + 0.1 * min(max(number, -2.0), 2.0))
        torch.testing.assert_close(out[..., member, :, :, :], expected)


def test_intensity_is_bounded() -> None:
    factors = random_intensity(torch.ones(5000, 1, 1, 1), 0.1, rng()).flatten()
    assert factors.min().item() == pytest.approx(0.8)
    assert factors.max().item() == pytest.approx(1.2)
    assert ((factors - 1.2).abs() < 1e-6).float().mean().item() == pytest.approx(0.0228, abs=0.008)  # all beyond 2 stds
    assert factors.mean().item() == pytest.approx(1.0, abs=0.01)
    assert torch.equal(random_intensity(torch.ones(5, 1, 1, 1), 0.0, rng()), torch.ones(5, 1, 1, 1))


@pytest.mark.parametrize("lead", [(), (4,)])
def test_augment_shifts_by_4_and_then_changes_intensity_by_5_percent(lead: tuple[int, ...]) -> None:
    x, generator = frames(*lead, 6, 3, 36, 40), rng()
    expected = random_intensity(random_shift(x, 4, generator), 0.05, generator)
    assert torch.equal(augment(x, len(lead) + 1, rng()), expected)


@pytest.mark.parametrize("lead", [(), (4,)])
def test_augment_keeps_other_arrays(lead: tuple[int, ...]) -> None:
    obs = {
        "direction": frames(*lead, 6).long(), "image": frames(*lead, 6, 3, 36, 40),
        "last_action": torch.rand(*lead, 6, 2), "mission": frames(*lead, 6, 9).long(),
    }  # fmt: skip
    before = {key: value.clone() for key, value in obs.items()}
    out = augment(obs, len(lead) + 1, rng())
    assert out.keys() == obs.keys()
    for key in ("direction", "last_action", "mission"):
        assert out[key] is obs[key]
        assert torch.equal(out[key], before[key])
    assert torch.equal(out["image"], augment(obs["image"], len(lead) + 1, rng()))
    assert not torch.equal(out["image"], before["image"].float())
    assert torch.equal(obs["image"], before["image"])


def test_augment_keeps_vectors() -> None:
    x, generator = torch.rand(6, 5), rng()
    assert augment(x, 1, generator) is x
    grids = torch.rand(3, 6, 9, 9)  # [L, B, H, W] of numbers: four dimensions, but no images
    assert augment(grids, 2, generator) is grids
    planes = torch.rand(6, 4, 10, 10)  # of a small grid, where four cells are another place
    assert augment(planes, 1, generator) is planes
    assert torch.equal(generator.get_state(), rng().get_state())


def test_both_observations_of_a_transition_are_augmented_one_after_the_other() -> None:
    obs, next_obs = frames(3, 2, 40, 40), frames(3, 2, 36, 36)
    one, zero = torch.ones(3), torch.zeros(3)
    batch = augment_batch(Transitions(obs, zero.long(), one, one, next_obs, one, np.arange(3)), rng())
    assert isinstance(batch, Transitions)
    draws = rng()
    torch.testing.assert_close(batch.obs, augment(obs, 1, draws))
    torch.testing.assert_close(batch.next_obs, augment(next_obs, 1, draws))
    assert not torch.equal(batch.next_obs, next_obs.float())


def test_the_steps_of_a_sequence_are_augmented_alike() -> None:
    image = torch.randint(0, 255, (1, 2, 1, 36, 36), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    sequences = Sequences(*[torch.zeros(1)] * len(Sequences._fields))._replace(obs=image.repeat(5, 1, 1, 1, 1))
    out = augment_batch(sequences, torch.Generator().manual_seed(1))
    assert not torch.equal(out.obs, sequences.obs)
    assert all(torch.equal(step, out.obs[0]) for step in out.obs)

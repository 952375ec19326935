"""Imputers and filters against scikit-learn, SciPy and known answers."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from networks.supervised.data import DataError
from networks.supervised.repair import IMPUTERS, make_repairer

ROWS = np.array([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 100.0]])
NAN = np.nan


@pytest.mark.parametrize(("name", "row", "expected"), [
    ("zero", [2.0, NAN], [2.0, 0.0]), ("mean", [2.0, NAN], [2.0, 40.0]), ("median", [NAN, 5.0], [2.5, 5.0]),
    ("last", [NAN, NAN], [2.5, 40.0]),
])  # fmt: skip
def test_imputed_values(name: str, row: list, expected: list) -> None:
    tool = make_repairer(name, (2,)).fit(ROWS)
    assert tool(np.array([row]), np.array([True])).tolist() == [expected]


@pytest.mark.parametrize("name", IMPUTERS)
def test_known_values_stay_unchanged(name: str) -> None:
    rng = np.random.default_rng(0)
    whole = rng.normal(size=(60, 4)) @ rng.normal(size=(4, 4))
    damaged = np.where(rng.random(whole.shape) < 0.3, NAN, whole)
    result = make_repairer(name, (4,)).fit(whole)(damaged, np.zeros(60, bool))
    assert np.isfinite(result).all()
    there = ~np.isnan(damaged)
    assert np.array_equal(result[there], whole[there])


def test_neighbours_and_regression_use_the_other_columns() -> None:
    x = np.linspace(-1, 1, 200)
    whole = np.stack([x, 2 * x, -x], axis=1)
    few, many = np.array([[0.5, NAN, -0.5], [NAN, -1.0, 0.5]]), np.array([[0.5, NAN, NAN], [NAN, -1.0, NAN]])
    expected = [[0.5, 1.0, -0.5], [-0.5, -1.0, 0.5]]
    assert np.allclose(make_repairer("iterative", (3,)).fit(whole)(few), expected, atol=0.02)
    assert np.allclose(make_repairer("knn", (3,)).fit(whole)(many), expected, atol=0.02)


def test_the_last_value_is_kept_per_row_and_reset_with_the_episode() -> None:
    tool = make_repairer("last", (2,)).fit(ROWS)
    first, later = np.array([True, True]), np.array([False, False])
    assert tool(np.array([[7.0, 8.0], [9.0, NAN]]), first).tolist() == [[7.0, 8.0], [9.0, 40.0]]
    assert tool(np.array([[NAN, 1.0], [NAN, NAN]]), later).tolist() == [[7.0, 1.0], [9.0, 40.0]]
    assert tool(np.array([[NAN, NAN], [NAN, 2.0]]), np.array([False, True])).tolist() == [[7.0, 1.0], [2.5, 2.0]]
    in_time = tool(np.array([[5.0, NAN], [NAN, 6.0], [NAN, NAN]]))
    assert in_time.tolist() == [[5.0, 40.0], [5.0, 6.0], [5.0, 6.0]]


def test_image_filters_treat_each_image_and_channel_alone() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (2, 3, 9, 9), dtype=np.uint8)
    for name in ("median", "gaussian", "wiener"):
        result = make_repairer(name, (3, 9, 9))(x)
        assert result.shape == x.shape
        assert result.dtype == np.uint8
        assert np.array_equal(result[1:, 2:], make_repairer(name, (3, 9, 9))(x[1:, 2:]))
    assert np.array_equal(make_repairer("median", (3, 9, 9))(x)[0, 1], ndimage.median_filter(x[0, 1], 3))


def test_the_median_removes_salt_noise_and_wiener_gaussian_noise() -> None:
    rng = np.random.default_rng(0)
    clean = np.full((1, 1, 32, 32), 90, np.uint8)  # far from the ends, where noise is cut
    clean[..., 8:24, 8:24] = 160
    salted = np.where(rng.random(clean.shape) < 0.05, 255, clean).astype(np.uint8)
    noisy = np.clip(clean + rng.normal(0, 25, clean.shape), 0, 255).astype(np.uint8)

    def error(x: np.ndarray) -> float:
        return float(np.abs(x.astype(float) - clean).mean())

    assert error(make_repairer("median", (1, 32, 32))(salted)) < 0.3 * error(salted)
    assert error(make_repairer("wiener", (1, 32, 32))(noisy)) < 0.8 * error(noisy)
    flat = np.full((1, 1, 8, 8), 9, np.uint8)
    assert np.array_equal(make_repairer("wiener", (1, 8, 8))(flat), flat)


def test_spectral_gating_removes_steady_noise_and_keeps_padding() -> None:
    rng = np.random.default_rng(0)
    time = np.arange(8_000) / 8_000
    tone = np.where((time > 0.3) & (time < 0.6), 8_000 * np.sin(2 * np.pi * 500 * time), 0.0)
    noisy = (tone + 400 * rng.normal(size=8_000)).astype(np.int16)
    noisy[7_000:] = 0
    result = make_repairer("spectral-gate", (8_000,))(noisy[None])[0]
    assert result.dtype == np.int16
    assert not result[7_000:].any()
    quiet, loud = slice(200, 2_000), slice(2_800, 4_400)
    assert result[quiet].std() < 0.6 * noisy[quiet].std()
    assert result[loud].std() > 0.9 * tone[loud].std()
    short = np.ones((1, 100), np.int16)
    assert make_repairer("median", (8_000,))(np.ones((1, 8_000), np.int16)).tolist() == [[1] * 8_000]
    assert make_repairer("spectral-gate", (1_000,))(short).tolist() == short.tolist()


@pytest.mark.parametrize(("name", "shape", "words"), [
    ("knn", (3, 8, 8), "3x8x8 is repaired by median, gaussian, wiener, not by knn"),
    ("gaussian", (4,), "4 is repaired by zero, last, mean, median, knn, iterative, not by gaussian"),
    ("knn", (8_000,), "is repaired by median, gaussian, wiener, spectral-gate"),
])  # fmt: skip
def test_a_repair_of_another_modality_is_refused(name: str, shape: tuple, words: str) -> None:
    with pytest.raises(DataError, match=words):
        make_repairer(name, shape)

"""Repair of observations: imputation of missing values and filters against noise.

Imputers: scikit-learn's mean, median, nearest neighbours (Troyanskaya et al. 2001) and iterative regression (van Buuren
& Groothuis-Oudshoorn 2011), and the last observed value. Filters: SciPy's, and spectral gating (Boll 1979).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from networks.supervised.data import DataError

MAX_FIT_ROWS = 2_000
"""Examples used to fit an imputer; nearest neighbours are searched at every env step."""


class Repairer(ABC):
    """Fitted on complete examples [N, ...], then applied to any."""

    def fit(self, x: np.ndarray) -> Repairer:
        """Fit on complete examples; return self."""
        return self

    @abstractmethod
    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """Return x [N, ...] repaired; `first` bool [N] marks the first step of an episode, for repairers with state."""


class ZeroFill(Repairer):
    """Replaces missing values by 0."""

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """[N, D] -> [N, D]."""
        return np.nan_to_num(x, nan=0.0)


class LastSeen(Repairer):
    """Replaces a missing value by the last one of the same row of the vector env, or by the mean before any."""

    def fit(self, x: np.ndarray) -> LastSeen:
        """Fit the means."""
        self.mean, self.last = np.nanmean(x, axis=0), np.zeros((0, *x.shape[1:]))
        return self

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """[N, D] -> [N, D]; without `first`, the rows are consecutive in time."""
        if first is None:
            repaired, last = np.array(x), self.mean
            for row in repaired:
                row[:] = last = np.where(np.isnan(row), last, row)
            return repaired
        if len(self.last) != len(x):
            self.last = np.tile(self.mean, (len(x), 1))
        self.last = np.where(first[:, None], self.mean, self.last)
        self.last = np.where(np.isnan(x), self.last, x)
        return self.last.copy()


class SklearnImputer(Repairer):
    """An imputer of scikit-learn."""

    def __init__(self, name: str):
        self.name = name

    def fit(self, x: np.ndarray) -> SklearnImputer:
        """Fit on complete rows [N, D]."""
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (enables the next import)
        from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

        kinds: dict[str, Any] = {
            "mean": lambda: SimpleImputer(strategy="mean", keep_empty_features=True),
            "median": lambda: SimpleImputer(strategy="median", keep_empty_features=True),
            "knn": lambda: KNNImputer(n_neighbors=5, keep_empty_features=True),
            "iterative": lambda: IterativeImputer(random_state=0, max_iter=10, keep_empty_features=True),
        }
        self.imputer = kinds[self.name]().fit(_sample(x))
        return self

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """[N, D] -> [N, D]."""
        return self.imputer.transform(x) if np.isnan(x).any() else x


class NoiseFilter(Repairer):
    """A SciPy filter over height and width of images [N, C, H, W], or over time of recordings [N, L]."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """Return the filtered x, in the same shape and dtype."""
        from scipy import ndimage, signal

        size = [1] * (x.ndim - 2) + [3, 3] if x.ndim == 4 else [1] * (x.ndim - 1) + [5]
        if self.name == "median":
            return ndimage.median_filter(x, size)
        if self.name == "gaussian":
            widths = [0.8 if part > 1 else 0.0 for part in size]
            return _cast(ndimage.gaussian_filter(x.astype(np.float32), widths), x)
        planes = x.reshape(-1, *x.shape[-2:]) if x.ndim == 4 else x
        window = size[-planes[0].ndim :]
        pad = [width // 2 for width in window]
        with np.errstate(divide="ignore", invalid="ignore"):  # constant windows divide 0 by 0
            padded = np.pad(planes.astype(np.float64), [(0, 0), *((width, width) for width in pad)], mode="edge")
            filtered = np.stack([signal.wiener(plane, window) for plane in padded])
        inner = (slice(None), *(slice(width, -width) for width in pad))
        return _cast(np.where(np.isfinite(filtered), filtered, padded)[inner].reshape(x.shape), x)


class SpectralGate(Repairer):
    """Attenuates each frequency band of a recording [N, L] wherever it is below twice its 10 % quantile."""

    WINDOW = 256

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """[N, L] -> [N, L]; padding stays 0."""
        from scipy import signal

        if x.shape[1] < self.WINDOW:
            return x
        _, _, bands = signal.stft(x.astype(np.float32), nperseg=self.WINDOW)
        magnitude = np.abs(bands)
        ends = [int(np.flatnonzero(row)[-1]) // (self.WINDOW // 2) if row.any() else 0 for row in x]
        floor = np.stack(
            [np.quantile(part[:, : end + 1], 0.1, axis=1) for part, end in zip(magnitude, ends, strict=True)]
        )
        floor = floor[:, :, None]
        gain = np.clip((magnitude - 2.0 * floor) / np.maximum(magnitude, 1e-9), 0.1, 1.0)
        _, wave = signal.istft(bands * gain, nperseg=self.WINDOW)
        wave = wave[:, : x.shape[1]]
        return _cast(np.where(x == 0, 0.0, np.pad(wave, ((0, 0), (0, x.shape[1] - wave.shape[1])))), x)


IMPUTERS: dict[str, Callable[[], Repairer]] = {
    "zero": ZeroFill, "last": LastSeen,
    **{name: partial(SklearnImputer, name) for name in ("mean", "median", "knn", "iterative")},
}  # fmt: skip
"""Name -> constructor of an imputer for vectors."""
IMAGE_FILTERS = ("median", "gaussian", "wiener")
SOUND_FILTERS = ("median", "gaussian", "wiener", "spectral-gate")


def make_repairer(name: str, shape: tuple[int, ...]) -> Repairer:
    """Return the repairer `name` for observations [D], images [C, H, W], or recordings [L] with L >= 1,000."""
    if len(shape) == 3:
        available: tuple[str, ...] = IMAGE_FILTERS
    else:
        available = SOUND_FILTERS if shape[0] >= 1_000 else tuple(IMPUTERS)
    if name not in available:
        raise DataError(
            f"an array of shape {'x'.join(map(str, shape))} is repaired by {', '.join(available)}, not by {name}"
        )
    if name == "spectral-gate":
        return SpectralGate()
    return IMPUTERS[name]() if available == tuple(IMPUTERS) else NoiseFilter(name)


def _sample(x: np.ndarray) -> np.ndarray:
    rows = np.random.default_rng(0).permutation(len(x))[:MAX_FIT_ROWS]
    return x[np.sort(rows)]


def _cast(values: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Convert values to the dtype of x, rounded and clipped to its range if it is an integer."""
    if np.issubdtype(x.dtype, np.integer):
        values = np.rint(np.clip(values, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max))
    return values.astype(x.dtype)

"""Repair of observations: numbers that are missing, and noise. Learned from whole examples, then used on any.

The imputers are scikit-learn's (mean and median; the nearest rows that are known, Troyanskaya et al. 2001; regression
of each number on the others, van Buuren & Groothuis-Oudshoorn 2011) and the last value that was seen. The filters are
SciPy's; spectral gating takes away what is not louder than a recording's quietest moments (Boll 1979).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from networks.supervised.data import DataError

MOST_ROWS = 2_000
"""Examples that a repair is learned from at most: the nearest rows are looked for at every step of a game."""


class Repairer(ABC):
    """Learns from whole examples [N, ...], and repairs others."""

    def fit(self, x: np.ndarray) -> Repairer:
        """Learn from whole examples; return itself."""
        return self

    @abstractmethod
    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """Return x [N, ...] repaired; `first` [N] says which open an episode, and matters to those with a memory."""


class Constant(Repairer):
    """0 for whatever is missing."""

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """[N, D] -> [N, D]."""
        return np.nan_to_num(x, nan=0.0)


class LastSeen(Repairer):
    """The last value that each place had in the same row of games; the mean before there was one."""

    def fit(self, x: np.ndarray) -> LastSeen:
        """Learn the means."""
        self.mean, self.last = np.nanmean(x, axis=0), np.zeros((0, *x.shape[1:]))
        return self

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """[N, D] -> [N, D]; without `first`, the rows follow one another in time."""
        if first is None:
            found, last = np.array(x), self.mean
            for row in found:
                row[:] = last = np.where(np.isnan(row), last, row)
            return found
        if len(self.last) != len(x):
            self.last = np.tile(self.mean, (len(x), 1))
        self.last = np.where(first[:, None], self.mean, self.last)
        self.last = np.where(np.isnan(x), self.last, x)
        return self.last.copy()


class Learned(Repairer):
    """One of scikit-learn's imputers."""

    def __init__(self, name: str):
        self.name = name

    def fit(self, x: np.ndarray) -> Learned:
        """Learn from whole rows [N, D]."""
        from sklearn.experimental import enable_iterative_imputer  # noqa: F401  (which makes the next line work)
        from sklearn.impute import IterativeImputer, KNNImputer, SimpleImputer

        kinds: dict[str, Any] = {
            "mean": lambda: SimpleImputer(strategy="mean", keep_empty_features=True),
            "median": lambda: SimpleImputer(strategy="median", keep_empty_features=True),
            "knn": lambda: KNNImputer(n_neighbors=5, keep_empty_features=True),
            "iterative": lambda: IterativeImputer(random_state=0, max_iter=10, keep_empty_features=True),
        }
        self.imputer = kinds[self.name]().fit(_some(x))
        return self

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """[N, D] -> [N, D]."""
        return self.imputer.transform(x) if np.isnan(x).any() else x


class Filter(Repairer):
    """One of SciPy's filters over height and width of pictures [N, C, H, W]; or over time, of recordings [N, L]."""

    def __init__(self, name: str):
        self.name = name

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """Return the same shape and type."""
        from scipy import ndimage, signal

        size = [1] * (x.ndim - 2) + [3, 3] if x.ndim == 4 else [1] * (x.ndim - 1) + [5]
        if self.name == "median":
            return ndimage.median_filter(x, size)
        if self.name == "gaussian":
            widths = [0.8 if part > 1 else 0.0 for part in size]
            return _as(ndimage.gaussian_filter(x.astype(np.float32), widths), x)
        planes = x.reshape(-1, *x.shape[-2:]) if x.ndim == 4 else x
        window = size[-planes[0].ndim :]
        pad = [width // 2 for width in window]
        with np.errstate(divide="ignore", invalid="ignore"):  # where nothing varies there is nothing to do
            padded = np.pad(planes.astype(np.float64), [(0, 0), *((width, width) for width in pad)], mode="edge")
            found = np.stack([signal.wiener(plane, window) for plane in padded])
        inner = (slice(None), *(slice(width, -width) for width in pad))
        return _as(np.where(np.isfinite(found), found, padded)[inner].reshape(x.shape), x)


class SpectralGate(Repairer):
    """Take away, in each band of a recording [N, L], what is not louder than twice its quietest tenth of moments."""

    WINDOW = 256

    def __call__(self, x: np.ndarray, first: np.ndarray | None = None) -> np.ndarray:
        """[N, L] -> [N, L]; what lies behind the end stays 0."""
        from scipy import signal

        if x.shape[1] < self.WINDOW:
            return x
        _, _, bands = signal.stft(x.astype(np.float32), nperseg=self.WINDOW)
        loud = np.abs(bands)
        ends = [int(np.flatnonzero(row)[-1]) // (self.WINDOW // 2) if row.any() else 0 for row in x]
        floor = np.stack([np.quantile(part[:, : end + 1], 0.1, axis=1) for part, end in zip(loud, ends, strict=True)])
        floor = floor[:, :, None]
        gain = np.clip((loud - 2.0 * floor) / np.maximum(loud, 1e-9), 0.1, 1.0)
        _, found = signal.istft(bands * gain, nperseg=self.WINDOW)
        kept = found[:, : x.shape[1]]
        return _as(np.where(x == 0, 0.0, np.pad(kept, ((0, 0), (0, x.shape[1] - kept.shape[1])))), x)


IMPUTERS: dict[str, Callable[[], Repairer]] = {
    "zero": Constant, "last": LastSeen,
    **{name: partial(Learned, name) for name in ("mean", "median", "knn", "iterative")},
}  # fmt: skip
"""Name -> what puts a number where one is missing from a vector."""
IMAGE_FILTERS = ("median", "gaussian", "wiener")
SOUND_FILTERS = ("median", "gaussian", "wiener", "spectral-gate")


def repairer(name: str, shape: tuple[int, ...]) -> Repairer:
    """Return what is called `name` for examples of a shape: [D], [C, H, W], or a recording [L] of 1,000 and more."""
    if len(shape) == 3:
        fitting: tuple[str, ...] = IMAGE_FILTERS
    else:
        fitting = SOUND_FILTERS if shape[0] >= 1_000 else tuple(IMPUTERS)
    if name not in fitting:
        raise DataError(f"{'x'.join(map(str, shape))} is repaired by {', '.join(fitting)}, not by {name}")
    if name == "spectral-gate":
        return SpectralGate()
    return IMPUTERS[name]() if fitting == tuple(IMPUTERS) else Filter(name)


def _some(x: np.ndarray) -> np.ndarray:
    rows = np.random.default_rng(0).permutation(len(x))[:MOST_ROWS]
    return x[np.sort(rows)]


def _as(found: np.ndarray, x: np.ndarray) -> np.ndarray:
    if np.issubdtype(x.dtype, np.integer):
        found = np.rint(np.clip(found, np.iinfo(x.dtype).min, np.iinfo(x.dtype).max))
    return found.astype(x.dtype)

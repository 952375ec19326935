"""Examples: inputs as an encoder reads them, targets by head, and what must not be torn apart by a split."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

IGNORE = -1
"""A target that is not known, as where the ball cannot be seen: it costs nothing and counts for nothing."""


class DataError(ValueError):
    """Data that cannot be read or learned from, in one line that says why."""


@dataclass(frozen=True)
class Data:
    """Examples side by side."""

    x: np.ndarray
    """[N, ...] of the observation's own type."""
    y: dict[str, np.ndarray]
    """Head -> class numbers [N], or token ids [N, L], IGNORE where unknown."""
    group: np.ndarray
    """[N]: episode, voice, author or pair of words that an example belongs to."""

    def __post_init__(self) -> None:
        for name, part in (*self.y.items(), ("group", self.group)):
            if len(part) != len(self.x):
                raise DataError(f"{len(self.x)} inputs and {len(part)} of '{name}' do not belong together")

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: np.ndarray) -> Data:
        """Return some of the examples."""
        return Data(self.x[index], {name: part[index] for name, part in self.y.items()}, self.group[index])

    @property
    def fingerprint(self) -> str:
        """What tells two data sets apart."""
        digest = hashlib.sha256()
        for part in (self.x, *(self.y[name] for name in sorted(self.y)), self.group):
            digest.update(str((part.shape, part.dtype)).encode())
            digest.update(
                np.ascontiguousarray(part).tobytes() if part.dtype != object else repr(part.tolist()).encode()
            )
        return digest.hexdigest()[:12]


class Splits(NamedTuple):
    """What is learned from, what decides when to stop, and what is judged by."""

    train: Data
    valid: Data
    test: Data


def split(data: Data, rng: np.random.Generator, shares: Sequence[float] = (0.8, 0.1, 0.1)) -> Splits:
    """Split by group, so that no episode, voice or pair is on two sides; raise DataError with too few groups."""
    groups = rng.permutation(np.unique(data.group))
    if len(groups) < 3:
        raise DataError(f"{len(groups)} groups cannot be split in three; collect more")
    first = max(1, round(len(groups) * shares[1]))
    second = first + max(1, round(len(groups) * shares[2]))
    valid, test = np.isin(data.group, groups[:first]), np.isin(data.group, groups[first:second])
    return Splits(data.take(~valid & ~test), data.take(valid), data.take(test))


def check_apart(splits: Splits) -> None:
    """Raise DataError where a group is on two sides."""
    sets = [set(np.unique(part.group).tolist()) for part in splits]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        both = sets[one] & sets[other]
        if both:
            raise DataError(f"{len(both)} groups, such as {sorted(both)[0]}, are on two sides of the split")

"""Examples with targets and groups, and splits that keep groups together."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

IGNORE = -1
"""Target that is unknown, such as the position of a hidden ball; excluded from losses and metrics."""


class DataError(ValueError):
    """Data cannot be read or learned from; the message is one line with the reason."""


@dataclass(frozen=True)
class Data:
    """N examples."""

    x: np.ndarray
    """[N, ...] in the dtype of the observation."""
    y: dict[str, np.ndarray]
    """Head -> class indices [N] or token ids [N, L], IGNORE where unknown."""
    group: np.ndarray
    """[N]: episode, voice, author or word pair of each example; a split never divides a group."""

    def __post_init__(self) -> None:
        for name, part in (*self.y.items(), ("group", self.group)):
            if len(part) != len(self.x):
                raise DataError(f"{len(self.x)} inputs do not match {len(part)} values of '{name}'")

    def __len__(self) -> int:
        return len(self.x)

    def take(self, index: np.ndarray) -> Data:
        """Return the examples at an index array or boolean mask."""
        return Data(self.x[index], {name: part[index] for name, part in self.y.items()}, self.group[index])

    @property
    def fingerprint(self) -> str:
        """Hash of all inputs, targets and groups."""
        digest = hashlib.sha256()
        for part in (self.x, *(self.y[name] for name in sorted(self.y)), self.group):
            digest.update(str((part.shape, part.dtype)).encode())
            digest.update(
                np.ascontiguousarray(part).tobytes() if part.dtype != object else repr(part.tolist()).encode()
            )
        return digest.hexdigest()[:12]


class Splits(NamedTuple):
    """Examples for training, for early stopping and model selection, and for the final test."""

    train: Data
    valid: Data
    test: Data


def split(data: Data, rng: np.random.Generator, shares: Sequence[float] = (0.8, 0.1, 0.1)) -> Splits:
    """Split by group into train, validation and test; raise DataError with fewer than three groups."""
    groups = rng.permutation(np.unique(data.group))
    if len(groups) < 3:
        raise DataError(f"{len(groups)} groups cannot be split in three; collect more")
    first = max(1, round(len(groups) * shares[1]))
    second = first + max(1, round(len(groups) * shares[2]))
    valid, test = np.isin(data.group, groups[:first]), np.isin(data.group, groups[first:second])
    return Splits(data.take(~valid & ~test), data.take(valid), data.take(test))


def check_disjoint(splits: Splits) -> None:
    """Raise DataError if a group is in two splits."""
    sets = [set(np.unique(part.group).tolist()) for part in splits]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        shared = sets[one] & sets[other]
        if shared:
            raise DataError(f"{len(shared)} groups, such as {sorted(shared)[0]}, are in two splits")

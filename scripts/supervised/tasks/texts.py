"""What tasks share that choose a class for a text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from networks.encoders.vocabulary import Vocabulary
from networks.supervised.data import Data
from scripts.supervised.tasks.base import ClassTask


class TextTask(ClassTask):
    """Texts as token ids of the words that were learned from, once they are collected."""

    longest: ClassVar[int]
    """Words of a text that are read."""
    words: Vocabulary

    def ids(self, texts: Sequence[str]) -> np.ndarray:
        """Return the numbers of the texts' words, [N, longest]."""
        return self.words.array(texts, self.longest)

    def space(self) -> spaces.Space:
        """Return that of token ids."""
        return spaces.MultiDiscrete([self.words.size] * self.longest)

    def meaning(self) -> dict[str, Any]:
        """Return which words the numbers stand for."""
        return {"vocabulary": self.words.sha256}

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """That of the input."""
        return {"input": self.words}

    def features(self, data: Data) -> Any:
        """Return TF-IDF of words and pairs."""
        return tfidf(data.x, self.words.size)


def tfidf(ids: np.ndarray, size: int) -> np.ndarray:
    """Return counts of words and of neighbouring pairs (hashed), scaled by how rare they are, [N, D]."""
    pairs = (ids[:, :-1] * 31 + ids[:, 1:]) % 512 + size
    both = np.where(ids[:, 1:] != 0, pairs, 0)
    counts = np.zeros((len(ids), size + 512), np.float32)
    for row, numbers in enumerate(np.concatenate([ids, both], axis=1)):
        np.add.at(counts[row], numbers[numbers > 0], 1.0)
    return counts * np.log((1 + len(ids)) / (1 + (counts > 0).sum(axis=0))) + counts

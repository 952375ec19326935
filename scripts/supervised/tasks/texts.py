"""Base of text classification tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from networks.encoders.vocabulary import Vocabulary
from networks.supervised.data import Data
from scripts.supervised.tasks.base import ClassificationTask


class TextClassificationTask(ClassificationTask):
    """Classifies texts as word ids; `collect` sets the vocabulary."""

    longest: ClassVar[int]
    """Maximum length of a text in words."""
    words: Vocabulary

    def ids(self, texts: Sequence[str]) -> np.ndarray:
        """Return the word ids of N texts, [N, longest]."""
        return self.words.array(texts, self.longest)

    def space(self) -> spaces.Space:
        """Return the space of the token ids."""
        return spaces.MultiDiscrete([self.words.size] * self.longest)

    def input_meaning(self) -> dict[str, Any]:
        """Return the hash of the vocabulary."""
        return {"vocabulary": self.words.sha256}

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Return the vocabulary of the input."""
        return {"input": self.words}

    def features(self, data: Data) -> Any:
        """Return TF-IDF of words and word pairs."""
        return tfidf(data.x, self.words.size)


def tfidf(ids: np.ndarray, size: int) -> np.ndarray:
    """Return TF-IDF of words and (hashed) pairs of neighbouring words for ids [N, L], [N, size + 512]."""
    pairs = (ids[:, :-1] * 31 + ids[:, 1:]) % 512 + size
    bigrams = np.where(ids[:, 1:] != 0, pairs, 0)
    counts = np.zeros((len(ids), size + 512), np.float32)
    for row, features in enumerate(np.concatenate([ids, bigrams], axis=1)):
        np.add.at(counts[row], features[features > 0], 1.0)
    return counts * np.log((1 + len(ids)) / (1 + (counts > 0).sum(axis=0))) + counts

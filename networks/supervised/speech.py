"""Shared pieces of speech: recordings of one length, and words that missions have."""

from __future__ import annotations

import numpy as np

from networks.supervised.mission_grammar import COLORS, TYPES

OTHERS = "a the go to pick up open put next object on your left right in front of you behind"
WORDS = tuple(sorted({*COLORS, *TYPES, *OTHERS.split()}))
"""Of missions of one clause."""


def fitted(wave: np.ndarray, length: int) -> np.ndarray:
    """Return a recording of exactly `length` samples; 0 is what lies behind its end."""
    heard = np.where(wave == 0, 1, wave)[:length].astype(np.int16)
    return np.pad(heard, (0, length - len(heard)))


def snap(text: str) -> str:
    """Take each word for the nearest one that missions have, where one is near."""
    from rapidfuzz import process

    found = []
    for word in text.split():
        near = process.extractOne(word, WORDS, score_cutoff=50.0)
        found.append(near[0] if near else word)
    return " ".join(found)

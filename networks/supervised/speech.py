"""Waveforms of another rate or length, and the vocabulary of spoken missions."""

from __future__ import annotations

from math import gcd

import numpy as np

from networks.supervised.mission_grammar import COLORS, TYPES

FUNCTION_WORDS = "a the go to pick up open put next object on your left right in front of you behind"
WORDS = tuple(sorted({*COLORS, *TYPES, *FUNCTION_WORDS.split()}))
"""All words of single-clause missions."""


def resample(wave: np.ndarray, before: int, after: int) -> np.ndarray:
    """Resample int16 samples from one rate (Hz) to another."""
    from scipy.signal import resample_poly

    if before == after or not len(wave):
        return wave.astype(np.int16)
    common = gcd(before, after)
    resampled = resample_poly(wave.astype(np.float32), after // common, before // common)
    return np.clip(resampled, -32767, 32767).astype(np.int16)


def pad_to(wave: np.ndarray, length: int) -> np.ndarray:
    """Truncate or zero-pad a recording to `length` samples; zeros inside it become 1, since 0 marks padding."""
    recording = np.where(wave == 0, 1, wave)[:length].astype(np.int16)
    return np.pad(recording, (0, length - len(recording)))


def snap_to_vocabulary(text: str) -> str:
    """Replace each word by the most similar mission word, if one is similar enough."""
    from rapidfuzz import process

    words = []
    for word in text.split():
        match = process.extractOne(word, WORDS, score_cutoff=50.0)
        words.append(match[0] if match else word)
    return " ".join(words)

"""Read speech and translation corpora from disk, as unpacked.

Speech Commands (Warden 2018; section 7.1 describes the split by speaker hash), LibriSpeech (Panayotov et al. 2015),
and sentence pairs as distributed by manythings.org (Anki) and Tatoeba.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from networks.supervised.data import DataError
from networks.supervised.speech import resample

SOUND_SUFFIXES = (".wav", ".flac", ".ogg")
NOISE_FOLDER = "_background_noise_"


class Recordings(NamedTuple):
    """Labelled recordings of single words; every speaker is in one split only."""

    waves: list[np.ndarray]
    """int16 [samples] each, at the requested rate."""
    labels: list[str]
    speakers: list[str]
    splits: list[str]
    """train, valid or test."""


def read_sound(path: Path, rate: int) -> np.ndarray:
    """Read a recording of any rate and channel count as mono int16 [samples]; raise DataError if it is unreadable."""
    try:
        import soundfile
    except ImportError as error:
        raise DataError("reading recordings needs soundfile: pip install '.[supervised]'") from error
    try:
        wave, file_rate = soundfile.read(str(path), dtype="float64", always_2d=True)  # -1 to 1, as floats are stored
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise DataError(f"{path} cannot be read as sound: {error}") from error
    if not len(wave):
        raise DataError(f"{path} is empty")
    if not np.isfinite(wave).all():
        raise DataError(f"{path} holds samples that are not finite numbers")
    mono = np.clip(np.rint(wave.mean(axis=1) * 2**15), -(2**15), 2**15 - 1).astype(np.int16)
    return resample(mono, int(file_rate), rate)


def read_speech_commands(path: Path, rate: int, limit: int) -> Recordings:
    """Read WORD/SPEAKER_nohash_N.wav; at most `limit` recordings, the same number for each word.

    The split follows validation_list.txt and testing_list.txt where present, else the hash of the speaker.
    """
    if not path.is_dir():
        raise DataError(f"{path} is not a folder; expected {path}/WORD/SPEAKER_nohash_0.wav")
    words = sorted(entry.name for entry in path.iterdir() if entry.is_dir() and entry.name != NOISE_FOLDER)
    files = {
        word: sorted(file for file in (path / word).iterdir() if file.suffix.lower() in SOUND_SUFFIXES)
        for word in words
    }
    empty = [word for word in words if not files[word]]
    if len(words) < 2 or empty:
        problem = f"has no recording of {', '.join(empty[:3])}" if empty else "has fewer than two folders of words"
        raise DataError(f"{path} {problem}; expected {path}/WORD/SPEAKER_nohash_0.wav")
    lists = {split: _read_list(path / name) for split, name in
             (("valid", "validation_list.txt"), ("test", "testing_list.txt"))}  # fmt: skip
    per_word = max(limit // len(words), 1)
    recordings = Recordings([], [], [], [])
    for word in words:
        chosen = np.random.default_rng(0).permutation(len(files[word]))[:per_word]
        for file in (files[word][index] for index in np.sort(chosen)):
            listed = next((split for split, names in lists.items() if f"{word}/{file.name}" in names), "train")
            recordings.waves.append(read_sound(file, rate))
            recordings.labels.append(word)
            recordings.speakers.append(_speaker(file.stem))
            recordings.splits.append(listed if any(lists.values()) else split_by_speaker(file.stem))
    return recordings


def _read_list(path: Path) -> set[str]:
    return set(path.read_text().split()) if path.is_file() else set()


def _speaker(name: str) -> str:
    return re.sub(r"_nohash_.*$", "", name)


def split_by_speaker(name: str, valid: float = 10.0, test: float = 10.0) -> str:
    """Return the split of a recording by the hash of its speaker (Warden 2018, section 7.1); shares in percent."""
    max_files = 2**27 - 1  # per class, from the data set's own rule
    digest = int(hashlib.sha1(_speaker(name).encode()).hexdigest(), 16)
    percentile = digest % (max_files + 1) * (100.0 / max_files)
    return "valid" if percentile < valid else "test" if percentile < valid + test else "train"


class Utterance(NamedTuple):
    """A recorded sentence with its transcript."""

    file: Path
    text: str
    speaker: str


def read_librispeech(path: Path) -> Iterator[Utterance]:
    """Yield the utterances of all `*.trans.txt` below a folder: lines `SPEAKER-CHAPTER-NUMBER TEXT`."""
    lists = sorted(path.rglob("*.trans.txt")) if path.is_dir() else []
    if not lists:
        raise DataError(f"{path} has no *.trans.txt; expected {path}/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt")
    for file in lists:
        for number, line in enumerate(_read_lines(file), start=1):
            name, _, text = line.partition(" ")
            if not text.strip():
                raise DataError(f"{file}, line {number}: no text after the name")
            suffixes = (*SOUND_SUFFIXES, *(suffix.upper() for suffix in SOUND_SUFFIXES))
            candidates = [file.parent / f"{name}{suffix}" for suffix in suffixes]
            sound = next((candidate for candidate in candidates if candidate.is_file()), None)
            if sound is None:
                raise DataError(f"{file}, line {number}: there is no {candidates[1].name} beside it")
            yield Utterance(sound, text.strip().lower(), name.split("-")[0])


def _read_lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def read_sentence_pairs(path: Path) -> list[tuple[str, str]]:
    """Read tab-separated lines: English, another language, and optional columns that are ignored.

    In Tatoeba's own export, where the first column is a number, the texts are the second and fourth column.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; give lines of English, a tab and the other language")
    rows = [line.split("\t") for line in _read_lines(path)]
    if not rows:
        raise DataError(f"{path} is empty")
    columns: Sequence[int] = (1, 3) if all(row[0].strip().isdigit() for row in rows) else (0, 1)
    pairs = []
    for number, row in enumerate(rows, start=1):
        if len(row) <= columns[1] or not all(row[column].strip() for column in columns):
            raise DataError(f"{path}, line {number}: expected two texts with a tab between them")
        pairs.append((row[columns[0]].strip(), row[columns[1]].strip()))
    return pairs

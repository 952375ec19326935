"""Readers of standard corpora of speech and of translations, as they lie on disk once they are unpacked.

Speech Commands: Warden 2018 (section 7.1 has the rule by which speakers are dealt to train, validation and test).
LibriSpeech: Panayotov et al. 2015. Sentence pairs as manythings.org (Anki) and Tatoeba hand them out.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from networks.supervised.data import DataError

SOUNDS = (".wav", ".flac", ".ogg")
NOISE_FOLDER = "_background_noise_"
Resample = Callable[[np.ndarray, int, int], np.ndarray]
"""(int16 samples, rate before, rate after) -> int16 samples."""


class Recordings(NamedTuple):
    """Recordings of words, of which each belongs to a speaker, and each speaker to one side."""

    waves: list[np.ndarray]
    """int16, at the rate that was asked for."""
    labels: list[str]
    speakers: list[str]
    sides: list[str]
    """train, valid or test."""


def sound(path: Path, rate: int, resample: Resample) -> np.ndarray:
    """Read a recording of any rate and number of channels as int16 [samples]; raise DataError where it is none."""
    try:
        import soundfile
    except ImportError as error:
        raise DataError("recordings are read by soundfile: pip install '.[supervised]'") from error
    try:
        wave, own = soundfile.read(str(path), dtype="int16", always_2d=True)
    except (soundfile.LibsndfileError, OSError, TypeError) as error:
        raise DataError(f"{path} cannot be read as sound: {error}") from error
    if not len(wave):
        raise DataError(f"{path} is empty")
    return resample(np.rint(wave.mean(axis=1)).astype(np.int16), int(own), rate)


def speech_commands(path: Path, rate: int, resample: Resample, most: int) -> Recordings:
    """Read a folder of words, each with recordings named SPEAKER_nohash_N.wav; at most `most`, dealt evenly.

    The lists that come with the data set say which are for validation and testing; without them it is the speakers'
    hashes, by the data set's own rule.
    """
    if not path.is_dir():
        raise DataError(f"{path} is no folder; expected {path}/WORD/SPEAKER_nohash_0.wav")
    words = sorted(each.name for each in path.iterdir() if each.is_dir() and each.name != NOISE_FOLDER)
    files = {word: sorted(file for file in (path / word).iterdir() if file.suffix in SOUNDS) for word in words}
    empty = [word for word in words if not files[word]]
    if len(words) < 2 or empty:
        problem = f"has no recording in {', '.join(empty[:3])}" if empty else "has no two folders of words"
        raise DataError(f"{path} {problem}; expected {path}/WORD/SPEAKER_nohash_0.wav")
    listed = {side: _listed(path / name) for side, name in
              (("valid", "validation_list.txt"), ("test", "testing_list.txt"))}  # fmt: skip
    each = max(most // len(words), 1)
    found = Recordings([], [], [], [])
    for word in words:
        chosen = np.random.default_rng(0).permutation(len(files[word]))[:each]
        for file in (files[word][number] for number in np.sort(chosen)):
            name = f"{word}/{file.name}"
            by_list = next((side for side, names in listed.items() if name in names), "train")
            found.waves.append(sound(file, rate, resample))
            found.labels.append(word)
            found.speakers.append(re.sub(r"_nohash_.*$", "", file.stem))
            found.sides.append(by_list if any(listed.values()) else dealt(file.stem))
    return found


def _listed(path: Path) -> set[str]:
    return set(path.read_text().split()) if path.is_file() else set()


def dealt(name: str, valid: float = 10.0, test: float = 10.0) -> str:
    """Return the side of a recording by the hash of its speaker, as Speech Commands deals them."""
    speaker = re.sub(r"_nohash_.*$", "", name)
    most = 2**27 - 1  # files of a class at most
    share = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % (most + 1) * (100.0 / most)
    return "valid" if share < valid else "test" if share < valid + test else "train"


class Utterance(NamedTuple):
    """A sentence that somebody read out."""

    file: Path
    text: str
    speaker: str


def librispeech(path: Path) -> Iterator[Utterance]:
    """Yield what the `*.trans.txt` below a folder list: SPEAKER-CHAPTER-NUMBER TEXT, and the sound beside them."""
    lists = sorted(path.rglob("*.trans.txt")) if path.is_dir() else []
    if not lists:
        raise DataError(f"{path} has no *.trans.txt; expected {path}/SPEAKER/CHAPTER/SPEAKER-CHAPTER.trans.txt")
    for file in lists:
        for number, line in enumerate(_lines(file), start=1):
            name, _, text = line.partition(" ")
            if not text.strip():
                raise DataError(f"{file}, line {number}: no text stands behind the name")
            places = [file.parent / f"{name}{suffix}" for suffix in SOUNDS]
            there = next((place for place in places if place.is_file()), None)
            if there is None:
                raise DataError(f"{file}, line {number}: there is no {places[1].name} beside it")
            yield Utterance(there, text.strip().lower(), name.split("-")[0])


def _lines(path: Path) -> list[str]:
    try:
        return [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as text: {error}") from error


def sentence_pairs(path: Path) -> list[tuple[str, str]]:
    """Read lines of English, a tab and another language; what stands behind a second tab is left out.

    Where the first column is of numbers (Tatoeba's own export), the texts are in the second and the fourth.
    """
    if not path.is_file():
        raise DataError(f"{path} is no file; give lines of English, a tab and the other language")
    rows = [line.split("\t") for line in _lines(path)]
    if not rows:
        raise DataError(f"{path} is empty")
    columns: Sequence[int] = (1, 3) if all(row[0].strip().isdigit() for row in rows) else (0, 1)
    found = []
    for number, row in enumerate(rows, start=1):
        if len(row) <= columns[1] or not all(row[column].strip() for column in columns):
            raise DataError(f"{path}, line {number}: there are no two texts with a tab between them")
        found.append((row[columns[0]].strip(), row[columns[1]].strip()))
    return found

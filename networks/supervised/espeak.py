"""Speech from espeak-ng: the system's library, or the one of the package espeakng-loader (extra `speech`).

It is synthetic speech: what a network reaches on it says nothing about people. espeak-ng is under the GPL, and is
neither part of this project nor needed by it.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import gcd
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from networks.supervised.data import DataError

RATE = 8_000
"""Samples a second, as of a telephone: enough for speech, and half of what an agent has to carry."""
TRAIN_VOICES = tuple(f"{accent}+{kind}" for accent in ("en-us", "en-gb-scotland") for kind in
                     ("m1", "m2", "m3", "m4", "m6", "f1", "f2", "f3"))  # fmt: skip
VALID_VOICES = ("en-us+m5", "en-gb-scotland+f5")
TEST_VOICES = ("en-us+m7", "en-us+f4", "en-gb-scotland+m5", "en-gb-scotland+f4")
"""Never heard in training."""
RETRIEVAL, POSITION_CHARACTER, UTF8 = 1, 1, 1  # of speak_lib.h
SPEED, PITCH = 1, 3
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class Manner(NamedTuple):
    """How something is said."""

    voice: str
    speed: int = 160
    """Words a minute."""
    pitch: int = 50
    """0 to 99."""


class _Speaker:
    def __init__(self, library: Any, rate: int):
        self.library, self.rate = library, rate
        self.pieces: list[np.ndarray] = []
        self.callback = Callback(self._take)  # kept: the library calls it later
        library.espeak_SetSynthCallback(self.callback)

    def _take(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self.pieces.append(np.ctypeslib.as_array(wave, (count,)).copy())
        return 0

    def say(self, text: str, manner: Manner) -> np.ndarray:
        if self.library.espeak_SetVoiceByName(manner.voice.encode()):
            raise DataError(f"espeak-ng has no voice {manner.voice}")
        self.library.espeak_SetParameter(SPEED, manner.speed, 0)
        self.library.espeak_SetParameter(PITCH, manner.pitch, 0)
        self.pieces.clear()
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, POSITION_CHARACTER, 0, UTF8, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.int16)


@contextlib.contextmanager
def _speaker() -> Iterator[_Speaker]:
    """Yield a library of its own: what espeak-ng says depends on all that it has said before."""
    data: bytes | None = None
    name = ctypes.util.find_library("espeak-ng")
    if name is None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise DataError("there is no espeak-ng to speak; pip install '.[speech]', or install espeak-ng") from error
        name, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path().encode()
    with tempfile.TemporaryDirectory() as folder:
        library = _copy(name, Path(folder))
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        rate = library.espeak_Initialize(RETRIEVAL, 0, data, 0)
        if rate <= 0:
            raise DataError(f"espeak-ng at {name} does not start")
        yield _Speaker(library, rate)
        library.espeak_Terminate()


def _copy(name: str, folder: Path) -> Any:
    """Load a copy of the library, whose memory is its own; the system's, which has no path, is loaded as it is."""
    if not Path(name).is_file():
        return ctypes.CDLL(name)
    return ctypes.CDLL(str(shutil.copy(name, folder / "libespeak-ng.so")))


def say_all(texts: Sequence[str], manners: Sequence[Manner], rate: int = RATE) -> list[np.ndarray]:
    """Return the texts as speech, each int16 [samples] at `rate`: the same for the same arguments.

    Raises DataError without espeak-ng.
    """
    with _speaker() as speaker:
        waves = [speaker.say(text, manner) for text, manner in zip(texts, manners, strict=True)]
        return [resample(wave, speaker.rate, rate) for wave in waves]


DEFAULT = Manner(TRAIN_VOICES[0])


def say(text: str, manner: Manner = DEFAULT, rate: int = RATE) -> np.ndarray:
    """Return one text as speech, int16 [samples]."""
    return say_all([text], [manner], rate)[0]


VARIANTS = 16
"""Ways in which a mission is said to an agent; noise and echo differ each time."""


@lru_cache(maxsize=512)
def variants(text: str, rate: int = RATE) -> tuple[np.ndarray, ...]:
    """Return a text said in several manners by voices that no network was trained on."""
    rng = np.random.default_rng(list(text.encode()))
    return tuple(say_all([text] * VARIANTS, [any_manner(rng, TEST_VOICES) for _ in range(VARIANTS)], rate))


def resample(wave: np.ndarray, before: int, after: int) -> np.ndarray:
    """Return int16 samples at another rate."""
    from scipy.signal import resample_poly

    if before == after or not len(wave):
        return wave.astype(np.int16)
    common = gcd(before, after)
    changed = resample_poly(wave.astype(np.float32), after // common, before // common)
    return np.clip(changed, -32767, 32767).astype(np.int16)


def any_manner(rng: np.random.Generator, voices: Sequence[str]) -> Manner:
    """Draw a voice, a speed of 120 to 220 words a minute and a pitch of 20 to 80."""
    voice = voices[int(rng.integers(len(voices)))]
    return Manner(voice, int(rng.integers(120, 221)), int(rng.integers(20, 81)))


def in_a_room(wave: np.ndarray, rng: np.random.Generator, length: int, rate: int = RATE) -> np.ndarray:
    """Return the speech somewhere in `length` samples, in 3 of 10 cases with echo, with noise 5 to 30 dB below it.

    What lies behind it is 0, as in every recording that is shorter than the longest.
    """
    wave = wave.astype(np.float32)
    if rng.random() < 0.3:
        decay = np.exp(-np.arange(rate // 5) / (rate * rng.uniform(0.02, 0.08)))
        echo = decay * rng.normal(size=len(decay)) * 0.3
        echo[0] = 1.0
        wave = np.convolve(wave, echo)
    lead, tail = (int(rng.integers(0, rate // 5)) for _ in range(2))
    wave = np.pad(wave, (lead, tail))[:length]
    power = np.sqrt(np.mean(wave**2)) + 1e-3
    wave = wave + power * 10 ** (-rng.uniform(5, 30) / 20) * rng.normal(size=len(wave))
    wave = wave / np.abs(wave).max() * rng.uniform(6_000, 30_000)
    heard = np.where(np.round(wave) == 0, 1, np.round(wave)).astype(np.int16)  # 0 is what lies behind the end
    return np.pad(heard, (0, length - len(heard)))

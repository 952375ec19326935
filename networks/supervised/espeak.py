"""Synthetic speech from espeak-ng: the system's library, or the package espeakng-loader (extra `speech`).

Results on synthetic speech say nothing about human speech. espeak-ng is licensed under the GPL; it is optional and not
part of this project.
"""

from __future__ import annotations

import contextlib
import ctypes
import ctypes.util
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from networks.supervised.data import DataError
from networks.supervised.speech import pad_to, resample

RATE = 8_000
"""Samples per second; telephone quality suffices for speech and halves an agent's observations."""
TRAIN_VOICES = tuple(f"{accent}+{variant}" for accent in ("en-us", "en-gb-scotland") for variant in
                     ("m1", "m2", "m3", "m4", "m6", "f1", "f2", "f3"))  # fmt: skip
VALID_VOICES = ("en-us+m5", "en-gb-scotland+f5")
TEST_VOICES = ("en-us+m7", "en-us+f4", "en-gb-scotland+m5", "en-gb-scotland+f4")
"""Never used for training."""
SYNCHRONOUS, POSITION_CHARACTER, UTF8 = 2, 1, 1  # from speak_lib.h; a queue would wait 20 ms after each utterance
SPEED, PITCH = 1, 3
Callback = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)


class VoiceStyle(NamedTuple):
    """Voice, speed and pitch of an utterance."""

    voice: str
    speed: int = 160
    """Words per minute."""
    pitch: int = 50
    """0 to 99."""


class _Synthesizer:
    def __init__(self, library: Any, rate: int):
        self.library, self.rate = library, rate
        self.chunks: list[np.ndarray] = []
        self.callback = Callback(self._receive)  # the library keeps a pointer to it
        library.espeak_SetSynthCallback(self.callback)

    def _receive(self, wave: Any, count: int, events: Any) -> int:
        if wave and count > 0:
            self.chunks.append(np.ctypeslib.as_array(wave, (count,)).copy())
        return 0

    def synthesize(self, text: str, style: VoiceStyle) -> np.ndarray:
        if self.library.espeak_SetVoiceByName(style.voice.encode()):
            raise DataError(f"espeak-ng has no voice {style.voice}")
        self.library.espeak_SetParameter(SPEED, style.speed, 0)
        self.library.espeak_SetParameter(PITCH, style.pitch, 0)
        self.chunks.clear()
        data = text.encode() + b"\0"
        self.library.espeak_Synth(data, len(data), 0, POSITION_CHARACTER, 0, UTF8, None, None)
        self.library.espeak_Synchronize()
        return np.concatenate(self.chunks) if self.chunks else np.zeros(0, np.int16)


@contextlib.contextmanager
def _synthesizer() -> Iterator[_Synthesizer]:
    """Yield a freshly loaded library, since espeak-ng's output depends on everything it has synthesized before."""
    data: bytes | None = None
    name = ctypes.util.find_library("espeak-ng")
    if name is None:
        try:
            import espeakng_loader
        except ImportError as error:
            raise DataError("speech needs espeak-ng: pip install '.[speech]', or install espeak-ng") from error
        name, data = espeakng_loader.get_library_path(), espeakng_loader.get_data_path().encode()
    with tempfile.TemporaryDirectory() as folder:
        library = _load_copy(name, Path(folder))
        library.espeak_Synth.argtypes = [
            ctypes.c_char_p, ctypes.c_size_t, ctypes.c_uint, ctypes.c_int, ctypes.c_uint, ctypes.c_uint,
            ctypes.c_void_p, ctypes.c_void_p,
        ]  # fmt: skip
        rate = library.espeak_Initialize(SYNCHRONOUS, 0, data, 0)
        if rate <= 0:
            raise DataError(f"espeak-ng at {name} does not start")
        yield _Synthesizer(library, rate)
        library.espeak_Terminate()


def _load_copy(name: str, folder: Path) -> Any:
    """Load a copy of the library, so that it has its own state; a system library without a path is loaded directly."""
    if not Path(name).is_file():
        return ctypes.CDLL(name)
    return ctypes.CDLL(str(shutil.copy(name, folder / "libespeak-ng.so")))


def synthesize_all(texts: Sequence[str], styles: Sequence[VoiceStyle], rate: int = RATE) -> list[np.ndarray]:
    """Return each text as speech, int16 [samples] at `rate`; deterministic. Raise DataError without espeak-ng."""
    with _synthesizer() as synthesizer:
        waves = [synthesizer.synthesize(text, style) for text, style in zip(texts, styles, strict=True)]
        return [resample(wave, synthesizer.rate, rate) for wave in waves]


DEFAULT_STYLE = VoiceStyle(TRAIN_VOICES[0])


def synthesize(text: str, style: VoiceStyle = DEFAULT_STYLE, rate: int = RATE) -> np.ndarray:
    """Return one text as speech, int16 [samples]."""
    return synthesize_all([text], [style], rate)[0]


VARIANTS = 16
"""Recordings of each mission for an agent; noise and echo are drawn on top of them."""


@lru_cache(maxsize=512)
def mission_recordings(text: str, rate: int = RATE) -> tuple[np.ndarray, ...]:
    """Return `VARIANTS` recordings of a text by the test voices."""
    rng = np.random.default_rng(list(text.encode()))
    return tuple(synthesize_all([text] * VARIANTS, [draw_style(rng, TEST_VOICES) for _ in range(VARIANTS)], rate))


def draw_style(rng: np.random.Generator, voices: Sequence[str]) -> VoiceStyle:
    """Draw a voice, a speed of 120 to 220 words per minute and a pitch of 20 to 80."""
    voice = voices[int(rng.integers(len(voices)))]
    return VoiceStyle(voice, int(rng.integers(120, 221)), int(rng.integers(20, 81)))


def add_room(wave: np.ndarray, rng: np.random.Generator, length: int, rate: int = RATE) -> np.ndarray:
    """Add silence around the speech, echo (30 % of the time) and noise 5 to 30 dB below it; int16 [length].

    Samples after the recording are 0, the padding value of all recordings.
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
    return pad_to(np.round(wave), length)

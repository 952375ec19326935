"""Tasks on speech: commands of one word, and whole missions to be written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from networks.encoders.base import Encoder
from networks.encoders.vocabulary import Vocabulary
from networks.supervised import metrics
from networks.supervised.data import Data, DataError, Splits
from networks.supervised.fit import FitConfig
from networks.supervised.missions import COLORS, TYPES, draw, say
from networks.supervised.models import Supervised, Transcriber, as_text
from scripts.tasks import espeak
from scripts.tasks.base import ClassTask, Collected, DataOptions, Gate, Task

COMMANDS = ("left", "right", "up", "down", "jump", "fire", "stop", "go", "pause", "start", "yes", "no")
LETTERS = Vocabulary((" ", "'", *"abcdefghijklmnopqrstuvwxyz"), tokenizer="characters")
SECOND = espeak.RATE
MISSION_SAMPLES = 6 * SECOND
OTHERS = "a the go to pick up open put next object on your left right in front of you behind"
WORDS = tuple(sorted({*COLORS, *TYPES, *OTHERS.split()}))
"""Of missions of one clause."""
SHARES = (0.8, 0.06, 0.14)


def voices_of(count: int) -> list[tuple[Sequence[str], int]]:
    """Return the voices of the train, validation and test examples, and how many each has."""
    counts = [round(share * count) for share in SHARES]
    return list(zip((espeak.TRAIN_VOICES, espeak.VALID_VOICES, espeak.TEST_VOICES), counts, strict=True))


class Spoken(Task):
    """A task on recordings at espeak's rate."""

    def meaning(self) -> dict[str, Any]:
        """Return the rate."""
        return {"sample_rate": espeak.RATE}

    def arch_options(self) -> dict[str, Any]:
        """Tell the encoder the rate."""
        return {"sample_rate": espeak.RATE}


class SpeechCommands(Spoken, ClassTask):
    """Which of twelve words was said?"""

    name = "speech-commands"
    summary = "recognise twelve spoken commands (espeak-ng, noise 5 to 30 dB, unseen voices)"
    arch = "logmel-cnn"
    examples = 5_000
    config = FitConfig(epochs=8, batch_size=32, learning_rate=2e-3)
    augment = ("specaug",)
    gates = (Gate("accuracy", 0.95, 120.0), Gate("f1", 0.95, 120.0))

    def collect(self, options: DataOptions) -> Collected:
        """Have each word said in many voices, speeds and pitches."""
        if options.path is not None:
            raise DataError("speech-commands takes no --data yet: it lets espeak-ng speak")
        rng = np.random.default_rng(options.seed)
        parts = []
        for voices, count in voices_of(options.examples):
            target = rng.integers(len(COMMANDS), size=count)
            manners = [espeak.any_manner(rng, voices) for _ in range(count)]
            said = espeak.say_all([COMMANDS[number] for number in target], manners)
            waves = [espeak.in_a_room(wave, rng, SECOND) for wave in said]
            parts.append(Data(np.stack(waves), {"command": target}, np.array([manner.voice for manner in manners])))
        return Collected(Splits(*parts), {"source": "espeak-ng", "synthetic": True})

    def space(self) -> spaces.Space:
        """Return that of recordings of a second."""
        return spaces.Box(-32768, 32767, (SECOND,), np.int16)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """The words."""
        return {"command": COMMANDS}

    def features(self, data: Data) -> Any:
        """Return energies in 16 bands and 16 stretches of time: 256 numbers."""
        wave = data.x.astype(np.float32).reshape(len(data), 16, -1)
        bands = np.abs(np.fft.rfft(wave, axis=2))[:, :, 1:241].reshape(len(data), 16, 16, 15).mean(axis=3)
        return np.log1p(bands).reshape(len(data), -1)


class SpeechToText(Spoken):
    """What was said, letter by letter."""

    name = "speech-to-text"
    summary = "write down spoken missions (espeak-ng, noise 5 to 30 dB, unseen voices)"
    arch = "crnn"
    examples = 3_000
    config = FitConfig(epochs=10, batch_size=16, learning_rate=2e-3)
    augment = ("specaug",)
    headline = ("wer", "cer", "snapped_wer", "exact")
    gates = (Gate("wer", 0.08, 180.0, most=True), Gate("snapped_wer", 0.05, 180.0, most=True))

    def collect(self, options: DataOptions) -> Collected:
        """Have missions of a single clause said in many voices."""
        if options.path is not None:
            raise DataError("speech-to-text takes no --data yet: it lets espeak-ng speak")
        rng = np.random.default_rng(options.seed)
        parts = [self._spoken(rng, voices, count, False) for voices, count in voices_of(options.examples)]
        unseen = self._spoken(rng, espeak.TEST_VOICES, max(options.examples // 15, 50), True)
        return Collected(Splits(*parts), {"source": "espeak-ng", "synthetic": True}, {"unseen pairs": unseen})

    def _spoken(self, rng: np.random.Generator, voices: Sequence[str], count: int, held_out: bool) -> Data:
        texts: list[str] = []
        while len(texts) < count:
            mission = draw(rng, simple=True)
            if mission.held_out == held_out:
                texts.append(say(mission))
        manners = [espeak.any_manner(rng, voices) for _ in texts]
        waves = [espeak.in_a_room(wave, rng, MISSION_SAMPLES) for wave in espeak.say_all(texts, manners)]
        y = LETTERS.array(texts, 100)
        return Data(np.stack(waves), {"text": y}, np.array([manner.voice for manner in manners]))

    def space(self) -> spaces.Space:
        """Return that of recordings of six seconds."""
        return spaces.Box(-32768, 32767, (MISSION_SAMPLES,), np.int16)

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> Supervised:
        """Put letters on the encoder."""
        return Transcriber(encoder, LETTERS.size)

    def score(self, model: Supervised, data: Data) -> float:
        """Return 1 - the word error rate."""
        return 1.0 - float(self.report(model, data)["wer"])

    def report(self, model: Supervised, data: Data) -> dict[str, Any]:
        """Return error rates, as written and with each word taken for the nearest that missions have."""
        found = [LETTERS.decode(as_text(row)) for row in model.predictions(data.x, 64)["text"]]
        wanted = [LETTERS.decode(as_text(row)) for row in data.y["text"]]
        snapped = metrics.words([snap(text) for text in found], wanted)
        return {**metrics.words(found, wanted), "snapped_wer": snapped["wer"], "snapped_exact": snapped["exact"]}

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """The letters."""
        return {"output": LETTERS}


def snap(text: str) -> str:
    """Take each word for the nearest one that missions have, where one is near."""
    from rapidfuzz import process

    found = []
    for word in text.split():
        near = process.extractOne(word, WORDS, score_cutoff=50.0)
        found.append(near[0] if near else word)
    return " ".join(found)

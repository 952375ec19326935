"""Tasks on speech: commands of one word, and whole missions to be written down."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from networks.encoders.base import Encoder
from networks.encoders.vocabulary import Vocabulary
from networks.supervised import corpora, espeak, metrics
from networks.supervised.data import Data, DataError, Splits, split
from networks.supervised.fit import FitConfig
from networks.supervised.mission_grammar import Mission, draw, say, slot_names, slots
from networks.supervised.models import SlotFiller, Supervised, Transcriber, strip_padding
from networks.supervised.speech import pad_to, snap_to_vocabulary
from scripts.supervised.tasks.base import ClassTask, Collected, DataOptions, Goal, Task, slot_report

COMMANDS = ("left", "right", "up", "down", "jump", "fire", "stop", "go", "pause", "start", "yes", "no")
LETTERS = Vocabulary((" ", "'", *"abcdefghijklmnopqrstuvwxyz"), tokenizer="characters")
SECOND = espeak.RATE
MISSION_SAMPLES = 6 * SECOND
LONGEST_SECONDS = 20
"""Of a sentence of a corpus."""
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
    goals = (Goal("accuracy", 0.95, 120.0), Goal("f1", 0.95, 120.0))
    words: tuple[str, ...] = COMMANDS

    def collect(self, options: DataOptions) -> Collected:
        """Have each word said in many voices, speeds and pitches."""
        if options.path is not None:
            return self._recorded(options.path, options.examples)
        rng = np.random.default_rng(options.seed)
        parts = []
        for voices, count in voices_of(options.examples):
            target = rng.integers(len(COMMANDS), size=count)
            manners = [espeak.draw_style(rng, voices) for _ in range(count)]
            said = espeak.synthesize_all([COMMANDS[number] for number in target], manners)
            waves = [espeak.add_room(wave, rng, SECOND) for wave in said]
            parts.append(Data(np.stack(waves), {"command": target}, np.array([manner.voice for manner in manners])))
        return Collected(Splits(*parts), {"source": "espeak-ng", "synthetic": True})

    def _recorded(self, path: Path, examples: int) -> Collected:
        """Read the words, and who says them, from a folder like that of Speech Commands."""
        found = corpora.read_speech_commands(path, espeak.RATE, examples)
        self.words = tuple(sorted(set(found.labels)))
        waves = np.stack([pad_to(wave, SECOND) for wave in found.waves])
        target = np.array([self.words.index(word) for word in found.labels])
        whole, sides = Data(waves, {"command": target}, np.array(found.speakers)), np.array(found.splits)
        parts = [whole.take(np.flatnonzero(sides == side)) for side in ("train", "valid", "test")]
        if not all(len(part) for part in parts):
            raise DataError(f"{path} has too few speakers to validate and to test on others than were learned from")
        return Collected(Splits(*parts), {"source": "disk", "classes": len(self.words)})

    def space(self) -> spaces.Space:
        """Return that of recordings of a second."""
        return spaces.Box(-32768, 32767, (SECOND,), np.int16)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """The words."""
        return {"command": self.words}

    def features(self, data: Data) -> Any:
        """Return energies in 16 bands and 16 stretches of time: 256 numbers."""
        wave = data.x.astype(np.float32).reshape(len(data), 16, -1)
        bands = np.abs(np.fft.rfft(wave, axis=2))[:, :, 1:241].reshape(len(data), 16, 16, 15).mean(axis=3)
        return np.log1p(bands).reshape(len(data), -1)


class SpeechToText(Spoken):
    """What was said, letter by letter."""

    name = "speech-to-text"
    summary = "write down spoken missions (espeak-ng, noise 5 to 30 dB, unseen voices)"
    arch = "crnn-attention"
    examples = 3_000
    config = FitConfig(epochs=10, batch_size=16, learning_rate=2e-3)
    augment = ("specaug",)
    length = MISSION_SAMPLES
    corpus = False
    """Whether it reads sentences of any words, from disk."""
    headline = ("wer", "cer", "snapped_wer", "exact")
    goals: ClassVar[tuple[Goal, ...]] = (
        Goal("wer", 0.08, 180.0, most=True),
        Goal("snapped_wer", 0.05, 180.0, most=True),
    )

    def collect(self, options: DataOptions) -> Collected:
        """Have missions of a single clause said in many voices."""
        if options.path is not None:
            return self._read_out(options)
        rng = np.random.default_rng(options.seed)
        parts = [self._spoken(rng, voices, count, False) for voices, count in voices_of(options.examples)]
        unseen = self._spoken(rng, espeak.TEST_VOICES, max(options.examples // 15, 50), True)
        return Collected(Splits(*parts), {"source": "espeak-ng", "synthetic": True}, {"unseen pairs": unseen})

    def _read_out(self, options: DataOptions) -> Collected:
        """Read sentences and who says them from a folder like those of LibriSpeech; what lasts too long is left out."""
        assert options.path is not None
        waves, texts, speakers, left_out = [], [], [], 0
        for each in corpora.read_librispeech(options.path):
            wave = corpora.read_sound(each.file, espeak.RATE)
            if len(wave) > LONGEST_SECONDS * SECOND:
                left_out += 1
                continue
            waves.append(wave)
            texts.append(each.text)
            speakers.append(each.speaker)
            if len(waves) >= options.examples:
                break
        if not waves:
            raise DataError(f"nothing in {options.path} lasts {LONGEST_SECONDS} s at most")
        self.length, self.corpus = max(len(wave) for wave in waves), True
        y = {"text": LETTERS.array(texts, max(len(text) for text in texts))}
        data = Data(np.stack([pad_to(wave, self.length) for wave in waves]), y, np.array(speakers))
        splits = split(data, np.random.default_rng(options.seed))
        return Collected(splits, {"source": "disk", "left_out": left_out})

    def _spoken(self, rng: np.random.Generator, voices: Sequence[str], count: int, held_out: bool) -> Data:
        said: list[Mission] = []
        while len(said) < count:
            mission = draw(rng, simple=True)
            if mission.held_out == held_out:
                said.append(mission)
        texts = [say(mission) for mission in said]
        manners = [espeak.draw_style(rng, voices) for _ in texts]
        waves = [espeak.add_room(wave, rng, MISSION_SAMPLES) for wave in espeak.synthesize_all(texts, manners)]
        return Data(np.stack(waves), self._targets(said, texts), np.array([manner.voice for manner in manners]))

    def _targets(self, said: Sequence[Mission], texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return what is to be found, by head."""
        return {"text": LETTERS.array(texts, 100)}

    def space(self) -> spaces.Space:
        """Return that of recordings of six seconds, or of the longest of a corpus."""
        return spaces.Box(-32768, 32767, (self.length,), np.int16)

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> Supervised:
        """Put letters on the encoder."""
        return Transcriber(encoder, LETTERS.size)

    def score(self, model: Supervised, data: Data) -> float:
        """Return 1 - the word error rate."""
        return 1.0 - float(self.report(model, data)["wer"])

    def report(self, model: Supervised, data: Data) -> dict[str, Any]:
        """Return error rates, as written and with each word taken for the nearest that missions have."""
        found = [LETTERS.decode(strip_padding(row)) for row in model.predictions(data.x, 64)["text"]]
        wanted = [LETTERS.decode(strip_padding(row)) for row in data.y["text"]]
        if self.corpus:
            return metrics.error_rates(found, wanted)
        snapped = metrics.error_rates([snap_to_vocabulary(text) for text in found], wanted)
        return {**metrics.error_rates(found, wanted), "snapped_wer": snapped["wer"], "snapped_exact": snapped["exact"]}

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """The letters."""
        return {"output": LETTERS}


class SpeechSlots(SpeechToText):
    """What a spoken mission asks for; best begun with an encoder that has learned letters (`--from`).

    Learned from slots alone, colour and type are confused with each other's company: what was said stays unread.
    """

    name = "speech-slots"
    summary = "say what a spoken mission asks for (espeak-ng; begin with --from a speech-to-text run)"
    config = FitConfig(epochs=8, batch_size=16, learning_rate=1e-3)
    headline = ("exact", "f1", "accuracy", "pooled_exact")
    goals: ClassVar[tuple[Goal, ...]] = ()

    def collect(self, options: DataOptions) -> Collected:
        """Have missions of a single clause said in many voices."""
        if options.path is not None:
            raise DataError("speech-slots takes no --data: it lets espeak-ng say missions")
        return super().collect(options)

    def _targets(self, said: Sequence[Mission], texts: Sequence[str]) -> dict[str, np.ndarray]:
        values = [slots(mission) for mission in said]
        return {name: np.array([each[name] for each in values]) for name in self.labels}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Values of the slots of a single clause."""
        return {name: values for name, values in slot_names().items() if name.startswith("first")}

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """None: it writes nothing down."""
        return {}

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> Supervised:
        """Put heads on the encoder that look for moments."""
        return SlotFiller(encoder, {name: len(values) for name, values in self.labels.items()})

    def report(self, model: Supervised, data: Data) -> dict[str, Any]:
        """Return the metrics of slots."""
        return slot_report(model.predictions(data.x, 64), data, self.labels)

    def score(self, model: Supervised, data: Data) -> float:
        """Return how often all is right, in both ways of looking: an agent reads the pooled features."""
        found = self.report(model, data)
        return float(found["exact"] + found["pooled_exact"])

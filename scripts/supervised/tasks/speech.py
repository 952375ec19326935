"""Speech tasks: single-word commands, transcription of missions, and slots of spoken missions."""

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
from networks.supervised.mission_grammar import Mission, draw, slot_names, slots, to_english
from networks.supervised.models import SlotFiller, SupervisedModel, Transcriber, strip_padding
from networks.supervised.speech import pad_to, snap_to_vocabulary
from scripts.supervised.tasks.base import (
    ClassificationTask,
    Collected,
    DataOptions,
    Goal,
    Report,
    Source,
    SupervisedTask,
    slot_report,
)

COMMANDS = ("left", "right", "up", "down", "jump", "fire", "stop", "go", "pause", "start", "yes", "no")
LETTERS = Vocabulary((" ", "'", *"abcdefghijklmnopqrstuvwxyz"), tokenizer="characters")
SECOND = espeak.RATE
MISSION_SAMPLES = 6 * SECOND
MAX_SECONDS = 20
"""Maximum length of a sentence in a corpus."""
SHARES = (0.8, 0.06, 0.14)
"""Train, validation and test examples."""


def voices_and_counts(count: int) -> list[tuple[Sequence[str], int]]:
    """Return the voices and the number of the train, validation and test examples."""
    counts = [round(share * count) for share in SHARES]
    return list(zip((espeak.TRAIN_VOICES, espeak.VALID_VOICES, espeak.TEST_VOICES), counts, strict=True))


class SpeechTask(SupervisedTask):
    """Base of tasks on recordings at `espeak.RATE`."""

    def input_meaning(self) -> dict[str, Any]:
        """Return the sample rate."""
        return {"sample_rate": espeak.RATE}

    def arch_kwargs(self) -> dict[str, Any]:
        """Return the sample rate."""
        return {"sample_rate": espeak.RATE}


class SpeechCommands(SpeechTask, ClassificationTask):
    """Classify a spoken word."""

    name = "speech-commands"
    summary = "recognise twelve spoken commands (espeak-ng, noise 5 to 30 dB, unseen voices)"
    arch = "logmel-cnn"
    examples = 5_000
    config = FitConfig(epochs=8, batch_size=32, learning_rate=2e-3)
    augment = ("specaug",)
    goals = (Goal("accuracy", 0.95, 120.0), Goal("f1", 0.95, 120.0))
    sources = ("path",)
    words: tuple[str, ...] = COMMANDS

    def collect(self, options: DataOptions) -> Collected:
        """Synthesize each word with many voices, speeds and pitches; or read a corpus."""
        if options.path is not None:
            return self._read_corpus(options.path, options.examples)
        rng = np.random.default_rng(options.seed)
        parts = []
        for voices, count in voices_and_counts(options.examples):
            target = rng.integers(len(COMMANDS), size=count)
            styles = [espeak.draw_style(rng, voices) for _ in range(count)]
            clean = espeak.synthesize_all([COMMANDS[index] for index in target], styles)
            waves = [espeak.add_room(wave, rng, SECOND) for wave in clean]
            parts.append(Data(np.stack(waves), {"command": target}, np.array([style.voice for style in styles])))
        return Collected(Splits(*parts), {"source": "espeak-ng", "synthetic": True})

    def _read_corpus(self, path: Path, examples: int) -> Collected:
        """Read words and speakers from a folder in the format of Speech Commands."""
        recordings = corpora.read_speech_commands(path, espeak.RATE, examples)
        self.words = tuple(sorted(set(recordings.labels)))
        waves = np.stack([pad_to(wave, SECOND) for wave in recordings.waves])
        target = np.array([self.words.index(word) for word in recordings.labels])
        data, splits = Data(waves, {"command": target}, np.array(recordings.speakers)), np.array(recordings.splits)
        parts = [data.take(np.flatnonzero(splits == name)) for name in ("train", "valid", "test")]
        if not all(len(part) for part in parts):
            raise DataError(f"{path} has too few speakers for separate training, validation and test speakers")
        return Collected(Splits(*parts), {"source": "disk", "classes": len(self.words)})

    def space(self) -> spaces.Space:
        """Return the space of recordings of one second."""
        return spaces.Box(-32768, 32767, (SECOND,), np.int16)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Return the words."""
        return {"command": self.words}

    def features(self, data: Data) -> Any:
        """Return log energies in 16 frequency bands of 16 time spans, [N, 256]."""
        wave = data.x.astype(np.float32).reshape(len(data), 16, -1)
        bands = np.abs(np.fft.rfft(wave, axis=2))[:, :, 1:241].reshape(len(data), 16, 16, 15).mean(axis=3)
        return np.log1p(bands).reshape(len(data), -1)


class SpeechToText(SpeechTask):
    """Transcribe speech letter by letter."""

    name = "speech-to-text"
    summary = "transcribe spoken missions (espeak-ng, noise 5 to 30 dB, unseen voices)"
    arch = "crnn-attention"
    examples = 3_000
    config = FitConfig(epochs=10, batch_size=16, learning_rate=2e-3)
    augment = ("specaug",)
    length = MISSION_SAMPLES
    corpus = False
    """Whether the sentences are read from disk, instead of synthesized missions."""
    headline = ("wer", "cer", "snapped_wer", "exact")
    sources: ClassVar[tuple[Source, ...]] = ("path",)
    goals: ClassVar[tuple[Goal, ...]] = (
        Goal("wer", 0.08, 180.0, at_most=True),
        Goal("snapped_wer", 0.05, 180.0, at_most=True),
    )

    def collect(self, options: DataOptions) -> Collected:
        """Synthesize single-clause missions with many voices; or read a corpus."""
        if options.path is not None:
            return self._read_corpus(options)
        rng = np.random.default_rng(options.seed)
        parts = [
            self._synthesize(rng, voices, count, held_out=False)
            for voices, count in voices_and_counts(options.examples)
        ]
        unseen = self._synthesize(rng, espeak.TEST_VOICES, max(options.examples // 15, 50), held_out=True)
        return Collected(Splits(*parts), {"source": "espeak-ng", "synthetic": True}, {"unseen pairs": unseen})

    def _read_corpus(self, options: DataOptions) -> Collected:
        """Read sentences and speakers from a folder in the format of LibriSpeech, without too long ones."""
        assert options.path is not None
        waves, texts, speakers, left_out = [], [], [], 0
        for each in corpora.read_librispeech(options.path):
            wave = corpora.read_sound(each.file, espeak.RATE)
            if len(wave) > MAX_SECONDS * SECOND:
                left_out += 1
                continue
            waves.append(wave)
            texts.append(each.text)
            speakers.append(each.speaker)
            if len(waves) >= options.examples:
                break
        if not waves:
            raise DataError(f"no recording in {options.path} is at most {MAX_SECONDS} s long")
        self.length, self.corpus = max(len(wave) for wave in waves), True
        y = {"text": LETTERS.array(texts, max(len(text) for text in texts))}
        data = Data(np.stack([pad_to(wave, self.length) for wave in waves]), y, np.array(speakers))
        splits = split(data, np.random.default_rng(options.seed))
        return Collected(splits, {"source": "disk", "left_out": left_out})

    def _synthesize(self, rng: np.random.Generator, voices: Sequence[str], count: int, held_out: bool) -> Data:
        missions: list[Mission] = []
        while len(missions) < count:
            mission = draw(rng, simple=True)
            if mission.held_out == held_out:
                missions.append(mission)
        texts = [to_english(mission) for mission in missions]
        styles = [espeak.draw_style(rng, voices) for _ in texts]
        waves = [espeak.add_room(wave, rng, MISSION_SAMPLES) for wave in espeak.synthesize_all(texts, styles)]
        return Data(np.stack(waves), self._targets(missions, texts), np.array([style.voice for style in styles]))

    def _targets(self, missions: Sequence[Mission], texts: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the targets by head."""
        return {"text": LETTERS.array(texts, 100)}

    def space(self) -> spaces.Space:
        """Return the space of recordings of six seconds, or of the longest in a corpus."""
        return spaces.Box(-32768, 32767, (self.length,), np.int16)

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> SupervisedModel:
        """Return a CTC transcriber on an encoder."""
        return Transcriber(encoder, LETTERS.size)

    def score(self, model: SupervisedModel, data: Data) -> float:
        """Return 1 - the word error rate."""
        return 1.0 - self.report(model, data).metrics["wer"]

    def report(self, model: SupervisedModel, data: Data) -> Report:
        """Return error rates, raw and with each word snapped to the vocabulary of missions."""
        predicted = [LETTERS.decode(strip_padding(row)) for row in model.predictions(data.x, 64)["text"]]
        target = [LETTERS.decode(strip_padding(row)) for row in data.y["text"]]
        raw = metrics.error_rates(predicted, target)
        if self.corpus:
            return Report(raw)
        snapped = metrics.error_rates([snap_to_vocabulary(text) for text in predicted], target)
        return Report({**raw, "snapped_wer": snapped["wer"], "snapped_exact": snapped["exact"]})

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Return the letters."""
        return {"output": LETTERS}


class SpeechSlots(SpeechToText):
    """Predict the slots of a spoken mission; start from a speech-to-text encoder (`--from`).

    Trained on slots alone, an encoder learns combinations of colour and type instead of words.
    """

    name = "speech-slots"
    summary = "parse a spoken mission into slots (espeak-ng; start --from a speech-to-text run)"
    config = FitConfig(epochs=8, batch_size=16, learning_rate=1e-3)
    headline = ("exact", "f1", "accuracy", "pooled_exact")
    goals: ClassVar[tuple[Goal, ...]] = ()
    sources: ClassVar[tuple[Source, ...]] = ()

    def _targets(self, missions: Sequence[Mission], texts: Sequence[str]) -> dict[str, np.ndarray]:
        values = [slots(mission) for mission in missions]
        return {name: np.array([each[name] for each in values]) for name in self.labels}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Return the values of the slots of a single clause."""
        return {name: values for name, values in slot_names().items() if name.startswith("first")}

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Return none: the task predicts no text."""
        return {}

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> SupervisedModel:
        """Return a slot filler on an encoder."""
        return SlotFiller(encoder, {name: len(values) for name, values in self.labels.items()})

    def report(self, model: SupervisedModel, data: Data) -> Report:
        """Return the metrics of slots, from tokens and from pooled features."""
        return slot_report(model.predictions(data.x, 64), data, self.labels)

    def score(self, model: SupervisedModel, data: Data) -> float:
        """Return the exact matches from tokens plus those from pooled features, which agents use."""
        report = self.report(model, data)
        return report.metrics["exact"] + report.metrics["pooled_exact"]

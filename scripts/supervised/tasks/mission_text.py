"""Tasks on BabyAI's language: parse missions into slots, and translate them from and to Chinese and French."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from gymnasium import spaces

from envs.missions import VOCABULARY
from networks.encoders.base import Encoder
from networks.encoders.vocabulary import Vocabulary
from networks.supervised import metrics, mission_grammar
from networks.supervised.corpora import read_sentence_pairs
from networks.supervised.data import Data, DataError, Splits, split
from networks.supervised.fit import FitConfig
from networks.supervised.mission_grammar import (
    Language,
    Mission,
    MissionError,
    draw,
    parse,
    slot_names,
    slots,
    to_english,
    translate,
)
from networks.supervised.models import SlotFiller, SupervisedModel, Translator
from scripts.supervised.tasks.base import (
    ClassificationTask,
    Collected,
    DataOptions,
    Goal,
    Report,
    SupervisedTask,
    slot_report,
)
from scripts.supervised.tasks.texts import tfidf

HANDWRITTEN = Path(__file__).with_name("handwritten.tsv")
"""Language, text and its English mission, fifty for each language."""
MISSION = Vocabulary(VOCABULARY)
"""The games' own vocabulary, with the same ids."""
LONGEST = 64
"""Maximum length of a mission in words, as in the games."""


def draw_distinct(rng: np.random.Generator, count: int, accept: Callable[[Mission], bool]) -> list[Mission]:
    """Draw `count` distinct missions that `accept` accepts."""
    missions: dict[str, Mission] = {}
    rejected = 0
    while len(missions) < count:
        mission = draw(rng)
        text = to_english(mission)
        accepted = accept(mission) and text not in missions
        if accepted:
            missions[text] = mission
        rejected = 0 if accepted else rejected + 1
        if rejected > 10_000:
            raise DataError(f"there are fewer than {count} distinct missions; lower --examples")
    return list(missions.values())


def collect_missions(rng: np.random.Generator, count: int, make: Callable[[Sequence[Mission]], Data]) -> Collected:
    """Return splits of distinct missions, and a further test of held-out pairs of colour and type."""
    missions = draw_distinct(rng, count, lambda mission: not mission.held_out)
    held_out = draw_distinct(rng, max(count // 10, 100), lambda mission: mission.held_out)
    size = max(count // 10, 50)
    splits = Splits(make(missions[2 * size :]), make(missions[:size]), make(missions[size : 2 * size]))
    pairs = sorted(" ".join(pair) for pair in mission_grammar.HELD_OUT)
    facts = {"source": "BabyAI's grammar", "env_frames": 0, "held_out_pairs": pairs}
    return Collected(splits, facts, {"unseen pairs": make(held_out)})


class MissionSlots(ClassificationTask):
    """Predict verb, colour, type and place of each clause, and the conjunction."""

    name = "mission-slots"
    summary = "parse a mission into slots: verb, colour, type and place of each clause"
    arch = "word-attention"
    examples = 12_000
    config = FitConfig(epochs=5, batch_size=32, learning_rate=3e-3, threads=1)  # too small to profit from more threads
    headline = ("exact", "f1", "accuracy", "pooled_exact")
    goals = (Goal("exact", 0.99, 120.0), Goal("unseen pairs/exact", 0.90, 120.0))

    def collect(self, options: DataOptions) -> Collected:
        """Draw missions from the grammar."""

        def make(missions: Sequence[Mission]) -> Data:
            values = [slots(mission) for mission in missions]
            y = {name: np.array([each[name] for each in values]) for name in slot_names()}
            texts = [to_english(mission) for mission in missions]
            return Data(MISSION.array(texts, LONGEST), y, np.array(texts))

        return collect_missions(np.random.default_rng(options.seed), options.examples, make)

    def space(self) -> spaces.Space:
        """Return the space of the token ids."""
        return spaces.MultiDiscrete([MISSION.size] * LONGEST)

    def input_meaning(self) -> dict[str, Any]:
        """Return the hash of the vocabulary."""
        return {"vocabulary": MISSION.sha256}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Values of each slot."""
        return slot_names()

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Return the vocabulary of the input."""
        return {"input": MISSION}

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> SupervisedModel:
        """Return a slot filler on an encoder."""
        return SlotFiller(encoder, {name: len(values) for name, values in self.labels.items()})

    def report(self, model: SupervisedModel, data: Data) -> Report:
        """Return the metrics of slots, from tokens and from pooled features."""
        return slot_report(model.predictions(data.x), data, self.labels)

    def features(self, data: Data) -> Any:
        """Return TF-IDF of words and word pairs."""
        return tfidf(data.x, MISSION.size)

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        """Return the classification baselines, with the exact matches of the majority class."""
        baselines = super().baselines(splits)
        majority = {name: np.bincount(part).argmax() for name, part in splits.train.y.items()}
        correct = np.all([splits.test.y[name] == value for name, value in majority.items()], axis=0)
        baselines["majority class"]["exact"] = float(correct.mean())
        return baselines


class Translation(SupervisedTask):
    """Translate missions; translations count as equivalent if they ask for the same."""

    arch = "word-attention"
    examples = 12_000
    config = FitConfig(epochs=4, batch_size=32, learning_rate=2e-3)
    headline = ("equivalent", "bleu", "bare_bleu", "exact")
    sources = ("path",)
    goals: ClassVar[tuple[Goal, ...]] = (
        Goal("unseen pairs/equivalent", 0.97, 240.0), Goal("unseen pairs/bare_bleu", 95.0, 240.0),
        Goal("hand-written/equivalent", 0.80, 240.0),
    )  # fmt: skip
    source: ClassVar[Language]
    target: ClassVar[Language]
    corpus = False
    """Whether the sentences are read from disk, instead of drawn from the grammar."""

    def collect(self, options: DataOptions) -> Collected:
        """Phrase missions in both languages, with varied wording of the source; or read sentence pairs."""
        if options.path is not None:
            return self._read_corpus(options)
        rng = np.random.default_rng(options.seed)
        drawn: list[tuple[str, str]] = []

        def phrase(missions: Sequence[Mission]) -> tuple[list[str], list[str]]:
            sources = [translate(mission, self.source, rng) for mission in missions]
            targets = [translate(mission, self.target) for mission in missions]
            drawn.extend(zip(sources, targets, strict=True))
            return sources, targets

        pool = [draw(rng) for _ in range(4_000)]  # for the vocabularies
        phrase([mission for mission in pool if not mission.held_out])
        self._make_vocabularies(*zip(*drawn, strict=True))

        def make(missions: Sequence[Mission]) -> Data:
            return self._encode(*phrase(missions), [to_english(mission) for mission in missions])

        collected = collect_missions(rng, options.examples, make)
        if self.target == "en":
            collected.extra["hand-written"] = self._handwritten()
        return collected

    def _handwritten(self) -> Data:
        """Return human-written texts, with words and phrases that the grammar does not generate."""
        lines = [line.split("\t") for line in HANDWRITTEN.read_text(encoding="utf-8").strip().split("\n")]
        pairs = ((text, mission) for language, text, mission in lines if language == self.source)
        texts, missions = zip(*pairs, strict=True)
        return self._encode(texts, missions, missions)

    def _read_corpus(self, options: DataOptions) -> Collected:
        """Read sentence pairs; equal source sentences form a group."""
        assert options.path is not None
        rng, pairs = np.random.default_rng(options.seed), read_sentence_pairs(options.path)
        order = rng.permutation(len(pairs))[: options.examples]
        other = self.source if self.target == "en" else self.target
        texts = {"en": [pairs[row][0] for row in order], other: [pairs[row][1] for row in order]}
        parts = split(Data(order, {"row": np.arange(len(order))}, np.array(texts[self.source])), rng)
        train = {name: [texts[name][row] for row in parts.train.y["row"]] for name in texts}
        self._make_vocabularies(train[self.source], train[self.target])
        self.corpus = True

        def encode(part: Data) -> Data:
            sentences = {name: [texts[name][row] for row in part.y["row"]] for name in texts}
            return self._encode(sentences[self.source], sentences[self.target], part.group)

        return Collected(Splits(*(encode(part) for part in parts)), {"source": "disk", "pairs": len(order)})

    def _make_vocabularies(self, sources: Sequence[str], targets: Sequence[str]) -> None:
        self.words = {
            "input": Vocabulary.of(sources, tokenizer="letters" if self.source == "zh" else "words"),
            "output": Vocabulary.of(targets, True, "letters" if self.target == "zh" else "words"),
        }

    def _encode(self, sources: Sequence[str], targets: Sequence[str], groups: Sequence[str] | np.ndarray) -> Data:
        """Return N sentence pairs as token ids, each [N, 2 * LONGEST]."""
        x, y = self.words["input"].array(sources, 2 * LONGEST), self.words["output"].array(targets, 2 * LONGEST)
        return Data(x, {"text": y}, np.array(groups))

    def space(self) -> spaces.Space:
        """Return the space of the token ids."""
        return spaces.MultiDiscrete([self.words["input"].size] * (2 * LONGEST))

    def input_meaning(self) -> dict[str, Any]:
        """Return the languages and the hash of the source vocabulary."""
        languages = {"language": self.source, "target_language": self.target}
        return {**languages, "vocabulary": self.words["input"].sha256}

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> SupervisedModel:
        """Return a translator on an encoder."""
        return Translator(encoder, self.words["output"].size, 2 * LONGEST)

    def score(self, model: SupervisedModel, data: Data) -> float:
        """Return the share of equivalent translations on up to 300 examples; BLEU / 100 for a corpus."""
        report = self.report(model, data.take(np.arange(min(len(data), 300))))
        return report.metrics["bleu"] / 100 if self.corpus else report.metrics["equivalent"]

    def report(self, model: SupervisedModel, data: Data) -> Report:
        """Return BLEU, chrF, exact matches and the share of equivalent translations.

        `bare_bleu` replaces `a` by `the`, since Chinese has no articles from which to tell them apart.
        """
        words = self.words["output"]
        predicted = [words.decode(row) for row in model.predictions(data.x)["text"]]
        target = [words.decode(row[1:]) for row in data.y["text"]]
        scores = metrics.translation(predicted, target, self.target == "zh")
        if self.corpus:
            return Report(scores)
        triples = zip(predicted, target, data.group, strict=True)
        same = [equivalent(text, reference, mission, self.target) for text, reference, mission in triples]
        bare = [[re.sub(r"\ba\b", "the", text) for text in texts] for texts in (predicted, target)]
        bare_bleu = metrics.translation(bare[0], bare[1], self.target == "zh")["bleu"]
        return Report({**scores, "equivalent": float(np.mean(same)), "bare_bleu": bare_bleu})

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Return the vocabularies of both languages."""
        return self.words


def equivalent(text: str, reference: str, mission: str, language: Language) -> bool:
    """Return whether an English translation has the mission's meaning up to articles; else whether it is exact."""
    if language != "en":
        return text == reference
    try:
        return parse(text).without_articles() == parse(mission).without_articles()
    except MissionError:
        return False


class TranslateZhEn(Translation):
    """Translate missions from Chinese to English."""

    name, source, target = "translate-zh-en", "zh", "en"
    summary = "translate missions from Chinese to English"


class TranslateFrEn(Translation):
    """Translate missions from French to English."""

    name, source, target = "translate-fr-en", "fr", "en"
    summary = "translate missions from French to English"


class TranslateEnZh(Translation):
    """Translate missions from English to Chinese."""

    name, source, target = "translate-en-zh", "en", "zh"
    summary = "translate missions from English to Chinese"
    goals = ()


class TranslateEnFr(Translation):
    """Translate missions from English to French."""

    name, source, target = "translate-en-fr", "en", "fr"
    summary = "translate missions from English to French"
    goals = ()

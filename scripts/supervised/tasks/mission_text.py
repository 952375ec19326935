"""Tasks on BabyAI's language: what a mission says, and the same in Chinese and French."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
    say,
    slot_names,
    slots,
    translate,
)
from networks.supervised.models import SlotFiller, Supervised, Translator
from scripts.supervised.tasks.base import ClassTask, Collected, DataOptions, Goal, Task, slot_report
from scripts.supervised.tasks.texts import tfidf

HANDWRITTEN = Path(__file__).with_name("handwritten.tsv")
"""Language, text, and the mission that is meant by it: fifty for each language."""
MISSION = Vocabulary(VOCABULARY)
"""That of the games: a token has the number that it has there."""
LONGEST = 64
"""Words of a mission that a game shows."""


def different(rng: np.random.Generator, count: int, wanted: Callable[[Mission], bool]) -> list[Mission]:
    """Draw so many different missions."""
    found: dict[str, Mission] = {}
    in_vain = 0
    while len(found) < count:
        mission = draw(rng)
        new = wanted(mission) and say(mission) not in found
        if new:
            found[say(mission)] = mission
        in_vain = 0 if new else in_vain + 1
        if in_vain > 10_000:
            raise DataError(f"there are not {count} different missions; give a smaller --examples")
    return list(found.values())


def divided(rng: np.random.Generator, count: int, make: Callable[[Sequence[Mission]], Data]) -> Collected:
    """Return examples of different missions, and a test of pairs of colour and type that are in none of the others."""
    seen = different(rng, count, lambda mission: not mission.held_out)
    unseen = different(rng, max(count // 10, 100), lambda mission: mission.held_out)
    few = max(count // 10, 50)
    splits = Splits(make(seen[2 * few :]), make(seen[:few]), make(seen[few : 2 * few]))
    pairs = sorted(" ".join(pair) for pair in mission_grammar.HELD_OUT)
    facts = {"source": "BabyAI's grammar", "env_frames": 0, "held_out_pairs": pairs}
    return Collected(splits, facts, {"unseen pairs": make(unseen)})


class MissionSlots(ClassTask):
    """Verbs, colours, types and places of each clause, and what joins them."""

    name = "mission-slots"
    summary = "say what a mission asks for: verb, colour, type and place of each clause"
    arch = "word-attention"
    examples = 12_000
    config = FitConfig(epochs=5, batch_size=32, learning_rate=3e-3, threads=1)  # more threads only wait for each other
    headline = ("exact", "f1", "accuracy", "pooled_exact")
    goals = (Goal("exact", 0.99, 120.0), Goal("unseen pairs/exact", 0.90, 120.0))

    def collect(self, options: DataOptions) -> Collected:
        """Draw missions from the grammar."""
        if options.path is not None:
            raise DataError("mission-slots takes no --data: it draws from the grammar")

        def make(drawn: Sequence[Mission]) -> Data:
            values = [slots(mission) for mission in drawn]
            y = {name: np.array([each[name] for each in values]) for name in slot_names()}
            texts = [say(mission) for mission in drawn]
            return Data(MISSION.array(texts, LONGEST), y, np.array(texts))

        return divided(np.random.default_rng(options.seed), options.examples, make)

    def space(self) -> spaces.Space:
        """Return that of token ids."""
        return spaces.MultiDiscrete([MISSION.size] * LONGEST)

    def meaning(self) -> dict[str, Any]:
        """Return which words the numbers stand for."""
        return {"vocabulary": MISSION.sha256}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Values of each slot."""
        return slot_names()

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """That of the input."""
        return {"input": MISSION}

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> Supervised:
        """Put heads on the encoder that look for words."""
        return SlotFiller(encoder, {name: len(values) for name, values in self.labels.items()})

    def report(self, model: Supervised, data: Data) -> dict[str, Any]:
        """Add what the pooled features alone say: the share of missions of which all is right."""
        return slot_report(model.predictions(data.x), data, self.labels)

    def features(self, data: Data) -> Any:
        """Return TF-IDF of single words and pairs."""
        return tfidf(data.x, MISSION.size)

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        """Add the share of missions of which all is right."""
        found = super().baselines(splits)
        guess = {name: np.bincount(part).argmax() for name, part in splits.train.y.items()}
        right = np.all([splits.test.y[name] == value for name, value in guess.items()], axis=0)
        found["majority class"]["exact"] = float(right.mean())
        return found


class Translation(Task):
    """Missions from one language to another; judged by what they ask for, not by their letters."""

    arch = "word-attention"
    examples = 12_000
    config = FitConfig(epochs=4, batch_size=32, learning_rate=2e-3)
    headline = ("equivalent", "bleu", "bare_bleu", "exact")
    goals = (
        Goal("unseen pairs/equivalent", 0.97, 240.0), Goal("unseen pairs/bare_bleu", 95.0, 240.0),
        Goal("hand-written/equivalent", 0.80, 240.0),
    )  # fmt: skip
    source: ClassVar[Language]
    target: ClassVar[Language]
    corpus = False
    """Whether it reads sentences of any content, from disk."""

    def collect(self, options: DataOptions) -> Collected:
        """Say missions of the grammar in both languages, in one of several wordings; or read pairs of sentences."""
        if options.path is not None:
            return self._corpus(options)
        rng = np.random.default_rng(options.seed)
        drawn: list[tuple[str, str]] = []

        def pairs(of: Sequence[Mission]) -> tuple[list[str], list[str]]:
            texts = [translate(each, self.source, rng) for each in of], [translate(each, self.target) for each in of]
            drawn.extend(zip(*texts, strict=True))
            return texts

        pool = [draw(rng) for _ in range(4_000)]
        pairs([mission for mission in pool if not mission.held_out])
        self.words = {
            "input": Vocabulary.of((a for a, _ in drawn), tokenizer="letters" if self.source == "zh" else "words"),
            "output": Vocabulary.of((b for _, b in drawn), True, "letters" if self.target == "zh" else "words"),
        }
        make = partial(self._examples, pairs)
        collected = divided(rng, options.examples, make)
        if self.target == "en":
            collected.extra["hand-written"] = self._handwritten()
        return collected

    def _handwritten(self) -> Data:
        """Return lines that a person wrote, with words and turns that no generated one has."""
        lines = [line.split("\t") for line in HANDWRITTEN.read_text(encoding="utf-8").splitlines()]
        texts, wanted = zip(*((text, meant) for language, text, meant in lines if language == self.source), strict=True)
        x, y = self.words["input"].array(texts, 2 * LONGEST), self.words["output"].array(wanted, 2 * LONGEST)
        return Data(x, {"text": y}, np.array(wanted))

    def _corpus(self, options: DataOptions) -> Collected:
        """Read lines of English and the other language; the same sentence is on one side of the split only."""
        assert options.path is not None
        rng, found = np.random.default_rng(options.seed), read_sentence_pairs(options.path)
        order = rng.permutation(len(found))[: options.examples]
        other = self.source if self.target == "en" else self.target
        texts = {"en": [found[number][0] for number in order], other: [found[number][1] for number in order]}
        rough = Data(order, {"row": np.arange(len(order))}, np.array(texts[self.source]))
        parts = split(rough, rng)
        learned = {name: [texts[name][row] for row in parts.train.y["row"]] for name in texts}
        self.words = {
            "input": Vocabulary.of(learned[self.source], tokenizer="letters" if self.source == "zh" else "words"),
            "output": Vocabulary.of(learned[self.target], True, "letters" if self.target == "zh" else "words"),
        }
        self.corpus = True

        def ready(part: Data) -> Data:
            chosen = {name: [texts[name][row] for row in part.y["row"]] for name in texts}
            x = self.words["input"].array(chosen[self.source], 2 * LONGEST)
            return Data(x, {"text": self.words["output"].array(chosen[self.target], 2 * LONGEST)}, part.group)

        return Collected(Splits(*(ready(part) for part in parts)), {"source": "disk", "pairs": len(order)})

    def _examples(self, pairs: Callable[..., Any], drawn: Sequence[Mission]) -> Data:
        texts, targets = pairs(drawn)
        x, y = self.words["input"].array(texts, 2 * LONGEST), self.words["output"].array(targets, 2 * LONGEST)
        return Data(x, {"text": y}, np.array([say(mission) for mission in drawn]))

    def space(self) -> spaces.Space:
        """Return that of token ids."""
        return spaces.MultiDiscrete([self.words["input"].size] * (2 * LONGEST))

    def meaning(self) -> dict[str, Any]:
        """Return languages and vocabulary."""
        languages = {"language": self.source, "target_language": self.target}
        return {**languages, "vocabulary": self.words["input"].sha256}

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> Supervised:
        """Put a decoder on the encoder."""
        return Translator(encoder, self.words["output"].size, 2 * LONGEST)

    def score(self, model: Supervised, data: Data) -> float:
        """Return the share of translations that ask for the same, on some of the examples; BLEU for a corpus."""
        found = self.report(model, data.take(np.arange(min(len(data), 300))))
        return float(found["bleu"] / 100 if self.corpus else found["equivalent"])

    def report(self, model: Supervised, data: Data) -> dict[str, Any]:
        """Return BLEU, chrF, exact matches, and the share that asks for the same as the original does.

        `bare_bleu` takes `a` for `the`: Chinese has neither, and no reader could tell which was meant.
        """
        words = self.words["output"]
        found = [words.decode(row) for row in model.predictions(data.x)["text"]]
        wanted = [words.decode(row[1:]) for row in data.y["text"]]
        plain = metrics.translation(found, wanted, self.target == "zh")
        if self.corpus:
            return plain
        same = [equivalent(a, b, mission, self.target) for a, b, mission in zip(found, wanted, data.group, strict=True)]
        bare = [[re.sub(r"\ba\b", "the", text) for text in texts] for texts in (found, wanted)]
        return {
            **plain, "equivalent": float(np.mean(same)),
            "bare_bleu": metrics.translation(bare[0], bare[1], self.target == "zh")["bleu"],
        }  # fmt: skip

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Those of both languages."""
        return self.words


def equivalent(found: str, wanted: str, mission: str, language: Language) -> bool:
    """Whether a translation asks for what the mission asks for; `a` and `the` may differ."""
    if language != "en":
        return found == wanted
    try:
        return parse(found).bare() == parse(mission).bare()
    except MissionError:
        return False


def translations() -> dict[str, type[Translation]]:
    """Return one task for each pair of languages with English on one side."""
    found = {}
    for source, target in (("zh", "en"), ("fr", "en"), ("en", "zh"), ("en", "fr")):
        name = f"translate-{source}-{target}"
        about: dict[str, Any] = {
            "name": name, "summary": f"translate missions from {source} to {target}", "source": source,
            "target": target, "__doc__": f"Missions from {source} to {target}.", "__module__": __name__,
        }  # fmt: skip
        if target != "en":
            about["goals"] = ()
        found[name] = type(f"Translate{source.title()}{target.title()}", (Translation,), about)
    return found

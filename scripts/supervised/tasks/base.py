"""Interface of supervised tasks, and the base of tasks with classes."""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
from gymnasium import spaces

from networks.encoders.base import Encoder
from networks.encoders.vocabulary import Vocabulary
from networks.supervised import metrics
from networks.supervised.data import IGNORE, Data, DataError, Splits
from networks.supervised.fit import FitConfig, balanced_weights
from networks.supervised.models import Classifier, SupervisedModel

Source = Literal["path", "env", "image_size"]
SOURCES: dict[Source, str] = {"path": "--data", "env": "--env", "image_size": "--image-size"}
"""Field of `DataOptions` -> its option in pretrain.py."""


@dataclass(frozen=True)
class DataOptions:
    """Source and number of the examples."""

    examples: int
    seed: int = 0
    """Seed of generated examples and of the split."""
    path: Path | None = None
    """Data on disk; None for data that is generated or ships with a dependency."""
    env: str | None = None
    """Environment id, for tasks on games."""
    image_size: int | None = None
    """Side of a game's frames in pixels; None: as in the game's protocol."""


@dataclass(frozen=True)
class Collected:
    """Examples with their origin."""

    splits: Splits
    facts: dict[str, Any]
    """JSON values for config.json, such as the source and the env frames used."""
    extra: dict[str, Data] = field(default_factory=dict)
    """Further test sets by name, such as held-out word pairs."""


@dataclass(frozen=True)
class Report:
    """Metrics of a model on one set of examples."""

    metrics: dict[str, float]
    heads: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Metrics of each head, with per-class values and the confusion matrix."""

    def to_json(self) -> dict[str, Any]:
        """Return metrics and heads as one JSON object."""
        return {**self.metrics, **({"heads": self.heads} if self.heads else {})}


@dataclass(frozen=True)
class Goal:
    """Threshold that a task must reach with its default data and architecture."""

    metric: str
    """Metric on the test split, or `name/metric` on a further test set."""
    threshold: float
    seconds: float
    """Maximum training time on 2 cores."""
    at_most: bool = False
    """Whether the threshold is an upper bound, as for an error."""

    def passed(self, value: float) -> bool:
        """Return whether the value reaches the threshold."""
        return value <= self.threshold if self.at_most else value >= self.threshold


class SupervisedTask(ABC):
    """Examples, a model with a loss, and metrics."""

    name: ClassVar[str]
    summary: ClassVar[str]
    arch: ClassVar[str]
    """Default architecture of the encoder."""
    examples: ClassVar[int]
    """Default number of examples."""
    config: ClassVar[FitConfig] = FitConfig()
    augment: ClassVar[tuple[str, ...]] = ()
    """Default augmentations."""
    goals: ClassVar[tuple[Goal, ...]] = ()
    goal_envs: ClassVar[tuple[str, ...]] = ()
    """Environments, besides the default one, for which the goals hold."""
    headline: ClassVar[tuple[str, ...]] = ()
    """Metrics shown in tables; the first one selects the best epoch."""
    sources: ClassVar[tuple[Source, ...]] = ()
    """Options that choose the data; any other is an error."""

    def check_sources(self, options: DataOptions) -> None:
        """Raise DataError for an option that does not apply to the task."""
        for name, option in SOURCES.items():
            if name not in self.sources and getattr(options, name) is not None:
                raise DataError(f"{self.name} takes no {option}")

    @abstractmethod
    def collect(self, options: DataOptions) -> Collected:
        """Generate or read the examples; raise DataError if that is impossible."""

    @abstractmethod
    def space(self) -> spaces.Space:
        """Return the space of the encoder's input; known after `collect`."""

    def goals_for(self, env: str | None) -> tuple[Goal, ...]:
        """Return the goals for an environment, or for the default one."""
        return self.goals if env is None or env in self.goal_envs else ()

    def observations(self, data: Data) -> np.ndarray:
        """Return the encoder's inputs [N, ...], from which the input normalisation is computed."""
        return data.x

    def play(self, model: SupervisedModel) -> dict[str, float]:
        """Return metrics of playing the game with the model; empty if the task plays none."""
        return {}

    def input_meaning(self) -> dict[str, Any]:
        """Return facts on the input for the encoder's spec, besides shape and dtype."""
        return {}

    def arch_kwargs(self) -> dict[str, Any]:
        """Return constructor arguments of the encoder."""
        return {}

    @abstractmethod
    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> SupervisedModel:
        """Return a model with the task's heads on an encoder."""

    @abstractmethod
    def report(self, model: SupervisedModel, data: Data) -> Report:
        """Return the metrics of a model on some examples."""

    def score(self, model: SupervisedModel, data: Data) -> float:
        """Return the metric that selects the best epoch; higher is better."""
        return self.report(model, data).metrics[self.headline[0]]

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        """Return the metrics of simple methods on the test split, by name."""
        return {}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Class names of each head."""
        return {}

    @property
    def vocabularies(self) -> dict[str, Vocabulary]:
        """Vocabularies of input and output."""
        return {}


class ClassificationTask(SupervisedTask):
    """A task with one or several heads of classes."""

    headline: ClassVar[tuple[str, ...]] = ("accuracy", "f1")
    logistic: ClassVar[bool] = True
    """Whether logistic regression is a baseline."""

    def model(self, encoder: Encoder, train: Data, config: FitConfig) -> SupervisedModel:
        """Return a model with a linear layer per head."""
        classes = {name: len(values) for name, values in self.labels.items()}
        weights = balanced_weights(train, classes) if config.class_weights == "balanced" else None
        return Classifier(encoder, classes, weights, config.label_smoothing)

    def report(self, model: SupervisedModel, data: Data) -> Report:
        """Return classification metrics, averaged over heads and by head."""
        return classification_report(model.predictions(data.x), data.y, self.labels)

    def features(self, data: Data) -> Any:
        """Return the input of logistic regression, [N, D]: the raw values."""
        return data.x.reshape(len(data), -1).astype(np.float32)

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        """Return the metrics of the majority class, and of logistic regression on raw input."""
        heads = list(self.labels)
        majority = [metrics.majority_baseline(splits.train.y[name], splits.test.y[name]) for name in heads]
        baselines = {
            "majority class": {key: float(np.mean([each[key] for each in majority])) for key in ("accuracy", "f1")}
        }
        if self.logistic:
            baselines["logistic regression"] = self._logistic_regression(splits, heads)
        return baselines

    def _logistic_regression(self, splits: Splits, heads: Sequence[str]) -> dict[str, float]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import MaxAbsScaler

        train, test = self.features(splits.train), self.features(splits.test)
        probabilities = {}
        for name in heads:
            known = splits.train.y[name] != IGNORE
            classes = np.unique(splits.train.y[name][known])
            probabilities[name] = np.zeros((len(splits.test), len(self.labels[name])))
            if len(classes) < 2:
                probabilities[name][:, classes] = 1.0
                continue
            regression = make_pipeline(MaxAbsScaler(), LogisticRegression(max_iter=300))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # 300 iterations are enough for a baseline
                regression.fit(train[known], splits.train.y[name][known])
            probabilities[name][:, classes] = regression.predict_proba(test)
        report = classification_report(probabilities, splits.test.y, {name: self.labels[name] for name in heads})
        return {key: report.metrics[key] for key in ("accuracy", "f1")}


def classification_report(
    probabilities: Mapping[str, np.ndarray], target: Mapping[str, np.ndarray], labels: Mapping[str, Sequence[str]]
) -> Report:
    """Return metrics averaged over heads, the share of examples with all heads correct, and metrics by head."""
    heads = {name: metrics.classification(probabilities[name], target[name], labels[name]) for name in labels}
    correct = [(probabilities[name].argmax(axis=1) == target[name]) | (target[name] == IGNORE) for name in labels]
    means = {
        key: float(np.nanmean([head[key] for head in heads.values()]))
        for key in ("accuracy", "precision", "recall", "f1", "ece")
    }
    return Report({**means, "exact": float(np.mean(np.all(correct, axis=0))), "examples": len(correct[0])}, heads)


def slot_report(probabilities: Mapping[str, np.ndarray], data: Data, labels: Mapping[str, Sequence[str]]) -> Report:
    """Return the metrics of a `SlotFiller`, with the share of examples that its pooled features get entirely right."""
    report = classification_report(probabilities, data.y, labels)
    pooled = [probabilities[f"pooled {name}"].argmax(axis=1) == data.y[name] for name in labels]
    return Report({**report.metrics, "pooled_exact": float(np.mean(np.all(pooled, axis=0)))}, report.heads)

"""Options of pretrain.py, a dataclass for each of its commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from networks.supervised.fit import FitConfig

Runs = Positional[tuple[Path, ...]]


@dataclass(frozen=True)
class DataSettings:
    """Examples."""

    examples: int | None = None
    """Number of examples; default: the task's, or the saved run's."""
    data: Path | None = None
    """Data set on disk, for tasks that read one."""
    env: str | None = None
    """Environment id, for tasks on games."""
    image_size: int | None = None
    """Side of an Atari game's frames in pixels; default: 84."""


@dataclass(frozen=True)
class EncoderChoice:
    """Encoder to train."""

    arch: str | None = None
    """Architecture; default: the task's."""
    start: Annotated[Path | None, arg(name="from")] = None
    """Start from the encoder of another run."""
    untrained: bool = False
    """Save the encoder with its initial weights, as the control of a transfer experiment."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a task and save its encoder."""

    data: DataSettings = field(default_factory=DataSettings)
    encoder: EncoderChoice = field(default_factory=EncoderChoice)
    fit: FitConfig = field(default_factory=FitConfig)
    repair: str | None = None
    """Repair observations. Missing values: zero, last, mean, median, knn, iterative; noise in images or sound: median,
    gaussian, wiener, spectral-gate (sound)."""
    augment: tuple[str, ...] | None = None
    """Augmentations (shift, cutout, noise, words, specaug), or none; default: the task's."""
    distill: Path | None = None
    """Distill the predictions of another run."""
    lr_find: bool = False
    """Find a learning rate with a range test first, and use it."""
    baselines: bool = True
    """Compare with baselines."""
    run_dir: Path | None = None
    """Run folder; default: a new one in runs/."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate saved encoders on their tasks again; the last line for each is JSON."""

    runs: Runs = ()
    data: DataSettings = field(default_factory=DataSettings)


@dataclass(frozen=True)
class ProbeOptions:
    """Train the heads of a task on the frozen features of saved encoders, and of untrained ones."""

    runs: Runs = ()
    task: str | None = None
    """Task to probe; default: the run's own."""
    data: DataSettings = field(default_factory=DataSettings)


@dataclass(frozen=True)
class CompareOptions:
    """Compare saved encoders in one table."""

    runs: Runs = ()


@dataclass(frozen=True)
class EnsembleOptions:
    """Evaluate the ensemble of several runs of one task."""

    runs: Runs = ()
    data: DataSettings = field(default_factory=DataSettings)


@dataclass(frozen=True)
class SimplifyOptions:
    """Prune and quantise a saved encoder."""

    runs: Runs = ()
    prune: tuple[float, ...] = ()
    """Shares of the weights to prune, each a variant."""
    quantize: bool = False
    """Also quantise each variant to 8 bits."""
    epochs: int = 0
    """Epochs of fine-tuning after pruning."""
    data: DataSettings = field(default_factory=DataSettings)
    run_dir: Path | None = None
    """Save the last variant in this run folder."""


@dataclass(frozen=True)
class RecordOptions:
    """Evaluate a speech-to-text run on human speech: write missions to read aloud, then evaluate their recordings."""

    runs: Runs = ()
    data: Path | None = None
    """Folder of the mission list and its recordings."""
    examples: int | None = None
    """Number of missions; default: 30."""

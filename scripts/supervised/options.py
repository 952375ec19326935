"""Options of pretrain.py, a dataclass for each of its commands."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, arg

from networks.supervised.fit import FitConfig

Runs = Annotated[
    Positional[tuple[Path, ...]],
    arg(metavar="RUN...", help="Folders made by pretrain.py.", help_behavior_hint="(required)"),
]


@dataclass(frozen=True)
class DataSettings:
    """Examples."""

    examples: Annotated[
        int | None, arg(metavar="N", help_behavior_hint="(default: as in the task, or the saved run)")
    ] = None
    """Number of examples."""
    data: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="")] = None
    """Data set on disk, for tasks that read one."""
    env: Annotated[str | None, arg(metavar="ID", help_behavior_hint="")] = None
    """Environment id, for tasks on games."""
    image_size: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 84)")] = None
    """Side of an Atari game's frames in pixels."""
    data_seed: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 0, or the saved run's)")] = None
    """Seed of generated examples and of the split into training, validation and test; --seed leaves both alone."""


@dataclass(frozen=True)
class EncoderChoice:
    """Encoder to train."""

    arch: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="(default: the task's)")] = None
    """Architecture; --list shows them."""
    start: Annotated[Path | None, arg(name="from", metavar="RUN", help_behavior_hint="")] = None
    """Start from the encoder of another run."""
    untrained: bool = False
    """Save the encoder with its initial weights, as the control of a transfer experiment."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a task and save its encoder."""

    data: DataSettings = field(default_factory=DataSettings)
    encoder: EncoderChoice = field(default_factory=EncoderChoice)
    fit: FitConfig = field(default_factory=FitConfig)
    repair: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Fill gaps (zero, last, mean, median, knn, iterative), filter (median, gaussian, wiener, spectral-gate)."""
    augment: Annotated[tuple[str, ...] | None, arg(metavar="NAME...", help_behavior_hint="(default: the task's)")] = (
        None
    )
    """Augmentations (shift, cutout, noise, words, specaug), or none."""
    distill: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Distill the predictions of another run."""
    lr_find: bool = False
    """Find a learning rate with a range test first, and use it."""
    baselines: bool = True
    """Compare with baselines."""
    run_dir: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: a new one in runs/)")] = None
    """Run folder."""


@dataclass(frozen=True)
class EvaluateOptions:
    """Evaluate saved encoders on their tasks again; the last line for each is JSON."""

    runs: Runs = ()
    data: DataSettings = field(default_factory=DataSettings)


@dataclass(frozen=True)
class ProbeOptions:
    """Train the heads of a task on the frozen features of saved encoders, and of untrained ones."""

    runs: Runs = ()
    task: Annotated[str | None, arg(metavar="TASK", help_behavior_hint="(default: the run's own)")] = None
    """Task to probe."""
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
    prune: Annotated[tuple[float, ...], arg(metavar="SHARE...", help_behavior_hint="")] = ()
    """Shares of the weights to prune, each a variant."""
    quantize: bool = False
    """Also quantise each variant to 8 bits."""
    epochs: int = 0
    """Epochs of fine-tuning after pruning."""
    data: DataSettings = field(default_factory=DataSettings)
    run_dir: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Save the last variant in this run folder."""


@dataclass(frozen=True)
class RecordOptions:
    """Evaluate a speech-to-text run on human speech: write missions to read aloud, then evaluate their recordings."""

    runs: Runs = ()
    data: Annotated[Path | None, arg(metavar="FOLDER", help_behavior_hint="(required)")] = None
    """Folder of the mission list and its recordings."""
    examples: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: 30)")] = None
    """Number of missions."""

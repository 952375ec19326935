"""Train a supervised task and save its encoder."""

from __future__ import annotations

import copy
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console

from agents.errors import ConfigError
from agents.run.display import Display
from networks.encoders import store
from networks.supervised.data import Data, check_disjoint
from networks.supervised.fit import Epoch, FitConfig, batch_tensors, find_learning_rate, fit
from networks.supervised.models import Ensemble, SupervisedModel
from scripts.report.tables import print_line, wide_console
from scripts.runner.files import RUNS, check_folder, time_stamp
from scripts.supervised import modules
from scripts.supervised.facts import PretrainingFacts
from scripts.supervised.options import TrainOptions
from scripts.supervised.tables import goal_lines, results_table
from scripts.supervised.tasks.base import Collected, DataOptions, Report, SupervisedTask

MIN_EXAMPLES = 50


def train(task: SupervisedTask, options: TrainOptions) -> None:
    """Collect the examples, train, evaluate beside baselines, save."""
    console, config = wide_console(), options.fit
    folder = _new_folder(task, options)
    start, teacher = (store.load(path) if path else None for path in (options.encoder.start, options.distill))
    if start is not None and options.encoder.arch:
        raise ConfigError("--from brings its own architecture; leave --arch out")
    collected = _collect(task, options, console)
    for path, parent in ((options.encoder.start, start), (options.distill, teacher)):
        if path is not None and parent is not None:
            test = collected.splits.test
            PretrainingFacts.of(parent).check_unseen(path, task.name, _source(task, options), test)
    arch = start.encoder.spec.arch if start is not None else options.encoder.arch or task.arch
    if start is not None:
        model = modules.model_from(task, start, collected, config)
    else:
        model = modules.new_model(task, arch, collected, config)
    if options.lr_find:
        config = replace(config, learning_rate=find_learning_rate(model, collected.splits.train, config))
        print_line(console, f"learning rate {config.learning_rate:.2g}: a tenth of the one with the lowest loss")
    options = replace(options, fit=config)
    fitted = _fit(task, model, collected, options, teacher, console)
    reports = _reports(task, model, fitted.snapshots, collected)
    baselines: dict[str, dict[str, float]] = {}
    if options.baselines:
        baselines = {**task.baselines(collected.splits), "random frozen trunk": _frozen(task, arch, collected, config)}
    features = modules.feature_statistics(model.encoder, task.observations(collected.splits.test))
    if features["dead"] > 0.5:
        print_line(console, f"warning: {features['dead']:.0%} of the features are the same for every example")
    model.encoder.spec = replace(model.encoder.spec, preprocess={"repair": options.repair} if options.repair else {})
    facts = _facts(task, options, collected, start, teacher, fitted)
    result = {
        **{name: report.to_json() for name, report in reports.items()}, "features": features,
        "baselines": baselines, "seconds": fitted.seconds, "epochs": [asdict(epoch) for epoch in fitted.epochs],
    }  # fmt: skip
    _save(folder, task, model, facts, result)
    for number, snapshot in enumerate(fitted.snapshots, 1):
        snapshot.encoder.spec = model.encoder.spec
        report = task.report(snapshot, collected.splits.test)
        _save(folder / "snapshots" / str(number), task, snapshot, facts, {"test": report.to_json()})
    _print_results(task, options, reports, baselines, fitted.seconds, console)
    print_line(console, f"encoder: {folder / 'encoder'}")


def _new_folder(task: SupervisedTask, options: TrainOptions) -> Path:
    options.fit.validate()
    name = f"{task.name}__s{options.fit.seed}__{time_stamp()}"
    folder = options.run_dir or RUNS / name
    check_folder(folder, "--run-dir")
    if (folder / "encoder").exists():
        raise ConfigError(f"{folder} is taken; choose another --run-dir")
    return folder


def _collect(task: SupervisedTask, options: TrainOptions, console: Console) -> Collected:
    data = options.data
    if data.examples is not None and data.examples < MIN_EXAMPLES:
        raise ConfigError(f"--examples must be at least {MIN_EXAMPLES}, not {data.examples}")
    if options.fit.threads:
        torch.set_num_threads(options.fit.threads)
    begin = time.monotonic()
    collected = modules.collect(task, _source(task, options), options.repair)
    check_disjoint(collected.splits)
    sizes, seconds = ", ".join(f"{len(part):,}" for part in collected.splits), time.monotonic() - begin
    print_line(console, f"{task.name}: {sizes} examples for training, validation, test; collected in {seconds:.0f} s")
    return collected


def _source(task: SupervisedTask, options: TrainOptions) -> DataOptions:
    data = options.data
    return DataOptions(data.examples or task.examples, data.data_seed or 0, data.data, data.env, data.image_size)


@dataclass(frozen=True)
class _Fitted:
    """Outcome of the training loop."""

    epochs: list[Epoch]
    snapshots: list[SupervisedModel]
    """Copies of the model at the end of each schedule cycle."""
    seconds: float
    augment: tuple[str, ...]


def _fit(
    task: SupervisedTask, model: SupervisedModel, collected: Collected, options: TrainOptions,
    teacher: store.Stored | None, console: Console,
) -> _Fitted:  # fmt: skip
    config, loss = options.fit, None
    if teacher is not None:
        from networks.supervised.simplify import distillation_loss

        loss = distillation_loss(model, modules.restore(task, teacher, collected))
    names = tuple(name for name in (task.augment if options.augment is None else options.augment) if name != "none")
    augment = None
    if names:
        from networks.supervised.augment import make_augmentation

        augment = make_augmentation(names, model.encoder.spec.modality, model.encoder)
    snapshots: list[SupervisedModel] = []
    if config.cycles > 1:
        _check_ensemble(model, collected.splits.train)
    if options.encoder.untrained:
        model.eval()
        return _Fitted([], snapshots, 0.0, names)
    begin = time.monotonic()
    with Display(config.epochs, task.name, console=console) as display:

        def on_epoch(epoch: Epoch) -> None:
            if display.due() or epoch.number == config.epochs:
                metrics = {"loss": epoch.loss, "validation": epoch.score, "learning_rate": epoch.learning_rate}
                display.update(epoch.number, metrics, {})

        def on_cycle_end() -> None:
            if config.cycles > 1:
                snapshots.append(copy.deepcopy(model).eval())

        epochs = fit(model, collected.splits, config, task.score, augment, on_epoch, loss, on_cycle_end)
    model.eval()
    return _Fitted(epochs, snapshots, time.monotonic() - begin, names)


def _check_ensemble(model: SupervisedModel, data: Data) -> None:
    """Raise EncoderError if the model's predictions cannot be averaged."""
    x, _ = batch_tensors(data, np.arange(1), model)
    with torch.no_grad():
        Ensemble([model]).predict(x)


def _reports(
    task: SupervisedTask, model: SupervisedModel, snapshots: Sequence[SupervisedModel], collected: Collected
) -> dict[str, Report]:
    """Return the reports on the test split, further test sets, the snapshots' ensemble, and playing the game."""
    reports = {"test": task.report(model, collected.splits.test)}
    reports |= {name: task.report(model, data) for name, data in collected.extra.items()}
    if snapshots:
        ensemble = task.report(Ensemble(snapshots), collected.splits.test)
        reports[f"vote of {len(snapshots)} snapshots"] = ensemble
    if played := task.play(model):
        reports["played"] = Report(played)
    return reports


def _frozen(task: SupervisedTask, arch: str, collected: Collected, config: FitConfig) -> dict[str, float]:
    """Baseline: trained heads on a frozen, randomly initialised encoder."""
    model = modules.new_model(task, arch, collected, config)
    metrics = modules.fit_heads(task, model, collected.splits, config).metrics
    return {key: metrics[key] for key in task.headline if key in metrics}


def _facts(
    task: SupervisedTask, options: TrainOptions, collected: Collected, start: store.Stored | None,
    teacher: store.Stored | None, fitted: _Fitted,
) -> dict[str, Any]:  # fmt: skip
    source = _source(task, options)
    frames = collected.facts.get("env_frames", 0) + (start.env_frames if start is not None else 0)
    fingerprints = [part.fingerprint for part in collected.splits]
    return PretrainingFacts(
        task=task.name, examples=source.examples, data_seed=source.seed, env=source.env, image_size=source.image_size,
        path=source.path, untrained=options.encoder.untrained, augment=fitted.augment,
        distilled_from=teacher.sha256 if teacher is not None else None,
        start={"task": PretrainingFacts.of(start).task, "sha256": start.sha256} if start is not None else None,
        data={**collected.facts, "env_frames": frames, "fingerprints": fingerprints}, config=options.fit,
        seconds=fitted.seconds,
    ).to_json()  # fmt: skip


def _print_results(
    task: SupervisedTask, options: TrainOptions, reports: Mapping[str, Report],
    baselines: Mapping[str, Mapping[str, float]], seconds: float, console: Console,
) -> None:  # fmt: skip
    """Print the table, and the goals if they apply: trained on the task's own data with the default architecture."""
    metrics = {name: report.metrics for name, report in reports.items()}
    console.print(results_table(task, metrics, baselines))
    if options.data.data is None and options.encoder.arch in (None, task.arch) and not options.encoder.untrained:
        for line in goal_lines(task.goals_for(options.data.env), metrics, seconds):
            print_line(console, line)


def _save(
    folder: Path, task: SupervisedTask, model: SupervisedModel, facts: dict[str, Any], report: dict[str, Any]
) -> None:
    """Write the encoder folder, and a picture of the confusion matrix of up to four heads."""
    from scripts.report import plots

    folder.mkdir(parents=True, exist_ok=True)
    labels = {name: list(values) for name, values in task.labels.items()}
    heads = model.heads.state_dict()
    store.save(folder / "encoder", model.encoder, heads, facts, report, labels, task.vocabularies)
    by_head = report["test"].get("heads", {})
    for name in list(by_head)[:4]:
        if "confusion" in by_head[name]:
            plots.confusion(by_head[name]["confusion"], labels[name], folder / f"confusion_{name}.png")

"""Evaluate, probe, compare, ensemble and compress encoders saved by pretrain.py."""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.markup import escape
from rich.table import Table

from agents.errors import ConfigError
from agents.run import provenance
from networks.encoders import store
from networks.encoders.base import build
from networks.supervised.fit import fit
from networks.supervised.models import Ensemble, SupervisedModel
from networks.supervised.simplify import count_nonzero, prune, quantize
from scripts.report.tables import number, print_line, wide_console
from scripts.runner.files import check_folder
from scripts.runner.origin import origin
from scripts.supervised import modules
from scripts.supervised.facts import PretrainingFacts
from scripts.supervised.options import (
    CompareOptions,
    DataSettings,
    EnsembleOptions,
    EvaluateOptions,
    ProbeOptions,
    SimplifyOptions,
)
from scripts.supervised.tables import results_table
from scripts.supervised.tasks.base import Collected, DataOptions, Report, SupervisedTask
from scripts.supervised.tasks.registry import TASKS, make_task, task_class


def evaluate(options: EvaluateOptions) -> None:
    """Evaluate saved encoders on newly collected examples of their task; print one line of JSON for each."""
    for path in _check_runs(options.runs, 1, "evaluate"):
        stored = store.load(path)
        facts = PretrainingFacts.of(stored)
        task, collected = _collect_again(stored, options.data)
        report = task.report(modules.restore(task, stored, collected), collected.splits.test)
        same = collected.splits.test.fingerprint == facts.data["fingerprints"][2]
        about = {"run": provenance.relative(str(path)), "task": task.name, "same_examples": same}
        print(json.dumps({**about, **report.metrics, "sha256": stored.sha256}))


def _collect_again(
    stored: store.Stored, data: DataSettings, name: str | None = None
) -> tuple[SupervisedTask, Collected]:
    """Collect examples as in a saved encoder's training, of its own task or of the task `name`.

    Raises ConfigError if the test can hold examples that the encoder was trained on.
    """
    facts = PretrainingFacts.of(stored)
    task = make_task(name or facts.task)
    source = _source(facts, task, data)
    collected = modules.collect(task, source, stored.encoder.spec.preprocess.get("repair"))
    facts.check_unseen(stored.folder, task.name, source, collected.splits.test)
    return task, collected


def _source(facts: PretrainingFacts, task: SupervisedTask, data: DataSettings) -> DataOptions:
    own = task.name == facts.task
    return DataOptions(
        data.examples or (facts.examples if own else task.examples),
        facts.data_seed if data.data_seed is None else data.data_seed,
        data.data or (facts.path if own else None),
        data.env or (facts.env if "env" in task.sources else None),
        data.image_size or (facts.image_size if "image_size" in task.sources else None),
    )


def probe(options: ProbeOptions) -> None:
    """Train a task's heads on the frozen features of a saved encoder, and of the same architecture untrained."""
    for path in _check_runs(options.runs, 1, "probe"):
        stored = store.load(path)
        facts = PretrainingFacts.of(stored)
        task, collected = _collect_again(stored, options.data, options.task or facts.task)
        store.check_fits(stored, "input", task.space())
        config = replace(facts.config, epochs=30, early_stop=5, cycles=1)
        trained = modules.model_on_device(task, stored.encoder, collected, config)
        reports = {"frozen features": modules.fit_heads(task, trained, collected.splits, config).metrics}
        spec = stored.encoder.spec
        torch.manual_seed(config.seed)
        encoder = build(spec.arch, task.space(), **spec.kwargs)
        modules.fit_normalization(encoder, task.observations(collected.splits.train), config)
        untrained = modules.model_on_device(task, encoder, collected, config)
        baselines = {"untrained features": modules.fit_heads(task, untrained, collected.splits, config).metrics}
        wide_console().print(results_table(task, reports, baselines))


def compare(options: CompareOptions) -> None:
    """Print a row for each saved encoder, from its report."""
    table = Table(box=None)
    for name in ("run", "task", "architecture", "parameters", "examples", "seconds", "result"):
        table.add_column(name, overflow="fold")
    for path in _check_runs(options.runs, 1, "compare"):
        stored = store.load(path)
        facts = PretrainingFacts.of(stored)
        metrics = json.loads((stored.folder / "report.json").read_text())["test"]
        headline = task_class(facts.task).headline if facts.task in TASKS else ()
        result = ", ".join(f"{key} {metrics[key]:.3f}" for key in headline if key in metrics)
        parameters = sum(parameter.numel() for parameter in stored.encoder.parameters())
        cells = [facts.task, stored.encoder.spec.arch, f"{parameters:,}", f"{facts.examples:,}"]
        table.add_row(escape(path.name), *cells, number(facts.seconds), result)
    wide_console().print(table)


def _check_runs(runs: Sequence[Path], minimum: int, command: str) -> Sequence[Path]:
    if len(runs) < minimum:
        least = "at least two folders" if minimum == 2 else "folders"
        raise ConfigError(f"{command} takes {least} made by pretrain.py")
    return runs


def ensemble(options: EnsembleOptions) -> None:
    """Evaluate several saved models of one task, and their ensemble."""
    paths = _check_runs(options.runs, 2, "ensemble")
    saved = [store.load(path) for path in paths]
    facts = [PretrainingFacts.of(stored) for stored in saved]
    task, collected = _collect_again(saved[0], options.data)
    source = _source(facts[0], task, options.data)
    for path, each in zip(paths, facts, strict=True):
        if each.task != task.name:
            raise ConfigError(f"{path} was trained on {each.task}, {paths[0]} on {task.name}; give runs of one task")
        each.check_unseen(path, task.name, source, collected.splits.test)
    members = [modules.restore(task, stored, collected) for stored in saved]
    test = collected.splits.test
    rows = {path.name: task.report(model, test).metrics for path, model in zip(paths, members, strict=True)}
    rows[f"ensemble of {len(members)}"] = task.report(Ensemble(members), test).metrics
    wide_console().print(results_table(task, {}, rows))


def simplify(options: SimplifyOptions) -> None:
    """Evaluate pruned and quantised variants of a saved model; save the last one with --run-dir.

    With --epochs, pruned variants are fine-tuned; pruned weights stay 0.
    """
    path = _check_runs(options.runs, 1, "simplify")[0]
    if options.run_dir is not None:
        check_folder(options.run_dir, "--run-dir")
        if (options.run_dir / "encoder").exists():
            raise ConfigError(f"{options.run_dir} is taken; choose another --run-dir")
    if options.epochs < 0:
        raise ConfigError(f"--epochs must not be negative, not {options.epochs}")
    stored = store.load(path)
    task, collected = _collect_again(stored, options.data)
    trained = modules.restore(task, stored, collected)
    table = Table(box=None)
    for name in ("variant", "nonzero weights", "MB on disk", "ms for 64", *task.headline):
        table.add_column(name, justify="left" if name == "variant" else "right")
    for share in (0.0, *options.prune):
        model = copy.deepcopy(trained)
        prune(model, share)
        if share and options.epochs:
            _fine_tune(task, model, collected, stored, options.epochs)
        for bits in (32, 8) if options.quantize else (32,):
            if bits == 8:
                quantize(model)
            label = (f"{share:.0%} pruned" if share else "original") + (", 8 bits" if bits == 8 else "")
            report = task.report(model, collected.splits.test)
            size = sum(parameter.numel() for parameter in model.parameters()) * bits / 8e6
            costs = (f"{count_nonzero(model)[0]:,}", f"{size:.2f}", f"{_milliseconds(model, collected):.1f}")
            table.add_row(label, *costs, *(f"{report.metrics[key]:.3f}" for key in task.headline))
    wide_console().print(table)
    if options.run_dir is not None:
        _save_variant(options.run_dir, task, model, stored, label, report, options.quantize)


def _save_variant(
    run_dir: Path,
    task: SupervisedTask,
    model: SupervisedModel,
    stored: store.Stored,
    label: str,
    report: Report,
    int8: bool,
) -> None:
    facts = {**stored.config, "simplified_from": stored.sha256, "variant": label, **origin().to_json()}
    facts = {key: value for key, value in facts.items() if key not in ("spec", "files")}
    labels = {key: list(values) for key, values in task.labels.items()}
    heads, result = model.heads.state_dict(), {"test": report.to_json()}
    store.save(run_dir / "encoder", model.encoder, heads, facts, result, labels, task.vocabularies, int8)
    print_line(wide_console(), f"encoder: {run_dir / 'encoder'}")


def _fine_tune(
    task: SupervisedTask, model: SupervisedModel, collected: Collected, stored: store.Stored, epochs: int
) -> None:
    """Train the remaining weights; pruned ones stay 0, since their gradient is masked and there is no weight decay."""
    pruned = {name: weight == 0 for name, weight in model.named_parameters() if weight.dim() >= 2}
    hooks = [weight.register_hook(lambda grad, name=name: grad.masked_fill(pruned[name], 0.0))
             for name, weight in model.named_parameters() if name in pruned]  # fmt: skip
    config = replace(PretrainingFacts.of(stored).config, epochs=epochs, cycles=1, device="auto", weight_decay=0.0)
    fit(model, collected.splits, replace(config, learning_rate=0.3 * config.learning_rate), task.score)
    for hook in hooks:
        hook.remove()


def _milliseconds(model: SupervisedModel, collected: Collected) -> float:
    """Return the median time of predicting 64 examples."""
    x, times = collected.splits.test.x[:64], []
    for _ in range(5):
        begin = time.perf_counter()
        model.predictions(x)
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times))

"""What can be done with encoders that pretrain.py has saved: judge, probe, compare, let vote, make smaller."""

from __future__ import annotations

import argparse
import copy
import json
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from rich.table import Table

from agents.errors import ConfigError
from agents.run import provenance
from networks.encoders import store
from networks.encoders.base import build
from networks.supervised.fit import FitConfig, fit
from networks.supervised.models import Ensemble, Supervised
from networks.supervised.simplify import count_nonzero, prune, quantize
from scripts.report.tables import number, wide_console
from scripts.runner.origin import origin
from scripts.supervised.tasks.base import Collected, DataOptions, Task
from scripts.supervised.tasks.registry import TASKS, task
from scripts.supervised.train_task import center, heads_only, judgement, on_device, restored, say_line, whole


def evaluate(arguments: argparse.Namespace) -> None:
    """Judge saved encoders on their own task again, with data made anew; the last line is JSON."""
    for path in _runs(arguments, 1):
        stored = store.load(path)
        what, collected = _again(stored, arguments)
        model = restored(what, stored, collected)
        found = what.report(model, collected.splits.test)
        same = collected.splits.test.fingerprint == stored.config["data"]["fingerprints"][2]
        words = {key: value for key, value in found.items() if not isinstance(value, dict)}
        about = {"run": provenance.relative(str(path)), "task": what.name, "same_examples": same}
        print(json.dumps({**about, **words, "sha256": stored.sha256}))


def _again(stored: store.Stored, arguments: argparse.Namespace, name: str | None = None) -> tuple[Task, Collected]:
    """Return the task of a saved encoder (or another), and its examples, made as they were."""
    what, config = task(name or stored.config["task"]), stored.config
    examples = arguments.examples or (config["examples"] if name is None else what.examples)
    env = arguments.env or config["env"]
    path = arguments.data or (Path(config["path"]) if config["path"] and name is None else None)
    size = arguments.image_size or config.get("image_size")
    collected = what.collect(DataOptions(examples, config["config"]["seed"], path, env, size))
    return what, whole(what, collected, stored.encoder.spec.preprocess.get("repair"))


def probe(arguments: argparse.Namespace) -> None:
    """Train heads of a task on the frozen features of a saved encoder, and of the same encoder untrained."""
    for path in _runs(arguments, 1):
        stored = store.load(path)
        what, collected = _again(stored, arguments, arguments.task or stored.config["task"])
        store.check_fits(stored, "the task's input", what.space())
        config = FitConfig(**{**stored.config["config"], "epochs": 30, "early_stop": 5, "cycles": 1})
        found = heads_only(what, on_device(what, stored.encoder, collected, config), collected.splits, config)
        spec = stored.encoder.spec
        torch.manual_seed(config.seed)
        blank = build(spec.arch, what.space(), **spec.kwargs)
        center(blank, what.seen(collected.splits.train), config)
        fresh = heads_only(what, on_device(what, blank, collected, config), collected.splits, config)
        report = {"frozen features": found}
        wide_console().print(judgement(what, report, {"untrained features": fresh}))


def compare(arguments: argparse.Namespace) -> None:
    """Print one line for each saved encoder, from its report."""
    table = Table(box=None)
    for name in ("run", "task", "architecture", "parameters", "examples", "seconds", "result"):
        table.add_column(name, overflow="fold")
    for path in _runs(arguments, 1):
        stored = store.load(path)
        report = json.loads((stored.folder / "report.json").read_text())
        keys = TASKS[stored.config["task"]].headline if stored.config["task"] in TASKS else ()
        result = ", ".join(f"{key} {report['test'][key]:.3f}" for key in keys if key in report["test"])
        parameters = sum(parameter.numel() for parameter in stored.encoder.parameters())
        cells = [stored.config["task"], stored.encoder.spec.arch, f"{parameters:,}", f"{stored.config['examples']:,}"]
        table.add_row(path.name, *cells, number(stored.config["seconds"]), result)
    wide_console().print(table)


def _runs(arguments: argparse.Namespace, least: int) -> list[Path]:
    if len(arguments.runs) < least:
        raise ConfigError(f"{arguments.what} takes folders that pretrain.py made")
    return list(arguments.runs)


def ensemble(arguments: argparse.Namespace) -> None:
    """Let several saved networks of one task vote, and print what each and all of them are worth."""
    paths = _runs(arguments, 2)
    every = [store.load(path) for path in paths]
    what, collected = _again(every[0], arguments)
    members = [restored(what, stored, collected) for stored in every]
    rows = {path.name: what.report(member, collected.splits.test) for path, member in zip(paths, members, strict=True)}
    voted = what.report(Ensemble(members), collected.splits.test)
    wide_console().print(judgement(what, {}, {**rows, f"the {len(members)} of them": voted}))


def simplify(arguments: argparse.Namespace) -> None:
    """Leave weights out, or keep them in eight bits, and print what that costs; save the last variant with --run-dir.

    With --epochs the network learns on after weights were left out, which stay left out.
    """
    (path,) = _runs(arguments, 1)[:1]
    if arguments.run_dir is not None and (arguments.run_dir / "encoder").exists():
        raise ConfigError(f"{arguments.run_dir} is taken; choose another --run-dir")
    stored = store.load(path)
    what, collected = _again(stored, arguments)
    trained = restored(what, stored, collected)
    table = Table(box=None)
    for name in ("variant", "numbers not 0", "MB on disk", "ms for 64", *what.headline):
        table.add_column(name, justify="left" if name == "variant" else "right")
    variants = [("as it is", 0.0), *((f"{share:.0%} left out", share) for share in arguments.prune or ())]
    for name, share in variants:
        model = copy.deepcopy(trained)
        prune(model, share)
        if share and arguments.epochs:
            _learn_on(what, model, collected, stored, arguments.epochs)
        for bits in (32, 8) if arguments.quantize else (32,):
            if bits == 8:
                quantize(model)
            found = what.report(model, collected.splits.test)
            label = name if bits == 32 else f"{name}, in 8 bits"
            figures = [f"{found[key]:.3f}" for key in what.headline]
            size = sum(part.numel() for part in model.parameters()) * bits / 8e6
            cost = (f"{count_nonzero(model)[0]:,}", f"{size:.2f}", f"{_milliseconds(model, collected):.1f}")
            table.add_row(label, *cost, *figures)
    wide_console().print(table)
    if arguments.run_dir is not None:
        facts = {**stored.config, "simplified_from": stored.sha256, "variant": label, **origin().to_json()}
        facts = {key: value for key, value in facts.items() if key not in ("spec", "files")}
        labels = {key: list(values) for key, values in what.labels.items()}
        parts = (facts, {"test": found}, labels, what.vocabularies, bool(arguments.quantize))
        store.save(arguments.run_dir / "encoder", model.encoder, model.heads.state_dict(), *parts)
        say_line(wide_console(), f"encoder: {arguments.run_dir / 'encoder'}")


def _learn_on(what: Task, model: Supervised, collected: Collected, stored: store.Stored, epochs: int) -> None:
    """Train what is left; what was left out stays 0, for it has no gradient and there is no decay."""
    gone = {name: weight == 0 for name, weight in model.named_parameters() if weight.dim() >= 2}
    hooks = [weight.register_hook(lambda grad, name=name: grad.masked_fill(gone[name], 0.0))
             for name, weight in model.named_parameters() if name in gone]  # fmt: skip
    config = replace(FitConfig(**stored.config["config"]), epochs=epochs, cycles=1, device="auto", weight_decay=0.0)
    fit(model, collected.splits, replace(config, learning_rate=0.3 * config.learning_rate), what.score)
    for hook in hooks:
        hook.remove()


def _milliseconds(model: Supervised, collected: Collected) -> float:
    """Return the median time that 64 examples take."""
    x, times = collected.splits.test.x[:64], []
    for _ in range(5):
        begin = time.perf_counter()
        model.predictions(x)
        times.append(1e3 * (time.perf_counter() - begin))
    return float(np.median(times))

"""One supervised training from its data to the saved encoder; and what can be done with a saved one."""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from agents.errors import ConfigError
from agents.run import machine
from agents.run.display import Display
from networks.encoders import store
from networks.encoders.base import ARCHITECTURES, Encoder, build
from networks.supervised.augment import make_augmentation
from networks.supervised.data import Data, DataError, Splits, check_disjoint
from networks.supervised.fit import Epoch, FitConfig, batch_tensors, find_learning_rate, fit
from networks.supervised.models import Classifier, Ensemble, Supervised, load_heads
from networks.supervised.repair import make_repairer
from networks.supervised.simplify import distillation_loss
from networks.torsos.normalize import Normalize
from scripts.command_line.options import parse
from scripts.report import plots
from scripts.report.tables import wide_console
from scripts.runner.files import RUNS
from scripts.runner.origin import origin
from scripts.supervised.tasks.base import Collected, DataOptions, Goal, Task
from scripts.supervised.tasks.registry import TASKS, task


def train(arguments: argparse.Namespace, rest: list[str]) -> None:
    """Make the data, train, judge beside the baselines, save."""
    what = task(arguments.what)
    if arguments.runs:
        raise ConfigError(f"{what.name} takes no {arguments.runs[0]}; options begin with --")
    config = parse(type(what.config), rest, prog=what.name, default=what.config)
    config.validate()
    folder = arguments.run_dir or RUNS / f"{what.name}__s{config.seed}__{time.strftime('%Y%m%d-%H%M%S')}"
    if (folder / "encoder").exists() or (folder.exists() and not folder.is_dir()):
        raise ConfigError(f"{folder} is taken; choose another --run-dir")
    if arguments.examples is not None and arguments.examples < 50:
        raise ConfigError(f"--examples must be at least 50, not {arguments.examples}")
    console = wide_console()
    if config.threads:
        torch.set_num_threads(config.threads)
    count, size = arguments.examples or what.examples, arguments.image_size
    wanted = DataOptions(count, config.seed, arguments.data, arguments.env, size)
    begin = time.monotonic()
    collected = what.collect(wanted)
    collected = whole(what, collected, arguments.repair)
    check_disjoint(collected.splits)
    sizes = ", ".join(f"{len(part):,}" for part in collected.splits)
    say_line(
        console, f"{what.name}: {sizes} examples to train, validate, test; made in {time.monotonic() - begin:.0f} s"
    )
    start = store.load(arguments.start) if arguments.start else None
    if start is not None and arguments.arch:
        raise ConfigError("--from brings its own architecture; leave --arch out")
    arch = start.encoder.spec.arch if start is not None else arguments.arch or what.arch
    model = _begun(what, start, collected, config) if start is not None else _model(what, arch, collected, config)
    teacher = store.load(arguments.distill) if arguments.distill else None
    loss = distillation_loss(model, restored(what, teacher, collected)) if teacher is not None else None
    names = what.augment if arguments.augment is None else [name for name in arguments.augment if name != "none"]
    augment = make_augmentation(names, model.encoder.spec.modality, model.encoder)
    if arguments.lr_find:
        config = replace(config, learning_rate=find_learning_rate(model, collected.splits.train, config))
        say_line(console, f"learning rate {config.learning_rate:.2g}: a tenth of where the loss is lowest")
    begin = time.monotonic()
    epochs: list[Epoch] = []
    snapshots: list[Supervised] = []
    over = _taking(snapshots, model, collected.splits.train) if config.cycles > 1 else None
    if not arguments.untrained:
        with Display(config.epochs, what.name, console=console) as display:
            show = partial(_show, display, config.epochs)
            epochs = fit(model, collected.splits, config, what.score, augment, show, loss, over)
    seconds = time.monotonic() - begin
    report = {"test": what.report(model, collected.splits.test)}
    report |= {name: what.report(model, data) for name, data in collected.extra.items()}
    report |= _vote(what, snapshots, collected.splits.test)
    model.eval()
    played = what.played(model)
    report |= {"played": played} if played else {}
    baselines = {} if arguments.no_baselines else what.baselines(collected.splits)
    if not arguments.no_baselines:
        baselines["random frozen trunk"] = _random_trunk(what, arch, collected, config)
    frames = collected.facts.get("env_frames", 0) + (start.env_frames if start is not None else 0)
    model.encoder.spec = replace(
        model.encoder.spec, preprocess={"repair": arguments.repair} if arguments.repair else {}
    )
    facts = {
        "task": what.name, "examples": wanted.examples, "env": wanted.env,
        "image_size": size, "untrained": arguments.untrained,
        "path": str(wanted.path) if wanted.path else None, "augment": list(names),
        "distilled_from": teacher.sha256 if teacher is not None else None,
        "from": {"task": start.config["task"], "sha256": start.sha256} if start is not None else None,
        "data": {
            **collected.facts, "env_frames": frames,
            "fingerprints": [part.fingerprint for part in collected.splits],
        },
        "config": asdict(config), "seconds": seconds, **origin().to_json(),
    }  # fmt: skip
    changing = liveliness(model.encoder, what.seen(collected.splits.test))
    if changing["dead"] > 0.5:
        say_line(console, f"warning: {changing['dead']:.0%} of the features are the same for every example")
    result = {
        **report,
        "features": changing,
        "baselines": baselines,
        "seconds": seconds,
        "epochs": [asdict(epoch) for epoch in epochs],
    }
    _save(folder, what, model, facts, result)
    _save_snapshots(folder / "snapshots", what, model, snapshots, facts, collected.splits.test)
    console.print(judgement(what, report, baselines))
    for line in [] if arguments.untrained else goal_lines(what, report, seconds, wanted, arguments):
        say_line(console, line)
    say_line(console, f"encoder: {folder / 'encoder'}")


def whole(what: Task, collected: Collected, repair: str | None) -> Collected:
    """Return examples in which what is missing or noisy was repaired, as was learned from those to train on."""
    if repair is None:
        return collected
    try:
        tool = make_repairer(repair, what.space().shape or ()).fit(collected.splits.train.x)
    except (DataError, IndexError) as error:
        raise ConfigError(f"--repair {repair}: {error}") from error
    mended = [Data(tool(part.x), part.y, part.group) for part in (*collected.splits, *collected.extra.values())]
    return Collected(Splits(*mended[:3]), collected.facts, dict(zip(collected.extra, mended[3:], strict=True)))


def _show(display: Display, total: int, epoch: Epoch) -> None:
    if display.due() or epoch.number == total:
        facts = {"loss": epoch.loss, "validation": epoch.score, "learning_rate": epoch.learning_rate}
        display.update(epoch.number, facts, {})


def _taking(snapshots: list[Supervised], model: Supervised, data: Data) -> Callable[[], None]:
    """Return what adds a copy of the model as it is then; raise EncoderError where copies could not vote."""
    x, _ = batch_tensors(data, np.arange(min(len(data), 1)), model)
    if len(x):
        with torch.no_grad():
            Ensemble([model]).predict(x)
    return lambda: snapshots.append(copy.deepcopy(model).eval())


def _vote(what: Task, snapshots: list[Supervised], test: Data) -> dict[str, Any]:
    """Return what the networks at the ends of the schedule's cycles are worth together."""
    return {f"vote of {len(snapshots)} snapshots": what.report(Ensemble(snapshots), test)} if snapshots else {}


def _save_snapshots(
    folder: Path, what: Task, model: Supervised, snapshots: list[Supervised], facts: dict[str, Any], test: Data
) -> None:
    """Write a folder for each, which `ensemble` and agents take like any other."""
    for number, snapshot in enumerate(snapshots, 1):
        snapshot.encoder.spec = model.encoder.spec
        _save(folder / str(number), what, snapshot, facts, {"test": what.report(snapshot, test)})


def _model(what: Task, arch: str, collected: Collected, config: FitConfig) -> Supervised:
    """Build the module; its input is normalised by the mean and deviation of what it is to learn from."""
    torch.manual_seed(config.seed)
    encoder = build(arch, what.space(), what.meaning(), **what.arch_options())
    center(encoder, what.seen(collected.splits.train), config)
    return on_device(what, encoder, collected, config)


def _begun(what: Task, start: store.Stored, collected: Collected, config: FitConfig) -> Supervised:
    """Build the module on an encoder that has learned something else, whose normalisation stays."""
    store.check_fits(start, "the task's input", what.space())
    torch.manual_seed(config.seed)
    return on_device(what, start.encoder, collected, config)


def on_device(what: Task, encoder: Encoder, collected: Collected, config: FitConfig) -> Supervised:
    """Put a task's heads on an encoder, on the device that the config names."""
    return what.model(encoder, collected.splits.train, config).to(machine.which_device(config.device))


def center(encoder: Encoder, x: np.ndarray, config: FitConfig) -> None:
    """Normalise an encoder's input by mean and deviation of observations, where it has such a thing."""
    if config.normalize == "per-channel" and x.ndim != 4:
        raise ConfigError(f"--normalize per-channel is for images, not for {'x'.join(map(str, x.shape[1:]))}")
    if config.normalize == "range":
        return
    normalize = getattr(encoder, "normalize", None)
    if isinstance(normalize, Normalize):
        some = np.random.default_rng(0).permutation(len(x))[:4_000]
        samples = torch.from_numpy(np.ascontiguousarray(x[np.sort(some)]))
        normalize.fit(samples, config.normalize == "per-channel")


def _random_trunk(what: Task, arch: str, collected: Collected, config: FitConfig) -> dict[str, float]:
    """Return what the same network is worth that was never trained, with heads that are: the features' own merit."""
    model = _model(what, arch, collected, config)
    found = heads_only(what, model, collected.splits, config)
    return {key: found[key] for key in what.headline if key in found}


def heads_only(what: Task, model: Supervised, splits: Splits, config: FitConfig) -> dict[str, Any]:
    """Train the heads on frozen features, computed once where that will do; return the report on the test split."""
    model.encoder.requires_grad_(False)
    if isinstance(model, Classifier):
        parts = Splits(*(Data(_features(model.encoder, part.x), part.y, part.group) for part in splits))
        trunk = model.encoder
        model.encoder = PrecomputedFeatures(trunk.out_dim, trunk)
        fit(model, parts, config, what.score)
        return what.report(model, parts.test)
    fit(model, splits, config, what.score)
    return what.report(model, splits.test)


class PrecomputedFeatures(Encoder):
    """Features that were computed before."""

    def __init__(self, out_dim: int, source: Encoder):
        super().__init__()
        self.out_dim, self.spec = out_dim, source.spec

    def forward(self, x: Tensor) -> Tensor:
        """Return them, [B, out_dim]."""
        return x


def _features(encoder: Encoder, x: np.ndarray) -> np.ndarray:
    encoder.eval()
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        batches = (torch.from_numpy(np.ascontiguousarray(x[s : s + 256])).to(device) for s in range(0, len(x), 256))
        return torch.cat([encoder(batch) for batch in batches]).float().cpu().numpy()


def liveliness(encoder: Encoder, x: np.ndarray) -> dict[str, float]:
    """Return the share of features that never change over examples, and the mean deviation of the others."""
    deviation = _features(encoder, x[:512]).std(axis=0)
    dead = deviation < 1e-6
    return {"dead": float(dead.mean()), "std": float(deviation[~dead].mean()) if not dead.all() else 0.0}


def _save(folder: Path, what: Task, model: Supervised, facts: dict[str, Any], report: dict[str, Any]) -> None:
    """Write the encoder folder and pictures of what was confused with what."""
    folder.mkdir(parents=True, exist_ok=True)
    labels = {name: list(values) for name, values in what.labels.items()}
    store.save(folder / "encoder", model.encoder, model.heads.state_dict(), facts, report, labels, what.vocabularies)
    heads = report["test"].get("heads", {})
    for name in list(heads)[:4]:
        if "confusion" in heads[name]:
            plots.confusion(heads[name]["confusion"], labels[name], folder / f"confusion_{name}.png")


def restored(what: Task, stored: store.Stored, collected: Collected) -> Supervised:
    """Return the whole module of a saved folder; raise ConfigError for one of another task."""
    if stored.config["task"] != what.name:
        raise ConfigError(f"{stored.folder} was trained on {stored.config['task']}, not on {what.name}")
    config = replace(FitConfig(**stored.config["config"]), device="auto")
    return load_heads(on_device(what, stored.encoder, collected, config), stored.heads)


def judgement(what: Task, report: dict[str, Any], baselines: dict[str, dict[str, float]]) -> Table:
    """Return one line for each test, and for each baseline."""
    table = Table(box=None)
    table.add_column(f"{what.name}, on examples never seen", no_wrap=True)
    for name in what.headline:
        table.add_column(name, justify="right")
    rows = {**{f"trained, {name}": found for name, found in report.items()}, **baselines}
    for name, found in rows.items():
        table.add_row(name, *(f"{found[key]:.3f}" if key in found else "-" for key in what.headline))
    return table


def goal_lines(
    what: Task, report: dict[str, Any], seconds: float, wanted: DataOptions, arguments: argparse.Namespace
) -> list[str]:
    """Return one line for each goal that the task has on its own data."""
    if wanted.path is not None or arguments.arch not in (None, what.arch):
        return []
    lines, goals = [], what.goals_for(wanted.env)
    for goal in goals:
        value = measured(goal, report)
        verdict = "reached" if goal.passed(value) else "MISSED"
        sign = "at most" if goal.most else "at least"
        lines.append(f"goal {verdict}: {goal.metric} {value:.3f}, {sign} {goal.least:g} was wanted")
    if goals:
        limit = goals[0].seconds
        lines.append(f"goal {'reached' if seconds <= limit else 'MISSED'}: {seconds:.0f} s of training, of {limit:.0f}")
    return lines


def measured(goal: Goal, report: dict[str, Any]) -> float:
    """Return the number that a gate looks at."""
    test, _, name = goal.metric.rpartition("/")
    return float(report[test or "test"][name])


def print_list() -> None:
    """Show tasks and architectures."""
    console = wide_console()
    table = Table("task", "what it does", "architecture", "examples", box=None)
    for name, kind in TASKS.items():
        table.add_row(name, kind.summary, kind.arch, f"{kind.examples:,}")
    console.print(table)
    table = Table("reads", "architectures", box=None)
    for modality in dict.fromkeys(modality for modality, _ in ARCHITECTURES.values()):
        names = [name for name, (kind, _) in ARCHITECTURES.items() if kind == modality]
        table.add_row(modality, ", ".join(names))
    console.print(table)


def say_line(console: Console, line: str) -> None:
    """Print a line as it is, however long."""
    console.print(line, highlight=False, markup=False, soft_wrap=True)

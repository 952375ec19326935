"""Transfer: how many env steps pretrained encoders save an agent, against agents without them.

A YAML file (scripts/transfers/) lists the arms. All arms share seeds and budget; pretraining frames count towards an
arm's steps to a threshold. A run that never reaches the threshold counts as its budget, so a ratio with such a run is a
bound, and is marked as one.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import MISSING, asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints

import numpy as np
from rich.table import Table
from tyro.conf import Positional, arg

from agents.annotations import coerce, in_words
from agents.errors import ConfigError
from envs.make import resolve_protocol
from networks.encoders import store
from scripts.experiments.results import FINAL_EVAL_SEED, ContenderResult, RunOutcome
from scripts.experiments.settings import Settings, TrainingOptions
from scripts.experiments.suite import compete, finish
from scripts.experiments.training_jobs import Contender, make_contender
from scripts.report import statistics as st
from scripts.report.run_data import read_run
from scripts.report.tables import interval, number, print_line, wide_console
from scripts.runner.evaluation import evaluate_agent
from scripts.runner.files import read_yaml, write_json
from scripts.runner.saved_run import load_run

MEASURES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "return": lambda returns: returns,
    "success": lambda returns: (returns > 0).astype(float),
}
"""Name -> function from the returns of games to their scores, both float [games]."""
REPS = 2_000


@dataclass(frozen=True, kw_only=True)
class Transfer(TrainingOptions):
    """Train agents with and without pretrained encoders, and compare the env steps that they need.

    Options of train.py for every run go after a --.
    """

    file: Annotated[Positional[Path | None], arg(metavar="FILE.yaml", help_behavior_hint="")] = None
    """Arms to compare, as in scripts/transfers/."""
    total_steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: the file's)")] = None
    """Env steps of each run."""
    eval_episodes: Annotated[int, arg(metavar="N")] = 100
    """Games that evaluate each run after training."""
    out: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None
    """Write all numbers to this JSON file."""

    def run(self, overrides: Sequence[str]) -> None:
        """Train, evaluate and print; `overrides` are options of train.py for every run."""
        if self.file is None:
            raise ConfigError("name a file of arms, as in scripts/transfers/: transfer FILE.yaml")
        plan = read_plan(self.file)
        if self.total_steps is not None:
            plan = replace(plan, total_steps=self.total_steps)
        settings = self.make_settings((plan.env,), self.seed_range, plan.total_steps, overrides=overrides, out=self.out)
        transfer(self.file, plan, settings)


@dataclass(frozen=True)
class Plan:
    """Content of a file of arms."""

    algorithm: str
    env: str
    total_steps: int
    thresholds: tuple[int | float, ...]
    arms: dict[str, str]
    """Name -> options of train.py."""
    preset: str | None = None
    options: str = ""
    """Options of train.py for all arms."""
    measure: Literal["return", "success"] = "return"
    """Score of a game: its return, or success (1 where the return is above 0)."""
    window: int = 100
    """Games that a score is averaged over."""
    judged: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """Name -> changed settings under which the trained agents are evaluated too, such as other missions."""
    against: tuple[str, ...] = ()
    """Arms that the others are compared with; by default the first arm."""


NEEDED = {each.name for each in fields(Plan) if each.default is MISSING and each.default_factory is MISSING}


@dataclass(frozen=True)
class ArmResult:
    """An arm's training, and the env steps that it took."""

    trained: ContenderResult
    pretraining_steps: int
    """Agent steps on which the arm's encoders were trained."""
    steps_to: dict[str, list[int | None]]
    """Threshold -> env steps of each run until it was reached; None for never."""
    final: list[float | None]
    """Score over the last games of each run."""
    judged: dict[str, list[float]]
    """Name of changed settings -> score of each run under them."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the training and of the arm side by side."""
        return {**asdict(self.trained), **{key: value for key, value in asdict(self).items() if key != "trained"}}

    def total_steps(self, threshold: float, budget: int) -> np.ndarray:
        """Return pretraining and training steps of each run until the threshold, float [runs]; `budget` for never."""
        steps = [budget if reached is None else reached for reached in self.steps_to[str(threshold)]]
        return np.array(steps, float) + self.pretraining_steps


@dataclass(frozen=True)
class Ratio:
    """Steps of the best comparison arm divided by an arm's own, with a 95 % bootstrap interval."""

    ratio: float
    interval: tuple[float, float] | None
    bound: str
    """">=" or "<=" where runs of one side never got there, "?" where runs of both did not."""


@dataclass(frozen=True)
class Threshold:
    """Ratios of all arms at one threshold; `against` is the best comparison arm, None where none was trained."""

    goal: float
    against: str | None
    ratios: dict[str, Ratio]


def read_plan(path: Path) -> Plan:
    """Return a file of arms; raise ConfigError where it is none."""
    values = read_yaml(path)
    if not isinstance(values, dict) or NEEDED - set(values):
        missing = sorted(NEEDED - set(values)) if isinstance(values, dict) else sorted(NEEDED)
        raise ConfigError(f"{path} is no file of arms: it lacks {', '.join(missing)}")
    unknown = sorted(set(values) - {each.name for each in fields(Plan)})
    if unknown:
        raise ConfigError(f"{path} has unknown keys: {', '.join(map(str, unknown))}")
    if not isinstance(values["arms"], dict) or len(values["arms"]) < 2:
        raise ConfigError(f"{path}: there must be two arms at least, each with its options")
    arms = {str(name): str(words or "") for name, words in values["arms"].items()}
    hints = get_type_hints(Plan)
    settings: dict[str, Any] = {"against": [next(iter(arms))], **values, "arms": arms}
    for name, value in settings.items():
        try:
            settings[name] = coerce(value, hints[name])
        except ValueError as error:
            raise ConfigError(f"{path}: {name} takes {in_words(hints[name])}, not {value!r}") from error
    plan = Plan(**settings)
    if plan.window < 1:
        raise ConfigError(f"{path}: window must be at least 1, not {plan.window}")
    unknown = sorted(set(plan.against) - set(arms))
    if unknown or not plan.against:
        raise ConfigError(f"{path}: against must name arms of the file, not {', '.join(unknown) or 'nothing'}")
    return plan


def transfer(path: Path, plan: Plan, settings: Settings) -> None:
    """Train and evaluate all arms; print steps to the thresholds and their ratios."""
    arms: list[Contender] = []
    for name, words in plan.arms.items():
        options = [*shlex.split(plan.options), *shlex.split(words), *settings.overrides]
        arms.append(make_contender(name, plan.algorithm, plan.env, plan.preset, options, plan.total_steps))
    unknown = sorted({name for changes in plan.judged.values() for name in changes or ()} - set(arms[0].config))
    if unknown:
        raise ConfigError(f"{path}: judged changes {', '.join(unknown)}, which {plan.algorithm} does not have")
    pretraining = [pretraining_steps(arm) for arm in arms]
    console = wide_console()
    print_line(console, f"{path.name}: {len(arms)} arms of {plan.algorithm} on {plan.env}")
    results, failed = compete(arms, settings, console)
    rows = [
        arm_result(result, steps, plan, settings.episodes) for result, steps in zip(results, pretraining, strict=True)
    ]
    ratios = [compare_arms(rows, plan, threshold) for threshold in plan.thresholds]
    console.print(transfer_table(rows, ratios, plan))
    numbers = {"ratios": [asdict(each) for each in ratios], "rows": [row.to_json() for row in rows]}
    finish({"suite": "transfer", "file": path.read_text(), **numbers}, failed, settings)


def pretraining_steps(arm: Contender) -> int:
    """Return the agent steps on which an arm's encoders were trained."""
    frames = sum(store.load(Path(word.partition("=")[2])).env_frames for word in arm.config["encoder"])
    protocol = resolve_protocol(arm.env, arm.config["protocol"], arm.config["image_size"])
    return frames // protocol.frame_skip


def arm_result(trained: ContenderResult, pretraining: int, plan: Plan, episodes: int) -> ArmResult:
    """Read an arm's runs: steps to each threshold, final scores, and scores under changed settings."""
    reached = [steps_to(folder, plan) for folder in trained.folders]
    steps = {str(threshold): [run[threshold] for run in reached] for threshold in plan.thresholds}
    final = [final_score(folder, plan) for folder in trained.folders]
    judged = {
        name: [score_under(run, plan, name, episodes) for run in (trained.runs if episodes else ())]
        for name in plan.judged
    }
    return ArmResult(trained, pretraining, steps, final, judged)


def steps_to(folder: Path, plan: Plan) -> dict[float, int | None]:
    """Return the env steps at which the mean over the window first reached each threshold; None for never."""
    games, window = read_run(folder).games, plan.window
    if len(games) < window:
        return dict.fromkeys(plan.thresholds)
    means = st.running_mean(MEASURES[plan.measure](games[:, 2]), window)[window - 1 :]
    steps: dict[float, int | None] = {}
    for threshold in plan.thresholds:
        above = np.flatnonzero(means >= threshold)
        steps[threshold] = int(games[window - 1 + above[0], 0]) if len(above) else None
    return steps


def final_score(folder: Path, plan: Plan) -> float | None:
    """Return the mean over the last games of training; None before the first has ended."""
    games = read_run(folder).games
    return float(MEASURES[plan.measure](games[-plan.window :, 2]).mean()) if len(games) else None


def score_under(run: RunOutcome, plan: Plan, name: str, episodes: int) -> float:
    """Return a run's mean score in games with changed settings; a file in the run folder keeps the returns."""
    changes, folder = plan.judged[name] or {}, Path(run.folder)
    path = folder / f"judged-{name.replace(' ', '-')}.json"
    saved = load_run(folder)
    request = {"changes": changes, "episodes": episodes, "env_steps": saved.state["env_steps"]}
    record = json.loads(path.read_text()) if path.exists() else {}
    if any(record.get(key) != value for key, value in request.items()):
        env_kwargs = {**saved.config.env_kwargs, **changes.get("env_kwargs", {})}
        config = replace(saved.config, **{**changes, "env_kwargs": env_kwargs})
        record = {**request, "returns": evaluate_agent(saved.agent, config, episodes, FINAL_EVAL_SEED).returns}
        write_json(path, record)
    return float(MEASURES[plan.measure](np.array(record["returns"])).mean())


def compare_arms(rows: Sequence[ArmResult], plan: Plan, threshold: float) -> Threshold:
    """Return, for each other arm, the best comparison arm's steps divided by its own."""
    arms = {row.trained.label: row for row in rows if row.trained.runs}
    steps = {name: row.total_steps(threshold, plan.total_steps) for name, row in arms.items()}
    rivals = [name for name in plan.against if name in steps]
    if not rivals:
        return Threshold(threshold, None, {})
    best = min(rivals, key=lambda name: float(steps[name].mean()))
    never = {name: None in row.steps_to[str(threshold)] for name, row in arms.items()}
    bounds = {(True, False): ">=", (False, True): "<=", (True, True): "?", (False, False): ""}
    ratios = {}
    for name, own in steps.items():
        if name in rivals:
            continue
        rng = np.random.default_rng(0)
        resampled = (part[rng.integers(len(part), size=(REPS, len(part)))].mean(axis=1) for part in (steps[best], own))
        low, high = np.percentile(np.divide(*resampled), (2.5, 97.5))
        several = min(len(own), len(steps[best])) > 1
        ratios[name] = Ratio(
            ratio=float(steps[best].mean() / own.mean()),
            interval=(float(low), float(high)) if several else None,
            bound=bounds[never[best], never[name]],
        )
    return Threshold(threshold, best, ratios)


def transfer_table(rows: Sequence[ArmResult], thresholds: Sequence[Threshold], plan: Plan) -> Table:
    """Return one line for each arm."""
    title = (
        f"env steps, pretraining included, until the mean {plan.measure} of the last {plan.window} games reaches a "
        f"threshold: mean over seeds, {plan.total_steps:,} for a run that never does (in brackets: runs that do)"
    )
    table = Table(box=None, title=title, title_justify="left")
    table.add_column("arm", overflow="fold")
    for threshold in thresholds:
        for name in (f"to {threshold.goal:g}", "ratio", ""):
            table.add_column(name, justify="right")
    for name in (f"final {plan.measure}", "", *plan.judged):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [row.trained.label]
        for threshold in thresholds:
            steps = row.steps_to[str(threshold.goal)]
            mean = float(row.total_steps(threshold.goal, plan.total_steps).mean()) if steps else None
            cells.append(f"{number(mean)} ({sum(value is not None for value in steps)}/{len(steps)})")
            ratio = threshold.ratios.get(row.trained.label)
            cells += [f"{ratio.bound}{ratio.ratio:.2f}", interval(ratio.interval)] if ratio else ["", ""]
        final = np.array([value for value in row.final if value is not None])
        cells.append(number(float(st.iqm([final])) if len(final) else None))
        cells.append(interval(st.bootstrap([final], st.iqm, np.random.default_rng(0)) if len(final) else None))
        cells += [number(float(np.mean(scores)) if scores else None) for scores in row.judged.values()]
        table.add_row(*cells)
    return table

"""Sweeps: search settings by a Weights & Biases sweep file on this machine, without an account or a server.

`wandb sweep FILE` runs the same search on W&B. Optuna proposes the trials: all of a grid, random ones or, for the
method bayes, those of the tree-structured Parzen estimator. Each trial is evaluated by full games after training. The
same seed proposes the same trials, and a finished trial is not trained again, so a stopped sweep can be continued.

Source of the estimator: Bergstra et al. 2011, "Algorithms for Hyper-Parameter Optimization" (NIPS), section 4.
"""

from __future__ import annotations

import importlib.util
import math
from bisect import bisect
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from rich.console import Console
from rich.table import Table
from tyro.conf import Positional, arg

from agents.errors import ConfigError
from scripts.experiments.results import ContenderResult
from scripts.experiments.settings import Settings, TrainingOptions
from scripts.experiments.suite import compete, finish
from scripts.experiments.training_jobs import make_contender
from scripts.report.tables import number, print_line, wide_console

if TYPE_CHECKING:  # the extra `sweep`
    import optuna

    from scripts.experiments.sweep_file import Parameter, SweepFile, TrainCommand


@dataclass(frozen=True, kw_only=True)
class Sweep(TrainingOptions):
    """Search settings by a Weights & Biases sweep file, without an account.

    Options of train.py for every run go after a --.
    """

    file: Annotated[Positional[Path | None], arg(metavar="FILE.yaml", help_behavior_hint="")] = None
    """A W&B sweep file, with algorithm, game, preset and env steps in its command."""
    count: Annotated[int | None, arg(metavar="N", help_behavior_hint="(default: run_cap, or all of a grid)")] = None
    """Trials."""
    seeds: Annotated[int, arg(metavar="N")] = 1
    """Runs of each trial."""
    out: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None
    """Write all numbers to this JSON file."""

    def run(self, overrides: Sequence[str]) -> None:
        """Train, evaluate and print; `overrides` are options of train.py for every run."""
        if self.file is None:
            raise ConfigError("name a sweep file, as in scripts/sweeps/: sweep FILE.yaml")
        if any(importlib.util.find_spec(name) is None for name in ("optuna", "pydantic")):
            raise ConfigError("no Optuna and pydantic: pip install -c constraints.txt -e '.[sweep]'")
        from scripts.experiments.sweep_file import read_command, read_sweep_file

        plan = read_sweep_file(self.file)
        command = read_command(plan, self.file)
        count = number_of_trials(plan, self.count)
        settings = self.make_settings(
            (command.env,), self.seed_range, command.total_steps, overrides=overrides, out=self.out
        )
        sweep(self.file, plan, command, count, settings)


@dataclass(frozen=True)
class Trial:
    """One trial of a sweep: its parameters and its training."""

    parameters: dict[str, Any]
    trained: ContenderResult

    def to_json(self) -> dict[str, Any]:
        """Return the fields of the training and the parameters side by side."""
        return {**asdict(self.trained), "parameters": self.parameters}

    def figure(self, plan: SweepFile) -> float | None:
        """Return the figure that ranks the trial; None where all its runs failed."""
        return self.trained.evaluation if plan.metric.name == "eval/return_mean" else self.trained.iqm


def sweep(path: Path, plan: SweepFile, command: TrainCommand, count: int, settings: Settings) -> None:
    """Train and evaluate the trials of a sweep file, and print them from best to worst."""
    console = wide_console()
    print_line(console, f"{path.name}: {count} trials of {command.algorithm} on {command.env}")
    trials, failed = run_trials(plan, command, count, settings, console)
    sign = 1 if plan.metric.goal == "maximize" else -1
    trials.sort(key=lambda trial: -math.inf if (figure := trial.figure(plan)) is None else sign * figure, reverse=True)
    console.print(sweep_table(trials))
    best = trials[0]
    if best.figure(plan) is not None:
        words = [command.algorithm, "--env", command.env, *(["--preset", command.preset] if command.preset else [])]
        line = " ".join([*words, *best.trained.overrides, "--total-steps", str(command.total_steps)])
        print_line(console, f"best: python scripts/train.py {line}")
    numbers = {"file": path.read_text(), "rows": [trial.to_json() for trial in trials]}
    finish({"suite": "sweep", **numbers}, failed, settings)


def run_trials(
    plan: SweepFile, command: TrainCommand, count: int, settings: Settings, console: Console
) -> tuple[list[Trial], dict[str, str]]:
    """Propose, train and evaluate up to `count` trials; return them, and an error line for each failed job."""
    study = make_study(plan, settings.seeds.start)
    trials: list[Trial] = []
    failed: dict[str, str] = {}
    # only bayes learns from results: it proposes as many trials as run side by side, the others all at once
    batch_size = max(settings.parallel // len(settings.seeds), 1) if plan.method == "bayes" else count
    while len(trials) < count:
        proposals = propose(study, plan, min(batch_size, count - len(trials)))
        contenders = []
        for index, (_, values) in enumerate(proposals, len(trials)):
            options = [*command.options, *(f"--{name}={value}" for name, value in values.items()), *settings.overrides]
            contenders.append(make_contender(
                f"trial {index}", command.algorithm, command.env, command.preset, options, command.total_steps
            ))  # fmt: skip
        results, failures = compete(contenders, settings, console)
        failed |= failures
        batch = [Trial(values, result) for (_, values), result in zip(proposals, results, strict=True)]
        trials += batch
        if plan.method != "bayes":
            break  # there may be fewer than `count` combinations of values
        tell(study, plan, [proposal for proposal, _ in proposals], batch)
    return trials, failed


def number_of_trials(plan: SweepFile, count: int | None) -> int:
    """Return how many trials to make; raise ConfigError where command line and file lack it."""
    if count is not None and count < 1:
        raise ConfigError(f"--count must be at least 1, not {count}")
    count = count or plan.run_cap
    if plan.method == "grid":
        size = math.prod(len(parameter.choices or ()) for parameter in plan.parameters.values())
        return min(count or size, size)
    if count is None:
        raise ConfigError(f"say how many {plan.method} trials to make: --count N")
    return count


def make_study(plan: SweepFile, seed: int) -> optuna.Study:
    """Return an Optuna study in memory, with the sampler of the plan's method."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    sampler: optuna.samplers.BaseSampler
    if plan.method == "grid":
        choices = {name: range(len(parameter.choices or ())) for name, parameter in plan.parameters.items()}
        sampler = optuna.samplers.GridSampler(choices, seed=seed)
    elif plan.method == "random":
        sampler = optuna.samplers.RandomSampler(seed=seed)
    else:
        sampler = optuna.samplers.TPESampler(seed=seed)
    return optuna.create_study(sampler=sampler, direction=plan.metric.goal)


def propose(study: optuna.Study, plan: SweepFile, count: int) -> list[tuple[optuna.Trial, dict[str, Any]]]:
    """Return up to `count` different trials, each with its parameters; fewer where there are no more combinations."""
    proposals: dict[str, tuple[optuna.Trial, dict[str, Any]]] = {}
    for _ in range(100 * count):
        trial = study.ask()
        values = {name: suggest(trial, name, parameter) for name, parameter in plan.parameters.items()}
        proposals.setdefault(str(values), (trial, values))
        if len(proposals) == count:
            break
    return list(proposals.values())


def suggest(trial: optuna.Trial, name: str, parameter: Parameter) -> Any:
    """Return a value of one parameter: choices by their index, ranges by W&B's distributions."""
    choices = parameter.choices
    if choices is not None and parameter.probabilities is None:
        return choices[trial.suggest_categorical(name, range(len(choices)))]
    if choices is not None and parameter.probabilities is not None:
        ends = list(accumulate(parameter.probabilities))[:-1]
        return choices[bisect(ends, trial.suggest_float(name, 0.0, 1.0))]
    assert parameter.min is not None
    assert parameter.max is not None
    if parameter.kind == "int_uniform":
        return trial.suggest_int(name, int(parameter.min), int(parameter.max))
    value = trial.suggest_float(name, parameter.min, parameter.max, log="log" in parameter.kind)
    if parameter.kind.startswith("q_"):
        value = round(value / parameter.q) * parameter.q
    return float(f"{value:.4g}")


def tell(study: optuna.Study, plan: SweepFile, proposals: Sequence[optuna.Trial], trials: Sequence[Trial]) -> None:
    """Tell the study the figures of finished trials."""
    import optuna

    for proposal, trial in zip(proposals, trials, strict=True):
        figure = trial.figure(plan)
        if figure is None:
            study.tell(proposal, state=optuna.trial.TrialState.FAIL)
        else:
            study.tell(proposal, figure)


def sweep_table(trials: Sequence[Trial]) -> Table:
    """Return one line for each trial."""
    table = Table(box=None, title="trials, best first; evaluation: full games after training", title_justify="left")
    names = list(trials[0].parameters)
    for name in ("", *names, "evaluation", "score", "env steps", "seconds", "steps/s"):
        table.add_column(name, justify="right", overflow="fold")
    for trial in trials:
        result = trial.trained
        cells = [result.label, *(str(trial.parameters[name]) for name in names)]
        figures = (result.evaluation, result.iqm, result.env_steps, result.wall_seconds, result.steps_per_second)
        table.add_row(*cells, *map(number, figures))
    return table

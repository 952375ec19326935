"""Sweeps: a Weights & Biases sweep file, followed on this machine: no account, no server.

The file is W&B's own (docs.wandb.ai/models/sweeps/sweep-config-keys), so `wandb sweep FILE` runs the same search there.
Methods grid and random; a trial is judged by full games after training, as every run of a suite is.
"""

from __future__ import annotations

import argparse
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from agents.errors import ConfigError
from scripts.command_line import errors
from scripts.experiments.suite import compete, finish
from scripts.experiments.training_jobs import Contender, Settings, contender
from scripts.report.tables import number, wide_console
from scripts.runner.files import read_yaml

METRICS = ("eval/return_mean", "episode/return")
FOLLOWED = {"program", "method", "metric", "parameters", "command", "run_cap"}
IGNORED = {"name", "description", "project", "entity"}
ARGUMENTS = ("${args}", "${args_no_boolean_flags}")


def sweep(path: Path, count: int | None, settings: Settings, overrides: Sequence[str]) -> None:
    """Train and judge the trials of a sweep file, and print them from best to worst."""
    plan = read(path)
    algorithm, env, preset, total_steps, fixed = _command(plan["command"], path)
    settings = replace(settings, envs=(env,), total_steps=total_steps)
    trials = draw(plan, count or plan.get("run_cap"), settings.seeds.start)
    candidates: list[Contender] = []
    for index, values in enumerate(trials):
        given = [*fixed, *(f"--{name}={value}" for name, value in values.items()), *overrides]
        candidates.append(contender(f"trial {index}", algorithm, env, preset, given, total_steps))
    console = wide_console()
    console.print(f"{path.name}: {len(trials)} trials of {algorithm} on {env}", highlight=False, markup=False)
    rows, failed = compete(candidates, settings, console)
    for row, values in zip(rows, trials, strict=True):
        row["parameters"] = values
    sign = 1 if plan["metric"]["goal"] == "maximize" else -1
    figure = "evaluation" if plan["metric"]["name"] == METRICS[0] else "iqm"
    rows.sort(key=lambda row: -math.inf if row[figure] is None else sign * row[figure], reverse=True)
    console.print(sweep_table(rows))
    if rows[0][figure] is not None:
        words = [algorithm, "--env", env, *(["--preset", preset] if preset else []), *rows[0]["overrides"]]
        best = f"best: python scripts/train.py {' '.join(words)} --total-steps {total_steps}"
        console.print(best, highlight=False, markup=False, soft_wrap=True)
    finish({"suite": "sweep", "file": path.read_text(), "rows": rows}, failed, settings)


def read(path: Path) -> dict[str, Any]:
    """Return a sweep file's content, or raise ConfigError for what cannot be followed here."""
    plan = read_yaml(path)
    if not isinstance(plan, dict) or not isinstance(plan.get("parameters"), dict) or not plan["parameters"]:
        raise ConfigError(f"{path} is not a sweep file: it has no parameters")
    unknown = sorted(set(plan) - FOLLOWED - IGNORED)
    if unknown:
        raise ConfigError(f"{path}: {', '.join(unknown)} cannot be followed here; use `wandb sweep`, or take it out")
    if plan.get("method") not in ("grid", "random"):
        raise ConfigError(f"{path}: the method {plan.get('method')} needs W&B's server; grid and random work here too")
    metric = plan.setdefault("metric", {"name": METRICS[0]})
    if not isinstance(metric, dict) or metric.get("name") not in METRICS:
        raise ConfigError(f"{path}: the metric must be {' or '.join(METRICS)}")
    if metric.setdefault("goal", "maximize") not in ("maximize", "minimize"):
        raise ConfigError(f"{path}: the metric's goal must be maximize or minimize, not {metric['goal']}")
    if not isinstance(plan.get("command"), list) or not set(ARGUMENTS) & set(plan["command"]):
        raise ConfigError(f"{path} has no command that ends in {ARGUMENTS[0]}")
    return plan


def _command(words: list[Any], path: Path) -> tuple[str, str, str | None, int, list[str]]:
    """Return algorithm, game, preset, steps and the other options of the train.py command in a sweep file."""
    texts = [str(word) for word in words]
    if "${program}" not in texts:
        raise ConfigError(f"{path}: its command must run ${{program}}, which is scripts/train.py")
    behind = [word for word in texts[texts.index("${program}") + 1 :] if word not in ARGUMENTS]
    parser = errors.Parser(add_help=False, allow_abbrev=False)
    parser.add_argument("algorithm")
    parser.add_argument("--env", required=True)
    parser.add_argument("--preset")
    parser.add_argument("--total-steps", type=int, required=True)
    parser.add_argument("--track")  # for W&B's agent
    given, rest = parser.parse_known_args(behind)
    return given.algorithm, given.env, given.preset, given.total_steps, rest


def draw(plan: dict[str, Any], count: int | None, seed: int) -> list[dict[str, Any]]:
    """Return the trials, each parameter -> value: all of a grid, or `count` different random ones."""
    parameters: dict[str, dict[str, Any]] = plan["parameters"]
    for name, about in parameters.items():
        _check(name, about)
    if count is not None and count < 1:
        raise ConfigError(f"--count must be at least 1, not {count}")
    if plan["method"] == "grid":
        endless = [name for name, about in parameters.items() if not {"value", "values"} & set(about)]
        if endless:
            raise ConfigError(f"a grid needs the values of {', '.join(endless)}, one by one")
        axes = [about.get("values", [about.get("value")]) for about in parameters.values()]
        trials = [dict(zip(parameters, chosen, strict=True)) for chosen in itertools.product(*axes)]
        return trials[:count]
    if count is None:
        raise ConfigError("say how many random trials to draw: --count N")
    rng = np.random.default_rng(seed)
    found: dict[str, dict[str, Any]] = {}
    for _ in range(100 * count):  # few values may not have `count` combinations
        trial = {name: sample(about, rng) for name, about in parameters.items()}
        found.setdefault(str(trial), trial)
        if len(found) == count:
            break
    return list(found.values())


DISTRIBUTIONS = ("uniform", "int_uniform", "q_uniform", "log_uniform_values", "q_log_uniform_values")


def _check(name: str, about: Any) -> None:
    """Raise ConfigError for a parameter that cannot be drawn."""
    if not isinstance(about, dict):
        raise ConfigError(f"parameter {name} must be given as value, values, or min and max")
    if "value" in about or (isinstance(about.get("values"), list) and about["values"]):
        return
    kind = about.get("distribution", "uniform")
    if kind not in DISTRIBUTIONS:
        raise ConfigError(f"parameter {name}: the distribution {kind} is not among {', '.join(DISTRIBUTIONS)}")
    low, high = about.get("min"), about.get("max")
    if not isinstance(low, int | float) or not isinstance(high, int | float) or low > high:
        raise ConfigError(
            f"parameter {name} needs numbers as min and max, not {low} and {high} (write 0.0001, not 1e-4)"
        )
    if "log" in kind and low <= 0:
        raise ConfigError(f"parameter {name}: a logarithmic range begins above 0, not at {low}")


def sample(about: dict[str, Any], rng: np.random.Generator) -> Any:
    """Draw a value of one parameter, by the distributions of W&B."""
    if "value" in about:
        return about["value"]
    if "values" in about:
        return about["values"][rng.choice(len(about["values"]), p=about.get("probabilities"))]
    low, high = about["min"], about["max"]
    whole = isinstance(low, int) and isinstance(high, int)
    kind = about.get("distribution", "int_uniform" if whole else "uniform")
    if kind == "int_uniform":
        return int(rng.integers(low, high, endpoint=True))
    value = math.exp(rng.uniform(math.log(low), math.log(high))) if "log" in kind else rng.uniform(low, high)
    if kind.startswith("q_"):
        step = about.get("q", 1)
        value = round(value / step) * step
    return float(f"{value:.4g}")


def sweep_table(rows: Sequence[dict[str, Any]]) -> Table:
    """Return one line for each trial."""
    table = Table(box=None, title="trials, best first; evaluation: full games after training", title_justify="left")
    names = list(rows[0]["parameters"])
    for name in ("", *names, "evaluation", "score", "env steps", "seconds", "steps/s"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        cells = [row["label"], *(str(row["parameters"][name]) for name in names)]
        figures = ("evaluation", "iqm", "env_steps", "wall_seconds", "steps_per_second")
        table.add_row(*cells, *(number(row[name]) for name in figures))
    return table


def add_options(command: argparse.ArgumentParser) -> None:
    """Add what a sweep has beside the options of every suite."""
    command.add_argument("file", type=Path, metavar="FILE.yaml", help="a Weights & Biases sweep file")
    command.add_argument("--count", type=int, metavar="N", help="trials (default: all of a grid, or run_cap)")

"""How an agent that was trained with whole sensors does when they fail, with and without repair."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from agents.errors import ConfigError
from scripts.experiments.suite import EVAL_SEED
from scripts.report import plots
from scripts.report import statistics as st
from scripts.report.tables import number, wide_console
from scripts.runner.evaluation import judge
from scripts.runner.files import write_json
from scripts.runner.origin import origin
from scripts.runner.saved_run import SavedRun, load_run

DAMAGES = ("drop", "noise", "salt", "flicker")


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the command's options."""
    command.add_argument("runs", nargs="+", type=Path, metavar="RUN", help="run folders of one game, such as of seeds")
    command.add_argument("--damage", choices=DAMAGES, required=True, help="what goes wrong with what is seen")
    command.add_argument("--levels", nargs="+", type=float, required=True, metavar="L", help="how much of it")
    command.add_argument(
        "--repair", nargs="+", default=["zero"], metavar="R", help="as for train.py, one after another"
    )
    command.add_argument("--eval-episodes", type=int, default=30, metavar="N", help="games of each run (default: 30)")
    command.add_argument("--out", type=Path, metavar="FILE.json", help="write all numbers, and a picture beside them")


def robustness(arguments: argparse.Namespace) -> None:
    """Judge the runs at each level with each repair, in the same games; print and draw the mean returns."""
    if arguments.eval_episodes < 1:
        raise ConfigError("--eval-episodes must be at least 1")
    saved = [load_run(folder) for folder in arguments.runs]
    games = sorted({each.config.env for each in saved})
    if len(games) > 1:
        raise ConfigError(f"these are runs of {', '.join(games)}: give runs of one game")
    curves: dict[str, list[dict[str, Any]]] = {}
    for repair in dict.fromkeys(arguments.repair):
        curves[repair] = []
        for level in arguments.levels:
            means = [_judged(each, arguments.damage, level, repair, arguments.eval_episodes) for each in saved]
            interval = st.bootstrap([np.array(means)], st.mean, np.random.default_rng(0))
            curves[repair].append({"level": level, "means": means, "mean": float(np.mean(means)), "interval": interval})
    title = f"mean return of {len(saved)} run{'s' if len(saved) > 1 else ''} of {games[0]}, "
    table = Table(box=None, title=f"{title}{arguments.eval_episodes} games each", title_justify="left")
    table.add_column("repair")
    for level in arguments.levels:
        table.add_column(f"{arguments.damage} {level:g}", justify="right")
    for repair, points in curves.items():
        table.add_row(repair, *(number(point["mean"]) for point in points))
    wide_console().print(table)
    if arguments.out is not None:
        facts = {"suite": "robustness", "env": games[0], "damage": arguments.damage, "curves": curves,
                 "runs": [{"name": each.folder.name, "env_steps": each.state["env_steps"]} for each in saved],
                 "episodes": arguments.eval_episodes, **origin().to_json()}  # fmt: skip
        write_json(arguments.out, facts)
        lines = {name: [point["mean"] for point in points] for name, points in curves.items()}
        label = f"mean return in {games[0]}"
        plots.curves(arguments.levels, lines, arguments.damage, label, arguments.out.with_suffix(".png"))


def _judged(saved: SavedRun, damage: str, level: float, repair: str, episodes: int) -> float:
    kwargs = {**saved.config.env_kwargs, damage: level}
    config = replace(saved.config, env_kwargs=kwargs, repair=repair)
    return judge(saved.agent, config, episodes, EVAL_SEED).return_mean

"""Robustness: scores of trained agents whose sensors fail, with and without repair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from rich.table import Table
from tyro.conf import Positional, arg

from agents.errors import ConfigError
from scripts.experiments.results import FINAL_EVAL_SEED
from scripts.experiments.settings import check_out
from scripts.report import plots
from scripts.report import statistics as st
from scripts.report.tables import number, wide_console
from scripts.runner.evaluation import evaluate_agent
from scripts.runner.files import write_json
from scripts.runner.origin import origin
from scripts.runner.saved_run import SavedRun, load_run


@dataclass(frozen=True, kw_only=True)
class Robustness:
    """Evaluate trained agents while their sensors fail and are repaired."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="(required)")] = ()
    """Run folders of one game, such as of several seeds."""
    damage: Annotated[Literal["drop", "noise", "salt", "flicker"] | None, arg(help_behavior_hint="(required)")] = None
    """Sensor fault: missing numbers, noise, black and white pixels, or blank frames."""
    levels: Annotated[tuple[float, ...], arg(metavar="L...", help_behavior_hint="(required)")] = ()
    """Amounts of the fault: shares or probabilities; a standard deviation for noise."""
    repair: Annotated[tuple[str, ...], arg(metavar="R...")] = ("zero",)
    """Repairs to compare, as for train.py."""
    eval_episodes: Annotated[int, arg(metavar="N")] = 30
    """Games of each run at each level."""
    out: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None
    """Write all numbers to this JSON file, and a plot beside it."""

    def run(self, overrides: Sequence[str]) -> None:
        """Evaluate the runs at each level with each repair, in the same games; print and plot the mean returns."""
        if overrides:
            raise ConfigError("robustness takes no options after a --")
        if self.eval_episodes < 1:
            raise ConfigError("--eval-episodes must be at least 1")
        if not self.runs or self.damage is None or not self.levels or not self.repair:
            raise ConfigError(
                "name run folders, a fault and its levels: robustness RUN... --damage drop --levels 0 0.5"
            )
        check_out(self.out)
        saved = [load_run(folder) for folder in self.runs]
        games = sorted({each.config.env for each in saved})
        if len(games) > 1:
            raise ConfigError(f"these are runs of {', '.join(games)}: give runs of one game")
        curves = {
            repair: [self._point(saved, self.damage, level, repair) for level in self.levels] for repair in self.repair
        }
        wide_console().print(self._table(curves, games[0]))
        if self.out is not None:
            numbers = {
                "suite": "robustness", "env": games[0], "damage": self.damage,
                "curves": {repair: [asdict(point) for point in points] for repair, points in curves.items()},
                "runs": [{"name": each.folder.name, "env_steps": each.state["env_steps"]} for each in saved],
                "episodes": self.eval_episodes,
            }  # fmt: skip
            write_json(self.out, {**numbers, **origin().to_json()})
            lines = {repair: [point.mean for point in points] for repair, points in curves.items()}
            label = f"mean return in {games[0]}"
            plots.curves(self.levels, lines, self.damage, label, self.out.with_suffix(".png"))

    def _point(self, saved: Sequence[SavedRun], damage: str, level: float, repair: str) -> CurvePoint:
        means = []
        for run in saved:
            config = replace(run.config, env_kwargs={**run.config.env_kwargs, damage: level}, repair=repair)
            means.append(evaluate_agent(run.agent, config, self.eval_episodes, FINAL_EVAL_SEED).return_mean)
        interval = st.bootstrap([np.array(means)], st.mean, np.random.default_rng(0))
        return CurvePoint(level, means, float(np.mean(means)), interval)

    def _table(self, curves: dict[str, list[CurvePoint]], game: str) -> Table:
        """Return one line for each repair."""
        count = f"{len(self.runs)} run{'s' if len(self.runs) > 1 else ''}"
        title = f"mean return of {count} of {game}, {self.eval_episodes} games each"
        table = Table(box=None, title=title, title_justify="left")
        table.add_column("repair")
        for level in self.levels:
            table.add_column(f"{self.damage} {level:g}", justify="right")
        for repair, points in curves.items():
            table.add_row(repair, *(number(point.mean) for point in points))
        return table


@dataclass(frozen=True)
class CurvePoint:
    """Mean returns at one level of a fault, with a 95 % bootstrap interval over runs."""

    level: float
    means: list[float]
    """Mean return of each run."""
    mean: float
    interval: tuple[float, float] | None

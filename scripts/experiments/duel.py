"""Duels: two sides on one game, under one protocol and one budget, trained seed by seed and put in one table.

A side is ALGO[:PRESET][,NAME=VALUE...]. Stable-Baselines3's agents take their zoo's settings for the game, where it has
some.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.errors import ConfigError
from envs.make import family, resolve_protocol
from envs.protocols import GameSpec
from scripts.experiments.results import ContenderResult
from scripts.experiments.settings import Settings, check_overrides
from scripts.experiments.suite import compete, finish
from scripts.experiments.training_jobs import Contender, make_contender
from scripts.report.comparison import MIN_RUNS, compare_groups
from scripts.report.page import write_report
from scripts.report.run_data import LAST_GAMES, Group, differing_values, read_run
from scripts.report.tables import interval, number, print_line, wide_console


@dataclass(frozen=True)
class Outcome:
    """The better side, or that the runs cannot tell, as a duel's JSON file holds it."""

    probability_of_improvement: float | None
    """Probability that a run of the first side scores higher than one of the second; None below `MIN_RUNS` a side."""
    probability_interval: tuple[float, float] | None
    words: str
    verdict: str


def duel(sides: Sequence[str], settings: Settings, page: Path) -> None:
    """Train both sides, print table and verdict, and write the page."""
    pair = make_pair(sides, settings)
    console = wide_console()
    for contender in pair:
        source = f"the preset {contender.preset}" if contender.preset else f"settings for {family(contender.env)} games"
        print_line(console, f"{contender.label}: {source}")
    results, failed = compete(pair, settings, console)
    numbers: dict[str, Any] = {"suite": "duel", "rows": [asdict(result) for result in results]}
    console.print(duel_table(results, settings))
    if all(result.iqm is not None for result in results):
        numbers |= asdict(compare_sides(results, console))
        folders = [folder for result in results for folder in result.folders]
        print_line(console, f"page: {write_report(folders, page)}")
    finish(numbers, failed, settings)


def make_pair(sides: Sequence[str], settings: Settings) -> list[Contender]:
    """Return the two contenders; raise ConfigError unless they differ and share a protocol."""
    (env,) = settings.envs
    pair = []
    for side in dict.fromkeys(sides):
        name, *own = side.split(",")
        algorithm, _, preset = name.partition(":")
        overrides = (*settings.overrides, *(f"--{setting}" for setting in own))
        check_overrides(overrides)
        pair.append(make_contender(side, algorithm, env, preset or settings.preset, overrides, settings.total_steps))
    if len(pair) < 2:
        raise ConfigError(
            f"a duel takes two sides, not {sides[0]} twice; give one a preset or a setting: {sides[0]}:tiny, "
            f"{sides[0]},gamma=0.9"
        )
    _require_one_protocol(pair)
    return pair


def _require_one_protocol(pair: Sequence[Contender]) -> None:
    """Raise ConfigError unless both sides play the same game under the same protocol."""
    games = []
    for contender in pair:
        protocol = resolve_protocol(contender.env, contender.config["protocol"], contender.config["image_size"])
        games.append(GameSpec(contender.env, contender.config["env_kwargs"], protocol, family(contender.env)))
    if games[0].fingerprint != games[1].fingerprint:
        changes = differing_values([game.to_json() for game in games])
        words = ", ".join(f"{name} {a} and {b}" for name, (a, b) in changes.items() if name != "fingerprint")
        raise ConfigError(f"{pair[0].label} and {pair[1].label} would not play under one protocol: {words}")


def compare_sides(results: Sequence[ContenderResult], console: Console) -> Outcome:
    """Print and return the better side, or that the runs cannot tell."""
    a, b = (Group(each.label, tuple(read_run(folder) for folder in each.folders)) for each in results)
    comparison = compare_groups(a, b)
    probability, ends = comparison.probability, comparison.interval
    if probability is None:
        words = f"probability that a run of {a.label} beats one of {b.label}: needs {MIN_RUNS} seeds a side"
    else:
        words = f"a run of {a.label} beats one of {b.label} with probability {probability:.0%}"
        words += f", 95 % interval {ends[0]:.0%} to {ends[1]:.0%}" if ends else ""
    for line in (words, comparison.conclusion):
        print_line(console, line)
    return Outcome(probability, ends, words, comparison.conclusion)


def duel_table(results: Sequence[ContenderResult], settings: Settings) -> Table:
    """Return one line for each side."""
    title = f"{results[0].env}: mean return of a run's last {LAST_GAMES} training games, over seeds"
    table = Table(box=None, title=title, title_justify="left")
    table.add_column("side", overflow="fold")
    for name in ("seeds", "IQM", "95 %", "mean", "95 %", "evaluation", "env steps", "seconds", "steps/s", "RAM, GB"):
        table.add_column(name, justify="right", overflow="fold")
    for each in results:
        cells = [each.label, f"{len(each.scores)}/{len(settings.seeds)}"]
        cells += [number(each.iqm), interval(each.interval), number(each.mean), interval(each.mean_interval)]
        costs = (each.evaluation, each.env_steps, each.wall_seconds, each.steps_per_second, each.peak_memory_gb)
        table.add_row(*cells, *map(number, costs))
    return table

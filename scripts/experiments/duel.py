"""Two sides on one game, under one protocol and one budget: trained seed by seed, then put in one table.

A side is ALGO or ALGO:PRESET. Stable-Baselines3's agents take their zoo's settings for the game where it has some.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from agents.errors import ConfigError
from envs.make import family, resolve_protocol
from envs.protocols import GameSpec
from scripts.experiments.suite import compete, finish, scores_of
from scripts.experiments.training_jobs import Contender, Settings, contender
from scripts.report.comparison import compare_groups
from scripts.report.page import write_report
from scripts.report.run_data import LAST_GAMES, Group, differing_values, read_run
from scripts.report.tables import interval, number, wide_console


def duel(sides: Sequence[str], settings: Settings, page: Path) -> None:
    """Train both sides, print the table and the verdict, and write the page."""
    pair = pair_of(sides, settings)
    console = wide_console()
    for who in pair:
        source = f"the preset {who.preset}" if who.preset else f"the settings for {family(who.env)} games"
        console.print(f"{who.label}: {source}", highlight=False, markup=False)
    rows, failed = compete(pair, settings, console)
    result: dict[str, Any] = {"suite": "duel", "rows": rows}
    console.print(duel_table(rows, settings))
    if all(row["iqm"] is not None for row in rows):
        result |= weigh(rows, console)
        folders = [Path(run["folder"]) for row in rows for run in row["runs"]]
        console.print(f"page: {write_report(folders, page)}", highlight=False, markup=False, soft_wrap=True)
    finish(result, failed, settings)


def pair_of(sides: Sequence[str], settings: Settings) -> list[Contender]:
    """Return the two contenders, or raise ConfigError where they are no pair under one protocol."""
    (env,) = settings.envs
    pair = [_side(side, env, settings) for side in dict.fromkeys(sides)]
    if len(pair) < 2:
        raise ConfigError(f"a duel takes two sides, not {sides[0]} twice; give one of them a preset, as in ppo:tiny")
    _same_protocol(pair)
    return pair


def _side(side: str, env: str, settings: Settings) -> Contender:
    algorithm, _, preset = side.partition(":")
    return contender(side, algorithm, env, preset or settings.preset, settings.overrides, settings.total_steps)


def _same_protocol(pair: Sequence[Contender]) -> None:
    """Raise ConfigError unless both sides play the very same game."""
    games = []
    for who in pair:
        protocol = resolve_protocol(who.env, who.config["protocol"], who.config["image_size"])
        games.append(GameSpec(who.env, who.config["env_kwargs"], protocol, family(who.env)))
    if games[0].fingerprint != games[1].fingerprint:
        found = differing_values([game.to_json() for game in games])
        words = ", ".join(f"{name} {a} and {b}" for name, (a, b) in found.items() if name != "fingerprint")
        raise ConfigError(f"{pair[0].label} and {pair[1].label} would not play under one protocol: {words}")


def weigh(rows: Sequence[dict[str, Any]], console: Console) -> dict[str, Any]:
    """Print who is likelier to win, and whether that can be told; return it."""
    a, b = (Group(row["label"], tuple(read_run(Path(run["folder"])) for run in row["runs"])) for row in rows)
    comparison = compare_groups(a, b)
    chance, ends = comparison.probability, comparison.interval
    words = f"a run of {a.label} beats one of {b.label} with probability {chance:.0%}"
    words += f", 95 % interval {ends[0]:.0%} to {ends[1]:.0%}" if ends else ""
    for line in (words, comparison.conclusion):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return {
        "probability_of_improvement": chance, "probability_interval": ends, "words": words,
        "verdict": comparison.conclusion,
    }  # fmt: skip


def duel_table(rows: Sequence[dict[str, Any]], settings: Settings) -> Table:
    """Return one line for each side."""
    title = f"{rows[0]['env']}: mean return of a run's last {LAST_GAMES} training games, over seeds"
    table = Table(box=None, title=title, title_justify="left")
    table.add_column("side", overflow="fold")
    for name in ("seeds", "IQM", "95 %", "mean", "95 %", "evaluation", "env steps", "seconds", "steps/s", "RAM, GB"):
        table.add_column(name, justify="right", overflow="fold")
    for row in rows:
        cells = [row["label"], f"{len(scores_of(row['runs']))}/{len(settings.seeds)}"]
        cells += [number(row["iqm"]), interval(row["interval"]), number(row["mean"]), interval(row["mean_interval"])]
        names = ("evaluation", "env_steps", "wall_seconds", "steps_per_second", "peak_memory_gb")
        table.add_row(*cells, *(number(row[name]) for name in names))
    return table

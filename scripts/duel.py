"""Two sides on one game, under one protocol and one budget: trained seed by seed, then put in one table.

A side is ALGO or ALGO:PRESET. Stable-Baselines3's agents take their zoo's settings for the game where it has some.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from agents import statistics as st
from agents.config import ConfigError
from agents.report import verdict, write_report
from envs.make import family, resolve_protocol
from envs.protocols import describe
from scripts.jobs import Contender, Settings, contender
from scripts.suite import compete, finish, interval, number, scores_of, wide_console


def duel(sides: Sequence[str], settings: Settings, page: Path) -> None:
    """Train both sides, print the table and the verdict, and write the page."""
    (env,) = settings.envs
    pair = [_side(side, env, settings) for side in dict.fromkeys(sides)]
    if len(pair) < 2:
        raise ConfigError(f"a duel takes two sides, not {sides[0]} twice; give one of them a preset, as in ppo:tiny")
    _same_protocol(pair)
    console = wide_console()
    for who in pair:
        source = f"the preset {who.preset}" if who.preset else f"the settings for {family(env)} games"
        console.print(f"{who.label}: {source}", highlight=False, markup=False)
    rows, failed = compete(pair, settings, console)
    groups = [st.Group(row["label"], tuple(st.read_run(Path(run["folder"])) for run in row["runs"])) for row in rows]
    result: dict[str, Any] = {"suite": "duel", "rows": rows}
    for row, group in zip(rows, groups, strict=True):
        row |= figures(group)
    console.print(duel_table(rows, settings))
    if all(len(group.scores) for group in groups):
        result |= compare(groups, console)
        folders = [run.folder for group in groups for run in group.runs]
        console.print(f"page: {write_report(folders, page)}", highlight=False, markup=False, soft_wrap=True)
    finish(result, failed, settings)


def _side(side: str, env: str, settings: Settings) -> Contender:
    algorithm, _, preset = side.partition(":")
    return contender(side, algorithm, env, preset or settings.preset, settings.overrides, settings.total_steps)


def _same_protocol(pair: Sequence[Contender]) -> None:
    """Raise ConfigError unless both sides play the very same game."""
    cards = []
    for who in pair:
        protocol = resolve_protocol(who.env, who.config["protocol"], who.config["image_size"])
        cards.append(describe(who.env, protocol, who.config["env_kwargs"], family(who.env)))
    if cards[0]["fingerprint"] != cards[1]["fingerprint"]:
        found = st.differences([st.flatten(card) for card in cards])
        words = ", ".join(f"{name} {a} and {b}" for name, (a, b) in found.items() if name != "fingerprint")
        raise ConfigError(f"{pair[0].label} and {pair[1].label} would not play under one protocol: {words}")


def figures(group: st.Group) -> dict[str, Any]:
    """Return what the table has beside a suite's own columns: the mean with its interval, and the peak memory."""
    scores, memory = group.scores, [run.peak_memory_gb for run in group.runs if run.peak_memory_gb is not None]
    return {
        "mean": float(st.mean([scores])) if len(scores) else None,
        "mean_interval": st.bootstrap([scores], st.mean, np.random.default_rng(0)) if len(scores) else None,
        "peak_memory_gb": float(np.median(memory)) if memory else None,
    }


def compare(groups: Sequence[st.Group], console: Console) -> dict[str, Any]:
    """Print who is likelier to win, and whether that can be told; return it."""
    a, b = groups
    chance = float(st.probability_of_improvement([a.scores], [b.scores]))
    span = st.improvement_interval([a.scores], [b.scores], np.random.default_rng(0))
    words = f", 95 % interval {span[0]:.0%} to {span[1]:.0%}" if span else ""
    text = verdict(a, b)
    for line in (f"a run of {a.label} beats one of {b.label} with probability {chance:.0%}{words}", text):
        console.print(line, highlight=False, markup=False, soft_wrap=True)
    return {"probability_of_improvement": chance, "probability_interval": span, "verdict": text}


def duel_table(rows: Sequence[dict[str, Any]], settings: Settings) -> Table:
    """Return one line for each side."""
    title = f"{rows[0]['env']}: mean return of a run's last {st.LAST_GAMES} training games, over seeds"
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

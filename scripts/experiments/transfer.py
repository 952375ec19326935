"""Transfer: how many env steps an agent saves that begins with a trained encoder, beside agents that do not.

A file of arms (scripts/transfers/) says who takes part; all are trained with the same seeds and budget. An arm's steps
to a threshold include those that its encoder was trained on. A run that never gets there counts as its budget, so that
a ratio with such runs in it is a bound, and marked as one.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table

from agents.errors import ConfigError
from envs.make import resolve_protocol
from networks.encoders import store
from scripts.experiments.suite import EVAL_SEED, compete, finish
from scripts.experiments.training_jobs import Contender, Settings, contender
from scripts.report import statistics as st
from scripts.report.run_data import read_run
from scripts.report.tables import interval, number, wide_console
from scripts.runner.evaluation import judge
from scripts.runner.files import read_yaml, write_json
from scripts.runner.saved_run import load_run

MEASURES = {"return": lambda returns: returns, "success": lambda returns: (returns > 0).astype(float)}
"""What of a game counts: its return, or whether it paid at all."""
NEEDED = {"algorithm", "env", "total_steps", "thresholds", "arms"}
KNOWN = NEEDED | {"preset", "options", "measure", "window", "against", "judged"}
REPS = 2_000


def transfer(path: Path, settings: Settings, overrides: Sequence[str]) -> None:
    """Train all arms, judge them, and print steps to the thresholds and their ratios."""
    plan = read(path)
    steps = plan["total_steps"] if settings.total_steps <= 1 else settings.total_steps
    settings = replace(settings, envs=(plan["env"],), total_steps=steps)
    arms = {}
    for name, words in plan["arms"].items():
        given = [*shlex.split(plan["options"]), *shlex.split(words), *overrides]
        arms[name] = contender(name, plan["algorithm"], plan["env"], plan["preset"], given, steps)
    paid = {name: pretraining_steps(who) for name, who in arms.items()}
    console = wide_console()
    console.print(f"{path.name}: {len(arms)} arms of {plan['algorithm']} on {plan['env']}", highlight=False)
    rows, failed = compete(list(arms.values()), settings, console)
    for row in rows:
        reached = [steps_to(Path(run["folder"]), plan) for run in row["runs"]]
        row["pretraining_steps"] = paid[row["label"]]
        row["steps_to"] = {str(goal): [run[goal] for run in reached] for goal in plan["thresholds"]}
        row["final"] = [final(Path(run["folder"]), plan) for run in row["runs"]]
        row["judged"] = {name: judged(row, plan, name, settings.episodes) for name in plan["judged"]}
    found = [compare(rows, plan, goal, steps) for goal in plan["thresholds"]]
    console.print(transfer_table(rows, found, plan, steps))
    finish({"suite": "transfer", "file": path.read_text(), "ratios": found, "rows": rows}, failed, settings)


def read(path: Path) -> dict[str, Any]:
    """Return what a file of arms says, or raise ConfigError in one line."""
    plan = read_yaml(path)
    if not isinstance(plan, dict) or NEEDED - set(plan):
        missing = sorted(NEEDED - set(plan)) if isinstance(plan, dict) else sorted(NEEDED)
        raise ConfigError(f"{path} is no file of arms: it lacks {', '.join(missing)}")
    if set(plan) - KNOWN:
        raise ConfigError(f"{path}: nothing here is called {', '.join(sorted(set(plan) - KNOWN))}")
    arms = plan["arms"]
    if not isinstance(arms, dict) or len(arms) < 2:
        raise ConfigError(f"{path}: there must be two arms at least, each with its options")
    plan = {"preset": None, "options": "", "measure": "return", "window": 100, "judged": {}, **plan}
    plan["arms"] = {str(name): str(words or "") for name, words in arms.items()}
    plan.setdefault("against", [next(iter(plan["arms"]))])
    strange = sorted(set(plan["against"]) - set(plan["arms"]))
    if strange or not plan["against"]:
        raise ConfigError(f"{path}: arms are compared with {', '.join(strange) or 'nobody'}, which is none of them")
    if plan["measure"] not in MEASURES:
        raise ConfigError(f"{path}: what counts of a game is {' or '.join(MEASURES)}, not {plan['measure']}")
    return plan


def pretraining_steps(who: Contender) -> int:
    """Return the agent steps that an arm's encoders were trained on."""
    total = sum(store.load(Path(word.partition("=")[2])).env_frames for word in who.config["encoder"])
    protocol = resolve_protocol(who.env, who.config["protocol"], who.config["image_size"])
    return total // protocol.frame_skip


def steps_to(folder: Path, plan: Mapping[str, Any]) -> dict[float, int | None]:
    """Return the env steps after which the last games were first as good as each threshold; None for never."""
    games, window = read_run(folder).games, plan["window"]
    if len(games) < window:
        return dict.fromkeys(plan["thresholds"])
    means = st.running_mean(MEASURES[plan["measure"]](games[:, 2]), window)[window - 1 :]
    found: dict[float, int | None] = {}
    for goal in plan["thresholds"]:
        there = np.flatnonzero(means >= goal)
        found[goal] = int(games[window - 1 + there[0], 0]) if len(there) else None
    return found


def final(folder: Path, plan: Mapping[str, Any]) -> float | None:
    """Return the measure over the last games of training."""
    games = read_run(folder).games
    return float(MEASURES[plan["measure"]](games[-plan["window"] :, 2]).mean()) if len(games) else None


def judged(row: Mapping[str, Any], plan: Mapping[str, Any], name: str, episodes: int) -> list[float]:
    """Return what the runs of an arm are worth in judged games that differ by some settings, such as other missions."""
    changes, found = plan["judged"][name] or {}, []
    for run in row["runs"] if episodes else ():
        path = Path(run["folder"]) / f"judged-{name.replace(' ', '-')}.json"
        saved = load_run(Path(run["folder"]))
        asked = {"changes": changes, "episodes": episodes, "env_steps": saved.state["env_steps"]}
        kept = json.loads(path.read_text()) if path.exists() else {}
        if any(kept.get(key) != value for key, value in asked.items()):
            kwargs = {**saved.config.env_kwargs, **changes.get("env_kwargs", {})}
            config = replace(saved.config, **{**changes, "env_kwargs": kwargs})
            kept = {**asked, "returns": judge(saved.agent, config, episodes, EVAL_SEED).returns}
            write_json(path, kept)
        found.append(float(MEASURES[plan["measure"]](np.array(kept["returns"])).mean()))
    return found


def compare(rows: Sequence[dict[str, Any]], plan: Mapping[str, Any], goal: float, budget: int) -> dict[str, Any]:
    """Return for each arm the steps of the best arm that it is compared with, divided by its own, with an interval."""
    spent = {row["label"]: _spent(row, goal, budget) for row in rows if row["runs"]}
    rivals = [name for name in plan["against"] if name in spent]
    if not rivals:
        return {"goal": goal, "against": None, "ratios": {}}
    best = min(rivals, key=lambda name: float(spent[name].mean()))
    late = {row["label"]: any(steps is None for steps in row["steps_to"][str(goal)]) for row in rows}
    ratios = {}
    for name, own in spent.items():
        if name in rivals:
            continue
        rng = np.random.default_rng(0)
        drawn = (part[rng.integers(len(part), size=(REPS, len(part)))].mean(axis=1) for part in (spent[best], own))
        ends = np.percentile(np.divide(*drawn), (2.5, 97.5))
        sign = {(True, False): ">=", (False, True): "<=", (True, True): "?", (False, False): ""}[late[best], late[name]]
        value = float(spent[best].mean() / own.mean())
        both = min(len(own), len(spent[best])) > 1
        ratios[name] = {"ratio": value, "interval": tuple(map(float, ends)) if both else None, "bound": sign}
    return {"goal": goal, "against": best, "ratios": ratios}


def _spent(row: Mapping[str, Any], goal: float, budget: int) -> np.ndarray:
    steps = [budget if found is None else found for found in row["steps_to"][str(goal)]]
    return np.array(steps, float) + row["pretraining_steps"]


def transfer_table(
    rows: Sequence[dict[str, Any]], found: Sequence[dict[str, Any]], plan: Mapping[str, Any], budget: int
) -> Table:
    """Return one line for each arm."""
    title = (
        f"env steps until the last {plan['window']} games reach a {plan['measure']}, those of its encoder included; "
    )
    title += f"mean over seeds, a run that never does counts as {budget:,}; in brackets how many do"
    table = Table(box=None, title=title, title_justify="left")
    table.add_column("arm", overflow="fold")
    for goal in plan["thresholds"]:
        for name in (f"to {goal:g}", "ratio", ""):
            table.add_column(name, justify="right")
    for name in (f"final {plan['measure']}", "", *plan["judged"]):
        table.add_column(name, justify="right")
    for row in rows:
        cells = [row["label"]]
        for line in found:
            steps = row["steps_to"][str(line["goal"])]
            there = f"({sum(value is not None for value in steps)}/{len(steps)})"
            cells.append(f"{number(_spent(row, line['goal'], budget).mean()) if steps else '-'} {there}")
            ratio = line["ratios"].get(row["label"])
            cells += [f"{ratio['bound']}{ratio['ratio']:.2f}", interval(ratio["interval"])] if ratio else ["", ""]
        ends = np.array([value for value in row["final"] if value is not None])
        cells.append(number(float(st.iqm([ends])) if len(ends) else None))
        cells.append(interval(st.bootstrap([ends], st.iqm, np.random.default_rng(0)) if len(ends) else None))
        cells += [number(float(np.mean(values)) if values else None) for values in row["judged"].values()]
        table.add_row(*cells)
    return table

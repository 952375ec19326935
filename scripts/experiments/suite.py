"""Learning suites: contenders x games x seeds are trained (jobs.py), judged, and put in one table and one JSON file."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from agents.errors import RunError
from scripts.experiments.training_jobs import Contender, Job, Settings, contender, run
from scripts.report import statistics as st
from scripts.report.run_data import LAST_GAMES, read_run
from scripts.report.tables import interval, number, wide_console
from scripts.runner.evaluation import judge, judging_seed, keep_games, summary
from scripts.runner.files import write_json
from scripts.runner.origin import origin
from scripts.runner.saved_run import load_run

EVAL_SEED = judging_seed()
"""That of `evaluate.py RUN`, which so plays the same games."""


def learn(algorithms: Sequence[str], settings: Settings) -> None:
    """Train every algorithm on every game, and print one table."""
    contenders = [
        contender(algorithm, algorithm, env, settings.preset, settings.overrides, settings.total_steps)
        for env in dict.fromkeys(settings.envs)
        for algorithm in dict.fromkeys(algorithms)
    ]
    console = wide_console()
    rows, failed = compete(contenders, settings, console)
    console.print(learning_table(rows, settings))
    for env in dict.fromkeys(settings.envs):
        if len({found for row in rows if row["env"] == env for found in row["fingerprints"]}) > 1:
            console.print(f"[yellow]warning:[/] not all of {env} is under one protocol: do not compare", soft_wrap=True)
    finish({"suite": "learn", "rows": rows}, failed, settings)


def compete(contenders: Sequence[Contender], settings: Settings, console: Console) -> tuple[list[dict], dict[str, str]]:
    """Train and judge all; return one row for each contender, and what went wrong, by the job's name."""
    # seed by seed, so that whoever is impatient or stopped has as many runs of one contender as of another
    jobs = [Job(who, seed, who.folder(settings.folder, seed)) for seed in settings.seeds for who in contenders]
    for job in jobs:
        job.check()
    failed = {job.name: line for job, line in run(jobs, settings, console).items()}
    found: dict[Contender, list[dict[str, Any]]] = {who: [] for who in contenders}
    for job in jobs:
        if job.name in failed:
            continue
        try:
            found[job.who].append(outcome(job, settings.episodes))
        except (ValueError, OSError) as error:  # one run that cannot be read or judged does not cost the others
            failed[job.name] = " ".join(str(error).split())
            console.print(f"{job.name}: FAILED: {failed[job.name]}", highlight=False, markup=False, soft_wrap=True)
    return [row(who, runs) for who, runs in found.items()], failed


def outcome(job: Job, episodes: int) -> dict[str, Any]:
    """Return what one finished run says, from its folder."""
    data, state = read_run(job.folder), job.state()
    return {
        "seed": job.seed,
        "score": data.score,
        "evaluation": evaluate_job(job, episodes) if episodes else None,
        "env_steps": state["env_steps"],
        "wall_seconds": state["wall_seconds"],
        "steps_per_second": state["env_steps"] / max(state["wall_seconds"], 1e-9),
        "solved": job.solved,
        "games": len(data.games),
        "fingerprint": data.fingerprint,
        "peak_memory_gb": data.peak_memory_gb,
        "command": anywhere(data.meta.get("command") or ""),
        **{name: (data.meta.get("git") or {}).get(name) for name in ("commit", "dirty")},
        **{name: data.meta.get(name) for name in ("machine", "machine_facts", "versions")},
        "folder": str(job.folder),
    }


def anywhere(command: str) -> str:
    """Return a run's command without the places that it had on its machine."""
    words = shlex.split(command)
    if "--run-dir" in words:
        del words[words.index("--run-dir") : words.index("--run-dir") + 2]
    return shlex.join(f"scripts/{Path(word).name}" if word.endswith("/train.py") else word for word in words)


def evaluate_job(job: Job, episodes: int) -> dict[str, Any]:
    """Return what `evaluate.py` would say of the latest checkpoint; it is kept in the folder for the next time."""
    state = job.state()
    path = job.folder / "evaluation.json"
    asked = {"seed": EVAL_SEED, "episodes": episodes, "weights_sha256": state["weights_sha256"]}
    kept = json.loads(path.read_text()) if path.exists() else {}
    games = job.folder / "replays" / "eval.jsonl"
    if games.exists() and all(kept.get(name) == value for name, value in asked.items()):
        return kept
    saved = load_run(job.folder)
    result = judge(saved.agent, saved.config, episodes, EVAL_SEED)
    keep_games(saved, "eval", result)
    found = {**summary(result, saved), "returns": result.returns, **asked}
    write_json(path, found)
    return found


def row(who: Contender, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures of one contender over its runs."""
    scores = scores_of(runs)
    judged = [run["evaluation"]["return_mean"] for run in runs if run["evaluation"]]
    goal = None
    if who.config["stop_return"] is not None:
        solved = [run for run in runs if run["solved"]]
        medians = {name: _median(solved, name) for name in ("env_steps", "wall_seconds")}
        goal = {"stop_return": who.config["stop_return"], "solved": len(solved), **medians}
    return {
        "label": who.label,
        "algorithm": who.algorithm,
        "env": who.env,
        "preset": who.preset,
        "overrides": list(who.overrides),
        "config": who.config,
        "fingerprints": sorted({run["fingerprint"] for run in runs}),
        "iqm": float(st.iqm([scores])) if len(scores) else None,
        "interval": st.bootstrap([scores], st.iqm, np.random.default_rng(0)),
        "mean": float(st.mean([scores])) if len(scores) else None,
        "mean_interval": st.bootstrap([scores], st.mean, np.random.default_rng(0)),
        "evaluation": float(np.mean(judged)) if judged else None,
        "peak_memory_gb": _median([run for run in runs if run["peak_memory_gb"] is not None], "peak_memory_gb"),
        **{name: _median(runs, name) for name in ("env_steps", "wall_seconds", "steps_per_second")},
        "goal": goal,
        "runs": runs,
    }


def scores_of(runs: Sequence[dict[str, Any]]) -> np.ndarray:
    """Return the final scores of the runs that have finished a game, float [runs]."""
    return np.array([run["score"] for run in runs if run["score"] is not None], float)


def _median(runs: Sequence[dict[str, Any]], name: str) -> float | None:
    return float(np.median([run[name] for run in runs])) if runs else None


def learning_table(rows: Sequence[dict[str, Any]], settings: Settings) -> Table:
    """Return one line for each algorithm and game."""
    goal = any(row["goal"] for row in rows)
    title = f"score: mean return of a run's last {LAST_GAMES} training games; IQM over seeds, 95 % interval"
    table = Table(box=None, title=title, title_justify="left")
    for name in ("algorithm", "game"):
        table.add_column(name, overflow="fold")
    columns = ["seeds", "env steps", "IQM", "", "evaluation", "best", "worst", "seconds", "steps/s"]
    for name in columns + (["solved", "steps to it", "seconds to it"] if goal else []):
        table.add_column(name, justify="right", overflow="fold")
    for line in rows:
        ranked = sorted((run for run in line["runs"] if run["score"] is not None), key=lambda run: -run["score"])
        ends = [f"{number(run['score'])} (s{run['seed']})" for run in ranked[:1] + ranked[-1:]] or ["-", "-"]
        cells = [line["label"], line["env"], f"{len(line['runs'])}/{len(settings.seeds)}", number(line["env_steps"])]
        cells += [number(line["iqm"]), interval(line["interval"]), number(line["evaluation"]), *ends]
        cells += [number(line["wall_seconds"]), number(line["steps_per_second"])]
        if line["goal"]:
            reached = f"{line['goal']['solved']}/{len(line['runs'])}"
            cells += [reached, number(line["goal"]["env_steps"]), number(line["goal"]["wall_seconds"])]
        table.add_row(*cells)
    return table


def finish(result: dict[str, Any], failed: dict[str, str], settings: Settings) -> None:
    """Write --out, and raise RunError if a run failed."""
    if settings.out is not None:
        asked = {key: str(value) if isinstance(value, Path) else value for key, value in asdict(settings).items()}
        asked |= {"seeds": list(settings.seeds)}
        write_json(settings.out, {**origin().to_json(), "settings": asked, **result, "failed": failed})
    if failed:
        of = len(failed)
        raise RunError(f"{of} run{'s' if of > 1 else ''} failed: {'; '.join(failed)}; logs are in {settings.folder}")

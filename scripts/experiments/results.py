"""Results of finished runs, read from their folders: outcome and evaluation of each run, figures of each contender."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from scripts.experiments.training_jobs import Contender, Job
from scripts.report import statistics as st
from scripts.report.run_data import read_run
from scripts.runner.evaluation import evaluate_agent, evaluation_seed, save_episodes, summary
from scripts.runner.files import write_json
from scripts.runner.saved_run import load_run

FINAL_EVAL_SEED = evaluation_seed()
"""Seed of evaluations after training: the default of `evaluate.py RUN`, which plays the same games."""


@dataclass(frozen=True)
class FinalEvaluation:
    """Full games of the latest checkpoint, as evaluation.json in a run folder holds them."""

    return_mean: float
    return_std: float
    episodes: int
    human_normalized: float | None
    """0 is random play, 1 a human tester; None outside Atari."""
    fingerprint: str | None
    weights_sha256: str
    env_steps: int
    length_mean: float
    """Mean number of agent steps of a game."""
    returns: list[float]
    seed: int


@dataclass(frozen=True)
class RunOutcome:
    """Scores, costs and provenance of one finished run."""

    seed: int
    score: float | None
    """Mean return of the last training games; None before the first has ended."""
    evaluation: FinalEvaluation | None
    env_steps: int
    wall_seconds: float
    steps_per_second: float
    solved: bool
    games: int
    fingerprint: str
    peak_memory_gb: float | None
    command: str
    commit: str | None
    dirty: bool | None
    machine: dict[str, Any] | None
    machine_facts: dict[str, Any] | None
    versions: dict[str, str] | None
    folder: str


@dataclass(frozen=True)
class Goal:
    """Number of runs that reached `stop_return`, and their median costs."""

    stop_return: float
    solved: int
    env_steps: float | None
    wall_seconds: float | None


@dataclass(frozen=True)
class ContenderResult:
    """Figures of one contender over its runs: intervals are 95 % bootstrap intervals, costs are medians."""

    label: str
    algorithm: str
    env: str
    preset: str | None
    overrides: list[str]
    config: dict[str, Any]
    fingerprints: list[str]
    iqm: float | None
    """Interquartile mean of the runs' scores."""
    interval: tuple[float, float] | None
    mean: float | None
    mean_interval: tuple[float, float] | None
    evaluation: float | None
    """Mean return of the evaluations."""
    peak_memory_gb: float | None
    env_steps: float | None
    wall_seconds: float | None
    steps_per_second: float | None
    goal: Goal | None
    runs: list[RunOutcome]

    @property
    def scores(self) -> np.ndarray:
        """Scores of the runs that have finished a game, float [runs]."""
        return np.array([run.score for run in self.runs if run.score is not None], float)

    @property
    def folders(self) -> list[Path]:
        """Folders of the runs."""
        return [Path(run.folder) for run in self.runs]


def read_outcome(job: Job, episodes: int) -> RunOutcome:
    """Return the outcome of a finished run; evaluates it first where `episodes` is not 0."""
    data, state = read_run(job.folder), job.state()
    git = data.meta.get("git") or {}
    return RunOutcome(
        seed=job.seed,
        score=data.score,
        evaluation=evaluate_job(job, episodes) if episodes else None,
        env_steps=state["env_steps"],
        wall_seconds=state["wall_seconds"],
        steps_per_second=state["env_steps"] / max(state["wall_seconds"], 1e-9),
        solved=job.solved,
        games=len(data.games),
        fingerprint=data.fingerprint,
        peak_memory_gb=data.peak_memory_gb,
        command=portable_command(data.meta.get("command") or ""),
        commit=git.get("commit"),
        dirty=git.get("dirty"),
        machine=data.meta.get("machine"),
        machine_facts=data.meta.get("machine_facts"),
        versions=data.meta.get("versions"),
        folder=str(job.folder),
    )


def portable_command(command: str) -> str:
    """Return a run's command without the paths of the machine that ran it."""
    words = shlex.split(command)
    if "--run-dir" in words:
        del words[words.index("--run-dir") : words.index("--run-dir") + 2]
    return shlex.join(f"scripts/{Path(word).name}" if word.endswith("/train.py") else word for word in words)


def evaluate_job(job: Job, episodes: int) -> FinalEvaluation:
    """Return the evaluation of the latest checkpoint; evaluation.json in the run folder keeps it for the next time."""
    path = job.folder / "evaluation.json"
    request = {"seed": FINAL_EVAL_SEED, "episodes": episodes, "weights_sha256": job.state()["weights_sha256"]}
    saved = json.loads(path.read_text()) if path.exists() else {}
    complete = {field.name for field in fields(FinalEvaluation)} == saved.keys()
    replays = job.folder / "replays" / "eval.jsonl"
    if complete and replays.exists() and all(saved[name] == value for name, value in request.items()):
        return FinalEvaluation(**saved)
    run = load_run(job.folder)
    result = evaluate_agent(run.agent, run.config, episodes, FINAL_EVAL_SEED)
    save_episodes(run, "eval", result)
    evaluation = FinalEvaluation(**{**summary(result, run), "returns": result.returns, **request})
    write_json(path, asdict(evaluation))
    return evaluation


def summarise(contender: Contender, runs: list[RunOutcome]) -> ContenderResult:
    """Return the figures of one contender over its runs."""
    scores = [np.array([run.score for run in runs if run.score is not None], float)]
    returns = [run.evaluation.return_mean for run in runs if run.evaluation is not None]
    goal = None
    if contender.config["stop_return"] is not None:
        solved = [run for run in runs if run.solved]
        steps, seconds = _median(run.env_steps for run in solved), _median(run.wall_seconds for run in solved)
        goal = Goal(contender.config["stop_return"], len(solved), steps, seconds)
    return ContenderResult(
        label=contender.label,
        algorithm=contender.algorithm,
        env=contender.env,
        preset=contender.preset,
        overrides=list(contender.overrides),
        config=contender.config,
        fingerprints=sorted({run.fingerprint for run in runs}),
        iqm=float(st.iqm(scores)) if len(scores[0]) else None,
        interval=st.bootstrap(scores, st.iqm, np.random.default_rng(0)),
        mean=float(st.mean(scores)) if len(scores[0]) else None,
        mean_interval=st.bootstrap(scores, st.mean, np.random.default_rng(0)),
        evaluation=float(np.mean(returns)) if returns else None,
        peak_memory_gb=_median(run.peak_memory_gb for run in runs if run.peak_memory_gb is not None),
        env_steps=_median(run.env_steps for run in runs),
        wall_seconds=_median(run.wall_seconds for run in runs),
        steps_per_second=_median(run.steps_per_second for run in runs),
        goal=goal,
        runs=runs,
    )


def _median(values: Iterable[float]) -> float | None:
    values = list(values)
    return float(np.median(values)) if values else None

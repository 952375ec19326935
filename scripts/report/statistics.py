"""What a set of runs says, in numbers: read their folders, group them, and tell how sure one can be.

Estimates and intervals are those of Agarwal et al. 2021, "Deep RL at the Edge of the Statistical Precipice" (rliable).
`tasks` is always a list with one array of scores per task, one score per run, [..., runs of that task].
"""

from __future__ import annotations

import csv
import json
import math
import re
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from scipy.stats import trim_mean

LAST_GAMES = 100
"""Games at the end of a run whose mean return is its final score."""
REPS = 2000
"""Bootstrap resamples; rliable's default."""

Tasks = Sequence[np.ndarray]
Interval = tuple[float, float]


class ReportError(ValueError):
    """Runs that cannot be reported on, in one line that says why."""


def iqm(tasks: Tasks) -> np.ndarray:
    """Interquartile mean: the mean of the middle half of all run x task scores."""
    return np.asarray(trim_mean(np.concatenate(tasks, axis=-1), 0.25, axis=-1))


def mean(tasks: Tasks) -> np.ndarray:
    """Mean over tasks of each task's mean."""
    return np.mean([np.mean(scores, axis=-1) for scores in tasks], axis=0)


def median(tasks: Tasks) -> np.ndarray:
    """Median over tasks of each task's mean."""
    return np.median([np.mean(scores, axis=-1) for scores in tasks], axis=0)


def optimality_gap(tasks: Tasks, gamma: float = 1.0) -> np.ndarray:
    """How far scores fall short of `gamma` on average; what lies above it counts as having reached it."""
    return gamma - np.mean(np.minimum(np.concatenate(tasks, axis=-1), gamma), axis=-1)


def performance_profile(tasks: Tasks, thresholds: np.ndarray) -> np.ndarray:
    """Return for each threshold [K] the share of run x task scores above it, [..., K] (section 4.3)."""
    scores = np.concatenate(tasks, axis=-1)
    return np.mean(scores[..., None, :] > np.asarray(thresholds)[:, None], axis=-1)


def resample(tasks: Tasks, reps: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Draw runs with replacement within each task: one [reps, runs] array per task."""
    return [scores[rng.integers(len(scores), size=(reps, len(scores)))] for scores in tasks]


def bootstrap(
    tasks: Tasks, statistic: Callable[[Tasks], np.ndarray], rng: np.random.Generator, reps: int = REPS
) -> Interval | None:
    """Return the 95 % stratified percentile interval of a statistic; None while every task has a single run."""
    if max(len(scores) for scores in tasks) < 2:
        return None
    low, high = np.percentile(statistic(resample(tasks, reps, rng)), (2.5, 97.5))
    return float(low), float(high)


def probability_of_improvement(x: Tasks, y: Tasks) -> np.ndarray:
    """Chance that a run of X beats a run of Y on the same task, ties counting half, averaged over tasks."""
    wins = [
        np.mean((a[..., :, None] > b[..., None, :]) + 0.5 * (a[..., :, None] == b[..., None, :]), axis=(-2, -1))
        for a, b in zip(x, y, strict=True)
    ]
    return np.mean(wins, axis=0)


def improvement_interval(x: Tasks, y: Tasks, rng: np.random.Generator, reps: int = REPS) -> Interval | None:
    """Return the 95 % stratified bootstrap interval of the probability of improvement; None with one run on a side."""
    if min(len(scores) for scores in (*x, *y)) < 2:
        return None
    chances = probability_of_improvement(resample(x, reps, rng), resample(y, reps, rng))
    low, high = np.percentile(chances, (2.5, 97.5))
    return float(low), float(high)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each place, of all so far where there are fewer."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (total[ends] - total[starts]) / (ends - starts)


DATA = Path(__file__).parent / "data"


@lru_cache(maxsize=1)
def _atari_table() -> dict[str, dict[str, str]]:
    """Return game -> one score a column, as text; atari_columns.csv says what the columns are."""
    with open(DATA / "atari_scores.csv", newline="", encoding="utf-8") as file:
        return {row["game"]: row for row in csv.DictReader(file)}


def _atari_game(env_id: str) -> str:
    """Return Pong for ALE/Pong-v5; nothing for what is no Atari game."""
    match = re.fullmatch(r"ALE/(\w+)-v\d+", env_id)
    return match[1] if match else ""


def human_normalized(env_id: str, score: float) -> float | None:
    """Return (score - random) / (human - random), or None for what is no game of Atari-57."""
    row = _atari_table().get(_atari_game(env_id))
    if row is None:
        return None
    random, human = float(row["random"]), float(row["human"])
    return (score - random) / (human - random)


class Published(NamedTuple):
    """A score that somebody published for a game of Atari-57."""

    agent: str
    sticky: str
    """yes or no: whether the game repeats an action by chance, as under `machado`."""
    frames: str
    """Emulator frames of training, four to an env step."""
    source: str
    protocol: str
    """What else the score depends on."""
    score: float


def published(env_id: str, protocol: str) -> list[Published]:
    """Return what was published for a game with sticky actions (`machado`) or without (`classic`), best first.

    The two are never mixed; other protocols and games that are not of Atari-57 have none.
    """
    sticky = {"classic": "no", "machado": "yes"}.get(protocol)
    row = _atari_table().get(_atari_game(env_id))
    if row is None or sticky is None:
        return []
    with open(DATA / "atari_columns.csv", newline="", encoding="utf-8") as file:
        columns = [line for line in csv.DictReader(file) if line["sticky"] == sticky and row[line["column"]]]
    scores = [(float(row[line.pop("column")]), line) for line in columns]
    return [Published(**line, score=score) for score, line in sorted(scores, key=lambda pair: -pair[0])]


@dataclass(frozen=True)
class RunData:
    """One run's folder, read."""

    folder: Path
    algo: str
    env_id: str
    seed: Any
    config: dict[str, Any]
    card: dict[str, Any]
    meta: dict[str, Any]
    """config.json as it is."""
    games: np.ndarray
    """[games, 3]: env steps and wall seconds at the end of each game, and its raw return."""
    evals: np.ndarray
    """[evaluations, 3]: likewise with the mean return of each evaluation."""
    updates: np.ndarray
    """[lines, 3]: likewise with the updates made so far."""
    env_steps: int
    wall_seconds: float
    shares: dict[str, float]
    """Part of the wall-clock by activity, from the last line that has it."""
    notes: tuple[str, ...]
    """What a reader should know about the reading."""
    peak_memory_gb: float | None = None
    """The most memory that its process took."""

    @property
    def name(self) -> str:
        """The folder's name."""
        return self.folder.name

    @property
    def fingerprint(self) -> str:
        """What a score of this run means, as a hash."""
        return str(self.card["fingerprint"])

    @property
    def score(self) -> float | None:
        """Mean return of the last games; None before the first has ended."""
        return float(self.games[-LAST_GAMES:, 2].mean()) if len(self.games) else None

    @property
    def best_eval(self) -> float | None:
        """Highest mean return of an evaluation; None where there was none."""
        return float(self.evals[:, 2].max()) if len(self.evals) else None


PEAK = "system/peak_memory_gb"


def read_run(folder: Path) -> RunData:
    """Read a run's folder; raise ReportError for what is not one, warn about lines that had to be skipped."""
    if not folder.is_dir():
        raise ReportError(f"{folder} is not a folder; name run folders such as runs/<algo>__<env>__s<seed>__<time>")
    meta = _read_config(folder)
    lines, notes = _read_lines(folder / "metrics.jsonl")
    for note in notes:
        warnings.warn(note, stacklevel=2)
    shares = next((found for line in reversed(lines) if (found := _shares(line))), {})
    return RunData(
        folder=folder, algo=str(meta["algo"]), env_id=str(meta["env_id"]), seed=meta.get("seed"),
        config=meta.get("config") or {}, card=meta["card"], meta=meta,
        games=_column(lines, "episode/return"), evals=_column(lines, "eval/return_mean"),
        updates=_column(lines, "time/updates"),
        env_steps=int(max(line["env_steps"] for line in lines)),
        wall_seconds=float(max(line["wall_seconds"] for line in lines)),
        shares=shares, notes=tuple(notes),
        peak_memory_gb=next((line[PEAK] for line in reversed(lines) if _finite(line.get(PEAK))), None),
    )  # fmt: skip


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.is_file():
        raise ReportError(f"{folder} is not a run: it has no config.json")
    try:
        meta = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is not valid JSON: {error}") from error
    known = isinstance(meta, dict) and {"algo", "env_id", "card"} <= set(meta)
    if not known or not isinstance(meta["card"], dict) or "fingerprint" not in meta["card"]:
        raise ReportError(f"{path} is not a run's: it lacks algo, env_id or card with a fingerprint")
    if not isinstance(meta.get("config") or {}, dict):
        raise ReportError(f"{path} is not a run's: its config is not a table of settings")
    return meta


def _read_lines(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    if not path.is_file():
        raise ReportError(f"{path.parent} has no metrics: metrics.jsonl is missing")
    raw = path.read_bytes().rstrip().split(b"\n")
    lines, bad = [], []
    for number, text in enumerate(raw, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and _finite(line.get("env_steps")) and _finite(line.get("wall_seconds")):
            lines.append(line)
        elif number < len(raw):  # a killed run may leave its last line half-written: that is no corruption
            bad.append(number)
    if not lines:
        raise ReportError(f"{path.parent} has no metrics: metrics.jsonl holds no complete line")
    if not bad:
        return lines, []
    shown = ", ".join(map(str, bad[:5])) + (f" and {len(bad) - 5} more" if len(bad) > 5 else "")
    return lines, [f"{path}: skipped corrupted line{'s' if len(bad) > 1 else ''} {shown}"]


def _finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _column(lines: Iterable[dict[str, Any]], key: str) -> np.ndarray:
    found = [(line["env_steps"], line["wall_seconds"], line[key]) for line in lines if _finite(line.get(key))]
    return np.array(found, float).reshape(-1, 3)


def _shares(line: dict[str, Any]) -> dict[str, float]:
    keys = (key for key in line if key.startswith("time/") and key.endswith("_share"))
    return {key[5:-6]: float(line[key]) for key in keys if _finite(line[key])}


@dataclass(frozen=True)
class Group:
    """Runs that differ by their seed only."""

    label: str
    runs: tuple[RunData, ...]

    @property
    def scores(self) -> np.ndarray:
        """Final score of each run that has finished a game, float [runs]."""
        return np.array([run.score for run in self.runs if run.score is not None], float)


def group_runs(runs: Sequence[RunData]) -> list[Group]:
    """Put together runs of one algorithm, game, fingerprint and config apart from the seed; labels are unique."""
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        settings = {key: value for key, value in run.config.items() if key != "seed"}
        key = json.dumps([run.algo, run.env_id, run.fingerprint, settings], sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    firsts = [members[0] for members in groups.values()]
    labels = unique([_label(run, firsts) for run in firsts])
    return [Group(label, tuple(members)) for label, members in zip(labels, groups.values(), strict=True)]


def unique(labels: Sequence[str]) -> list[str]:
    """Number labels that occur more than once."""
    counted = [labels[: place + 1].count(label) for place, label in enumerate(labels)]
    return [f"{label} #{n}" if labels.count(label) > 1 else label for label, n in zip(labels, counted, strict=True)]


def _label(run: RunData, others: Sequence[RunData]) -> str:
    games = {other.env_id for other in others}
    parts = [run.algo] + ([run.env_id] if len(games) > 1 else [])
    rivals = [other for other in others if (other.algo, other.env_id) == (run.algo, run.env_id)]
    if len({other.fingerprint for other in rivals}) > 1:
        parts.append(f"{protocol_name(run)} {run.fingerprint[:6]}")
    differing = differences([other.config for other in rivals])
    telling = [key for key in differing if key not in ("env", "protocol", "seed")][:3]
    parts += [f"{key}={differing[key][rivals.index(run)]}" for key in telling]
    return " · ".join(parts)


def protocol_name(run: RunData) -> str:
    """Return the name of the run's protocol."""
    protocol = run.card.get("protocol")
    return str(protocol.get("name", "?") if isinstance(protocol, dict) else protocol or "?")


def flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"a.b": value} for a table of tables."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat


def differences(tables: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return each key, dotted, whose value is not the same in all tables, with the value in each ("-" for none)."""
    flat = [flatten(table) for table in tables]
    keys = dict.fromkeys(key for table in flat for key in table)
    rows = {key: [table.get(key, "-") for table in flat] for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}

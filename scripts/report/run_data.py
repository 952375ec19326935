"""Read run folders, and group runs that differ only in their seed."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from networks.files import link_outside

LAST_GAMES = 100
"""A run's training score is the mean return of its last LAST_GAMES training games, or of all if there are fewer.

A test keeps it equal to `agents.scores.SCORE_GAMES`: the report imports no agents."""


class ReportError(ValueError):
    """A run folder cannot be read, or runs cannot be compared; the message is one line."""


@dataclass(frozen=True)
class GamesPlayed:
    """One evaluation of a run by evaluate.py: full games, without learning."""

    env_steps: int
    """Env steps of the checkpoint."""
    weights: str
    """Hash of the weights that played."""
    when: str
    """Date and time; empty in older files, where games of the same weights count as one evaluation."""
    changes: str
    """Settings that differ from the run's own, such as another mission channel."""
    returns: tuple[float, ...]

    @property
    def score(self) -> float:
        """Evaluation score: mean return of the games."""
        return float(np.mean(self.returns))

    @property
    def deviation(self) -> float:
        """Standard deviation of the returns."""
        return float(np.std(self.returns))


@dataclass(frozen=True)
class RunData:
    """Contents of one run folder, read by `read_run`."""

    folder: Path
    algo: str
    env_id: str
    seed: int | None
    config: dict[str, Any]
    """Training settings by name."""
    game_spec: dict[str, Any]
    """The game, its keyword arguments, protocol and fingerprint: `card` in config.json."""
    meta: dict[str, Any]
    """config.json, unchanged."""
    games: np.ndarray
    """[games, 3]: env steps and wall seconds at the end of each training game, and its raw return."""
    evals: np.ndarray
    """[evaluations, 3]: env steps, wall seconds and mean return of each evaluation."""
    updates: np.ndarray
    """[lines, 3]: env steps, wall seconds and number of updates so far."""
    env_steps: int
    wall_seconds: float
    time_shares: dict[str, float]
    """Share of the wall-clock time by activity (env, act, learn, log), from the last line that has it."""
    notes: tuple[str, ...]
    """Problems met while reading, one sentence each."""
    peak_memory_gb: float | None = None
    """Peak memory of the training process."""
    evaluations: tuple[GamesPlayed, ...] = ()
    """Evaluations after the training, oldest first."""

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def fingerprint(self) -> str:
        """Hash of the game and protocol; scores are comparable only between equal fingerprints."""
        return str(self.game_spec["fingerprint"])

    @property
    def protocol(self) -> dict[str, Any]:
        """Settings of the evaluation protocol."""
        protocol = self.game_spec.get("protocol")
        return protocol if isinstance(protocol, dict) else {"name": protocol or "?"}

    @property
    def protocol_name(self) -> str:
        """Name of the protocol, such as classic or machado."""
        return str(self.protocol.get("name", "?"))

    @property
    def score(self) -> float | None:
        """Training score: mean return of the last games; None before the first game has ended."""
        return float(self.games[-LAST_GAMES:, 2].mean()) if len(self.games) else None

    @property
    def evaluation(self) -> GamesPlayed | None:
        """The latest evaluation under the run's own settings; None without one."""
        return next((each for each in reversed(self.evaluations) if not each.changes), None)

    @property
    def best_eval(self) -> float | None:
        """Highest mean return of an evaluation during training; None without evaluations."""
        return float(self.evals[:, 2].max()) if len(self.evals) else None


@dataclass(frozen=True)
class Group:
    """Runs that differ only in their seed."""

    label: str
    runs: tuple[RunData, ...]

    @property
    def scores(self) -> np.ndarray:
        """Score of each run that has finished a game, float [runs]."""
        return np.array([run.score for run in self.runs if run.score is not None], float)

    @property
    def first(self) -> RunData:
        """A run that stands for the group's algorithm, game and settings."""
        return self.runs[0]


def read_run(folder: Path) -> RunData:
    """Read a run folder.

    Lines of metrics.jsonl that are not valid are skipped with a warning; raises ReportError if `folder` is not a run.
    """
    if not folder.is_dir():
        raise ReportError(f"{folder} is not a folder; name run folders such as runs/<algo>__<env>__s<seed>__<time>")
    meta = _read_config(folder / "config.json")
    if link := link_outside(folder):
        raise ReportError(link)
    lines, notes = read_metrics(folder / "metrics.jsonl")
    if not lines:
        raise ReportError(f"{folder} has no metrics: metrics.jsonl holds no complete line")
    for note in notes:
        warnings.warn(note, stacklevel=2)
    memory = series(lines, "system/peak_memory_gb")
    return RunData(
        folder=folder, algo=str(meta["algo"]), env_id=str(meta["env_id"]), seed=meta.get("seed"),
        config=meta.get("config") or {}, game_spec=meta["card"], meta=meta,
        games=series(lines, "episode/return"), evals=series(lines, "eval/return_mean"),
        updates=series(lines, "time/updates"),
        env_steps=int(max(line["env_steps"] for line in lines)),
        wall_seconds=float(max(line["wall_seconds"] for line in lines)),
        time_shares=next(filter(None, map(_time_shares, reversed(lines))), {}), notes=tuple(notes),
        peak_memory_gb=float(memory[-1, 2]) if len(memory) else None,
        evaluations=read_evaluations(folder / "replays" / "eval.jsonl"),
    )  # fmt: skip


def read_evaluations(path: Path) -> tuple[GamesPlayed, ...]:
    """Return the evaluations in a run's replays/eval.jsonl, in order; lines that are not valid are left out.

    In undated files a game that was played twice counts once.
    """
    evaluations: dict[tuple[int, str, str, str], dict[str, float]] = {}
    try:
        lines = path.read_bytes().split(b"\n")
    except OSError:  # none yet
        return ()
    for number, text in enumerate(lines):
        try:
            game = json.loads(text)
            extras, score, when = game["extras"], game["episode_return"], game["extras"].get("evaluated", "")
            key = extras["env_steps"], extras.get("weights_sha256", ""), when, extras.get("changes", "")
            name = str(number) if when else f"{game['seed']} {game['ordinal']} {game['frame_hashes']}"
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            continue  # a line that is being written, or none of ours
        if _is_finite(score) and isinstance(key[0], int) and all(isinstance(word, str) for word in key[1:]):
            evaluations.setdefault(key, {})[name] = float(score)
    return tuple(GamesPlayed(*key, tuple(games.values())) for key, games in evaluations.items())


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise ReportError(f"{path.parent} is not a run: it has no config.json")
    try:
        meta = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ReportError(f"{path} is not valid JSON: {error}") from error
    if not isinstance(meta, dict) or not {"algo", "env_id", "card"} <= meta.keys():
        raise ReportError(f"{path} does not belong to a run: it lacks algo, env_id or card")
    if not isinstance(meta["card"], dict) or "fingerprint" not in meta["card"]:
        raise ReportError(f"{path} does not belong to a run: its card lacks a fingerprint")
    if not isinstance(meta.get("config") or {}, dict):
        raise ReportError(f"{path} does not belong to a run: its config is not a table of settings")
    if not isinstance(meta.get("seed"), int | None):
        raise ReportError(f"{path} does not belong to a run: its seed is not an integer")
    return meta


def read_metrics(path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the valid lines of metrics.jsonl, and a note if others were skipped; ReportError without the file."""
    if not path.is_file():
        raise ReportError(f"{path.parent} has no metrics: metrics.jsonl is missing")
    raw = path.read_bytes().rstrip().split(b"\n")
    lines, corrupted = [], []
    for number, text in enumerate(raw, 1):
        if not text.strip():
            continue
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if isinstance(line, dict) and _is_finite(line.get("env_steps")) and _is_finite(line.get("wall_seconds")):
            lines.append(line)
        elif number < len(raw):  # a killed run may leave its last line half-written, which is not corruption
            corrupted.append(number)
    if not corrupted:
        return lines, []
    numbers = ", ".join(map(str, corrupted[:5])) + (f" and {len(corrupted) - 5} more" if len(corrupted) > 5 else "")
    return lines, [f"{path}: skipped corrupted line{'s' if len(corrupted) > 1 else ''} {numbers}"]


def _is_finite(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def series(lines: Iterable[dict[str, Any]], key: str) -> np.ndarray:
    """Return env steps, wall seconds and the value of `key` for each line that has it, float [lines, 3]."""
    rows = [(line["env_steps"], line["wall_seconds"], line[key]) for line in lines if _is_finite(line.get(key))]
    return np.array(rows, float).reshape(-1, 3)


def _time_shares(line: dict[str, Any]) -> dict[str, float]:
    keys = (key for key in line if key.startswith("time/") and key.endswith("_share") and _is_finite(line[key]))
    return {key[len("time/") : -len("_share")]: min(max(float(line[key]), 0.0), 1.0) for key in keys}


def group_runs(runs: Sequence[RunData]) -> list[Group]:
    """Group runs of one algorithm, game, fingerprint and config, ignoring the seed; labels are unique."""
    groups: dict[str, list[RunData]] = {}
    for run in runs:
        settings = {key: value for key, value in run.config.items() if key != "seed"}
        key = json.dumps([run.algo, run.env_id, run.fingerprint, settings], sort_keys=True, default=str)
        groups.setdefault(key, []).append(run)
    firsts = [members[0] for members in groups.values()]
    labels = number_duplicates([_label(run, firsts) for run in firsts])
    return [Group(label, tuple(members)) for label, members in zip(labels, groups.values(), strict=True)]


def comparable_groups(groups: Sequence[Group]) -> list[list[Group]]:
    """Split groups into lists with the same game and fingerprint, whose scores can be compared."""
    games: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        games.setdefault((group.first.env_id, group.first.fingerprint), []).append(group)
    return list(games.values())


def number_duplicates(labels: Sequence[str]) -> list[str]:
    """Append #1, #2 ... to labels that occur more than once."""
    counts = [labels[: index + 1].count(label) for index, label in enumerate(labels)]
    return [f"{label} #{n}" if labels.count(label) > 1 else label for label, n in zip(labels, counts, strict=True)]


def _label(run: RunData, others: Sequence[RunData]) -> str:
    """Name a run by its algorithm, and by game, protocol and up to three settings if others differ in them."""
    parts = [run.algo] + ([run.env_id] if len({other.env_id for other in others}) > 1 else [])
    rivals = [other for other in others if (other.algo, other.env_id) == (run.algo, run.env_id)]
    if len({other.fingerprint for other in rivals}) > 1:
        parts.append(f"{run.protocol_name} {run.fingerprint[:6]}")
    differing = differing_values([other.config for other in rivals])
    settings = [key for key in differing if key not in ("env", "protocol", "seed")][:3]
    parts += [f"{key}={differing[key][rivals.index(run)]}" for key in settings]
    return " · ".join(parts)


def differing_values(tables: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Return the dotted keys whose values differ between nested tables, with the value in each ("-" if absent)."""
    flat = [_flatten(table) for table in tables]
    keys = dict.fromkeys(key for table in flat for key in table)
    rows = {key: [table.get(key, "-") for table in flat] for key in keys}
    return {key: row for key, row in rows.items() if any(value != row[0] for value in row)}


def _flatten(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return {"a.b": value} for {"a": {"b": value}}."""
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) and value else {f"{prefix}{key}": value}
    return flat

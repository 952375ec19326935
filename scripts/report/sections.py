"""The sections of the page, as data for the template."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from markupsafe import Markup

from scripts.report import statistics as st
from scripts.report.charts import X_AXES, XAxis, assign_colours, learning_curves, performance_profiles, smoothing_window
from scripts.report.comparison import Comparison, compare_groups, iqm_interval
from scripts.report.formats import duration, si, value_range
from scripts.report.published_scores import human_normalized, published_scores
from scripts.report.run_data import LAST_GAMES, Group, RunData, differing_values, number_duplicates
from scripts.report.stills import still


@dataclass(frozen=True)
class Summary:
    """One row of the summary table; None where a group has no finished game or no evaluation."""

    group: Group
    iqm: float | None
    mean: float | None
    interval: st.Interval | None
    evaluation: float | None
    """Mean over runs of their latest evaluation scores."""
    evaluated_games: str
    best_eval: float | None
    human_normalized: float | None
    last_games: str
    """Number of games that the scores are averaged over."""
    env_steps: str
    wall_clock: str


def summarize(group: Group, seed: int) -> Summary:
    """Return the summary of one group; `seed` is the bootstrap's."""
    runs, scores = group.runs, [group.scores] if len(group.scores) else []
    iqm = float(st.iqm(scores)) if scores else None
    evaluations = [run.evaluation for run in runs if run.evaluation is not None]
    return Summary(
        group, iqm, float(st.mean(scores)) if scores else None, iqm_interval(group, seed),
        evaluation=float(np.mean([each.score for each in evaluations])) if evaluations else None,
        evaluated_games=value_range([len(each.returns) for each in evaluations] or [0]),
        best_eval=max((run.best_eval for run in runs if run.best_eval is not None), default=None),
        human_normalized=None if iqm is None else human_normalized(group.first.env_id, iqm),
        last_games=_last_games(group), env_steps=value_range([run.env_steps for run in runs], si),
        wall_clock=value_range([run.wall_seconds for run in runs], duration),
    )  # fmt: skip


def _last_games(group: Group) -> str:
    return value_range([min(LAST_GAMES, len(run.games)) for run in group.runs if len(run.games)] or [0])


@dataclass(frozen=True)
class PublishedRow:
    """One row of the table of published scores: a published score, or a group of the page."""

    agent: str
    score: float
    human_normalized: float | None
    frames: str
    source: str
    conditions: str
    on_page: bool = False


@dataclass(frozen=True)
class GameSection:
    """Groups with the same game and protocol, and the sections of the page about them."""

    groups: Sequence[Group]
    env_id: str
    protocol: str
    image_size: int
    window: int
    """Games that the learning curves are averaged over; 0 if no game has ended."""
    curves: Mapping[XAxis, Markup]
    """Learning curves by x axis."""
    comparisons: Sequence[Comparison]
    published: Sequence[PublishedRow]


def game_section(groups: Sequence[Group], colours: Mapping[str, str], seed: int) -> GameSection:
    """Draw the curves of groups with the same game and protocol, and compare every pair."""
    first, runs = groups[0].first, [run for group in groups for run in group.runs]
    window = smoothing_window(groups)
    axes = [axis for axis in X_AXES if window and (axis != "updates" or all(len(run.updates) for run in runs))]
    pairs = combinations([group for group in groups if len(group.scores)], 2)
    return GameSection(
        groups, first.env_id, first.protocol_name, first.protocol.get("image_size") or 84, window,
        curves={axis: learning_curves(groups, colours, axis, window) for axis in axes},
        comparisons=[compare_groups(a, b, seed) for a, b in pairs], published=_published_rows(groups),
    )  # fmt: skip


def _published_rows(groups: Sequence[Group]) -> list[PublishedRow]:
    """Return the scores published for the game and protocol of these groups, with the groups' own, best first."""
    env_id = groups[0].first.env_id
    published = published_scores(env_id, groups[0].first.protocol_name)
    rows = [
        PublishedRow(row.agent, row.score, human_normalized(env_id, row.score), row.frames, row.source, row.protocol)
        for row in published
    ]
    for group in (group for group in groups if published and len(group.scores)):
        score, frames = float(st.iqm([group.scores])), value_range([4 * run.env_steps for run in group.runs], si)
        conditions = f"mean of the last {_last_games(group)} training games"
        if len(group.runs) > 1:
            conditions = f"IQM of {len(group.runs)} runs, {conditions}"
        normalized = human_normalized(env_id, score)
        rows.append(PublishedRow(group.label, score, normalized, frames, "this page", conditions, on_page=True))
    return sorted(rows, key=lambda row: -row.score)


@dataclass(frozen=True)
class Video:
    """One video of a run: embedded as a data URL, or linked if the page would become too large."""

    run: RunData
    name: str
    source: str | None
    link: str
    still: str | None
    """Data URL of a frame, shown until an embedded video is played."""


def embed_videos(runs: Sequence[RunData], out: Path, budget: int) -> list[Video]:
    """Embed the newest video of each run first, then older ones while they fit; list them by run, oldest first."""
    paths = [
        sorted((run.folder / "videos").glob("*.mp4"), key=lambda path: (path.stat().st_mtime, path.name))
        for run in runs
    ]
    newest_first = zip_longest(*([path for path in reversed(of_run) if path.stat().st_size] for of_run in paths))
    sources: dict[Path, str] = {}
    for path in (path for layer in newest_first for path in layer if path is not None):
        size = 4 * -(-path.stat().st_size // 3)
        if size <= budget:
            budget -= size
            sources[path] = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    page_folder = out.resolve().parent
    return [
        Video(
            run,
            path.name,
            sources.get(path),
            quote(os.fsencode(os.path.relpath(path.resolve(), page_folder))),
            still(path) if path in sources else None,
        )
        for run, of_run in zip(runs, paths, strict=True)
        for path in of_run
    ]


@dataclass(frozen=True)
class NormalizedRow:
    """Human-normalised scores of one algorithm, config and protocol over its games."""

    name: str
    games: str
    count: int
    """Number of scores."""
    estimates: Sequence[tuple[float, st.Interval | None]]
    """IQM, median, mean and optimality gap, with their 95 % intervals."""


@dataclass(frozen=True)
class NormalizedScores:
    """Human-normalised scores across games, with performance profiles if all rows cover the same games."""

    rows: Sequence[NormalizedRow]
    colours: Mapping[str, str]
    profiles: Markup | None


def normalized_scores(groups: Sequence[Group], seed: int) -> NormalizedScores | None:
    """Aggregate Atari scores for each algorithm, config and protocol; None without such games, or for a single run."""
    contenders: dict[str, list[Group]] = {}
    for group in groups:
        run = group.first
        if len(group.scores) and human_normalized(run.env_id, 0.0) is not None:
            config = {key: value for key, value in run.config.items() if key not in ("env", "seed")}
            key = json.dumps([run.algo, config, run.game_spec.get("protocol")], sort_keys=True, default=str)
            contenders.setdefault(key, []).append(group)
    if not contenders or sum(len(group.runs) for group in groups) < 2:
        return None
    names = number_duplicates([f"{of[0].first.algo} · {of[0].first.protocol_name}" for of in contenders.values()])
    rows, scores = [], {}
    for name, members in zip(names, contenders.values(), strict=True):
        tasks = [np.array([human_normalized(g.first.env_id, s) for s in g.scores], float) for g in members]
        estimates = [
            (float(statistic(tasks)), st.bootstrap(tasks, statistic, np.random.default_rng(seed)))
            for statistic in (st.iqm, st.median, st.mean, st.optimality_gap)
        ]
        games = ", ".join(group.first.env_id for group in members)
        rows.append(NormalizedRow(name, games, sum(map(len, tasks)), estimates))
        scores[name] = tasks
    colours = assign_colours(scores)
    covered = {frozenset((g.first.env_id, g.first.fingerprint) for g in members) for members in contenders.values()}
    return NormalizedScores(rows, colours, performance_profiles(scores, colours) if len(covered) == 1 else None)


def setting_differences(groups: Sequence[Group]) -> list[tuple[str, list[Any]]]:
    """Return each setting that differs between groups, apart from the seed, with its value in each group."""
    prefixes = {"config": "", "card": "score: ", "versions": "versions: ", "git": "git: ", "machine": "machine: "}
    rows = []
    for key, prefix in prefixes.items():
        tables = [group.first.meta.get(key) or {} for group in groups]
        differing = differing_values([table if isinstance(table, dict) else {"": table} for table in tables])
        rows += [(f"{prefix}{name}", row) for name, row in differing.items() if (key, name) != ("config", "seed")]
    return rows


@dataclass(frozen=True)
class Origin:
    """How a run was made."""

    run: RunData
    command: str
    facts: Sequence[str]
    """Seed, date, commit, machine and library versions, as far as they are recorded."""
    record: Mapping[str, Any]
    """config.json without the command and the config."""


def origin_of(run: RunData) -> Origin:
    """Collect the provenance that config.json records."""
    git, machine, versions = (
        table if isinstance(table := run.meta.get(key), dict) else {} for key in ("git", "machine", "versions")
    )
    commit = f"commit {str(git.get('commit') or 'not recorded')[:12]}"
    commit += " with uncommitted changes" if git.get("dirty") else ""
    facts = [f"seed {run.seed}", str(run.meta.get("created") or ""), commit]
    facts += [f"{key} {value}" for key, value in (machine | versions).items() if value is not None]
    record = {key: value for key, value in run.meta.items() if key not in ("command", "config")}
    return Origin(run, str(run.meta.get("command") or "command not recorded"), list(filter(None, facts)), record)

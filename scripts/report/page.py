"""A page that compares runs: one HTML file that needs no network, no server and no script to be read."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Sequence
from datetime import datetime
from html import escape
from itertools import combinations, zip_longest
from math import comb, inf
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from scripts.report import markup
from scripts.report import statistics as st
from scripts.report.charts import AXES, chart, profile_chart
from scripts.report.statistics import Group, ReportError, RunData

SHARE_COLOURS = {"env": "#3b82f6", "act": "#16a37b", "learn": "#d6539b", "log": "#d9a521"}
VIDEO_BYTES = 30_000_000
"""Base64 characters of video in one page; what lies beyond is linked."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; media-src data:; img-src data:"
"""What a browser may load: nothing from anywhere but the page itself."""
PROVENANCE = ("git", "machine", "versions")
MIN_RUNS = 3
"""Fewer runs on a side never decide a comparison: with 2 against 2, equal algorithms separate 1 time in 3."""


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    allow_mixed: bool = False,
    seed: int = 0,
    video_bytes: int = VIDEO_BYTES,
) -> Path:
    """Write one page about run folders to `out`, whole or not at all; ReportError says why it cannot."""
    if not runs:
        raise ReportError("no runs given")
    if out.is_dir():
        raise ReportError(f"{out} is a folder; --out names the page's file")
    data = [st.read_run(folder) for folder in {folder.resolve(): folder for folder in runs}.values()]
    if not allow_mixed:
        check_same_meaning(data)
    page = _page(data, out, title or _default_title(data), seed, video_bytes)
    out.parent.mkdir(parents=True, exist_ok=True)
    half = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        half.write_bytes(page.encode("utf-8", "backslashreplace"))  # names on disk may hold undecodable bytes
        os.replace(half, out)
    finally:
        half.unlink(missing_ok=True)
    return out


def check_same_meaning(runs: Sequence[RunData]) -> None:
    """Raise ReportError, naming the knobs, unless a score means the same in all runs."""
    if len({(run.env_id, run.fingerprint) for run in runs}) == 1:
        return
    knobs = st.differences([{**run.card, "env_id": run.env_id} for run in runs])
    knobs.pop("fingerprint", None)
    shown = [f"{key} ({' / '.join(dict.fromkeys(map(str, row)))})" for key, row in knobs.items()]
    raise ReportError(
        f"scores of these runs do not mean the same; they differ in {', '.join(shown) or 'fingerprint only'}; "
        "--allow-mixed puts them on one page all the same"
    )


def _default_title(runs: Sequence[RunData]) -> str:
    algos, games = (list(dict.fromkeys(names)) for names in ([r.algo for r in runs], [r.env_id for r in runs]))
    return f"{' vs '.join(algos)} on {games[0] if len(games) == 1 else f'{len(games)} games'}"


def _page(runs: Sequence[RunData], out: Path, title: str, seed: int, video_bytes: int) -> str:
    groups = st.group_runs(runs)
    colours = markup.colours(group.label for group in groups)
    arenas: dict[tuple[str, str], list[Group]] = {}
    for group in groups:
        arenas.setdefault((group.runs[0].env_id, group.runs[0].fingerprint), []).append(group)
    verdicts = [_comparison(members, seed) for members in arenas.values() if len(members) > 1]
    sections = [
        _cards(groups[0]) if len(groups) == 1 else "".join(f"<p class='verdict'>{text}</p>" for text, _ in verdicts),
        _notes(runs, groups, len(arenas)),
        "<h2>Summary</h2>" + _summary(groups, colours, seed),
        *(_curves(members, colours, len(arenas) > 1) for members in arenas.values()),
        _videos(runs, out, video_bytes),
        _time(runs),
        "".join(table for _, table in verdicts),
        _aggregates(groups, seed),
        *(_published(members) for members in arenas.values()),
        _differences(groups),
        _origins(runs),
    ]
    css = (Path(__file__).parent / "data" / "report.css").read_text(encoding="utf-8")
    made = f"{len(runs)} run{'s' if len(runs) > 1 else ''} · page made {datetime.now():%Y-%m-%d %H:%M}"
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<link rel="icon" href="data:,">
<title>{escape(title)}</title><style>{css}</style></head><body><main>
<header><p class="soft">joypad · report</p><h1>{escape(title)}</h1><p class="soft">{made}</p></header>
{"".join(sections)}{FOOTER}</main></body></html>
"""


def _cards(group: Group) -> str:
    runs, facts = group.runs, []
    if len(group.scores):
        score, several = float(st.iqm([group.scores])), ", IQM of seeds" if len(runs) > 1 else ""
        facts.append((f"{score:,.4g}", f"mean return, last {_last_games(group)} games{several}"))
        human = st.human_normalized(runs[0].env_id, score)
        facts += [(f"{human:.0%}", "human-normalised score")] if human is not None else []
    evals = [run.best_eval for run in runs if run.best_eval is not None]
    facts += [(f"{max(evals):,.4g}", "best evaluation")] if evals else []
    steps, seconds = sum(run.env_steps for run in runs), sum(run.wall_seconds for run in runs)
    facts += [(markup.si(steps), "env steps"), (markup.duration(seconds), "wall-clock")]
    facts += [(f"{steps / seconds:,.0f}", "env steps a second")] if seconds > 0 else []
    facts.append((f"{sum(len(run.games) for run in runs):,}", "games finished"))
    cards = "".join(f"<div class='card'><b>{number}</b><span>{meaning}</span></div>" for number, meaning in facts)
    return f"<div class='cards'>{cards}</div>"


def _notes(runs: Sequence[RunData], groups: Sequence[Group], arenas: int) -> str:
    notes = [note for run in runs for note in run.notes]
    if arenas > 1:
        notes.append("These runs differ in game or protocol: their scores do not mean the same, and are not compared.")
    for group in groups:
        seeds = [run.seed for run in group.runs]
        if len(set(map(str, seeds))) < len(seeds):
            notes.append(f"{group.label}: a seed occurs more than once; such runs are no independent evidence.")
    notes += [f"{run.name}: no game has ended yet." for run in runs if not len(run.games)]
    return "".join(f"<p class='note'>{escape(note)}</p>" for note in notes)


def _summary(groups: Sequence[Group], colours: dict[str, str], seed: int) -> str:
    head = ("Runs", "Algorithm", "Game", "Protocol", "Seeds", "Env steps", "Wall-clock", "Final return",
            "95 % interval", "Best eval", "Human-normalised")  # fmt: skip
    rows = []
    for group in groups:
        run, scores = group.runs[0], group.scores
        interval = _interval(group, seed)
        human = st.human_normalized(run.env_id, float(st.iqm([scores]))) if len(scores) else None
        evals = [member.best_eval for member in group.runs if member.best_eval is not None]
        final = "–"
        if len(scores):
            told = f"mean {st.mean([scores]):,.2f}, last {_last_games(group)} games"
            final = f"<b>{st.iqm([scores]):,.2f}</b><small>{told}</small>"
        rows.append((
            f"{markup.chip(colours[group.label])}{escape(group.label)}", escape(run.algo), escape(run.env_id),
            f"{escape(st.protocol_name(run))} <small><code>{escape(run.fingerprint)}</code></small>",
            escape(", ".join(str(member.seed) for member in group.runs)),
            markup.span([member.env_steps for member in group.runs], markup.si),
            markup.span([member.wall_seconds for member in group.runs], markup.duration),
            final,
            f"{interval[0]:,.2f} to {interval[1]:,.2f}" if interval else "needs 2 seeds or more",
            f"{max(evals):,.2f}" if evals else "–", f"{human:.1%}" if human is not None else "–",
        ))  # fmt: skip
    return markup.table(head, rows)


def _interval(group: Group, seed: int) -> st.Interval | None:
    """Bootstrap a group's IQM; seeded anew at each call, so that table and verdict speak of the same numbers."""
    return st.bootstrap([group.scores], st.iqm, np.random.default_rng(seed)) if len(group.scores) else None


def _last_games(group: Group) -> str:
    return markup.span([min(st.LAST_GAMES, len(run.games)) for run in group.runs if len(run.games)] or [0])


def _curves(groups: Sequence[Group], colours: dict[str, str], several: bool) -> str:
    first = groups[0].runs[0]
    where = f" · {escape(first.env_id)}, {escape(st.protocol_name(first))}" if several else ""
    lengths = [len(run.games) for group in groups for run in group.runs if len(run.games)]
    if not lengths:
        return f"<h2>Learning curves{where}</h2><p class='soft'>No game has ended yet.</p>"
    window = int(np.clip(min(lengths) // 20, 1, st.LAST_GAMES))
    legend = markup.legend({group.label: colours[group.label] for group in groups})
    figures = "".join(
        f"<figure>{chart(groups, colours, axis, window)}<figcaption>Return over {axis}</figcaption></figure>"
        for axis in AXES
        if axis != "updates" or all(len(run.updates) for group in groups for run in group.runs)
    )
    told = f"Running mean over {window} games; dots are single games (thinned), diamonds are evaluations. "
    if max(len(group.runs) for group in groups) > 1:
        told += "Thick lines are the IQM over seeds, as far as all seeds got; bands are 95 % bootstrap intervals."
    return f"<h2>Learning curves{where}</h2>{legend}<div class='charts'>{figures}</div>" \
        f"<p class='soft'>{told}</p>"  # fmt: skip


def _videos(runs: Sequence[RunData], out: Path, budget: int) -> str:
    """Embed the newest video of each run first, then older ones while they fit; show them run by run, oldest first."""
    found = [(run, sorted((run.folder / "videos").glob("*.mp4"), key=_age)) for run in runs]
    newest_first = zip_longest(*([path for path in reversed(paths) if path.stat().st_size] for _, paths in found))
    sources: dict[Path, str] = {}
    for path in (path for layer in newest_first for path in layer if path is not None):
        size = 4 * -(-path.stat().st_size // 3)
        if size <= budget:
            budget -= size
            sources[path] = "data:video/mp4;base64," + base64.b64encode(path.read_bytes()).decode()
    figures = [_video(run, path, sources.get(path), out) for run, paths in found for path in paths]
    return f"<h2>Videos</h2><div class='videos'>{''.join(figures)}</div>" if figures else ""


def _age(path: Path) -> tuple[float, str]:
    return path.stat().st_mtime, path.name


def _video(run: RunData, path: Path, source: str | None, out: Path) -> str:
    caption = f"{escape(path.name)}<br>{escape(run.name)}"
    if source is not None:
        player = f"<video controls muted playsinline preload='metadata' src='{source}'></video>"
        return f"<figure>{player}<figcaption>{caption}</figcaption></figure>"
    link = quote(os.fsencode(os.path.relpath(path.resolve(), out.resolve().parent)))
    told = f"not inside this page, to keep it small: <a href='{link}'>open the file</a>"
    return f"<figure><figcaption>{caption}<br>{told}</figcaption></figure>"


def _time(runs: Sequence[RunData]) -> str:
    rows = []
    for run in (run for run in runs if run.shares):
        shares = [(name, min(max(share, 0.0), 1.0)) for name, share in run.shares.items()]
        bar = "".join(f"<i style='width:{s:.1%};background:{SHARE_COLOURS.get(n, '#8b95a5')}'></i>" for n, s in shares)
        words = " · ".join(
            f"{markup.chip(SHARE_COLOURS.get(name, '#8b95a5'))}{escape(name)} {share:.0%}" for name, share in shares
        )
        speed = f" · {run.env_steps / run.wall_seconds:,.0f} env steps a second" if run.wall_seconds > 0 else ""
        rows.append(f"<p>{escape(run.name)}{speed}</p><div class='share'>{bar}</div><p class='soft'>{words}</p>")
    cells = "".join(f"<div>{row}</div>" for row in rows)
    return f"<h2>Where the time went</h2><div class='charts'>{cells}</div>" if rows else ""


def _comparison(groups: Sequence[Group], seed: int) -> tuple[str, str]:
    """Return the verdicts on all pairs of groups of one game and protocol, as lines and as a section."""
    run, rows, lines = groups[0].runs[0], [], []
    for a, b in combinations([group for group in groups if len(group.scores)], 2):
        chance = float(st.probability_of_improvement([a.scores], [b.scores]))
        interval = st.improvement_interval([a.scores], [b.scores], np.random.default_rng(seed))
        text = verdict(a, b, seed)
        names = [escape(group.label) for group in (a, b)]
        span = f"{interval[0]:.0%} to {interval[1]:.0%}" if interval else "needs 2 seeds or more a side"
        rows.append((" over ".join(names), f"<b>{chance:.0%}</b>", span, escape(text)))
        lines.append(f"{' against '.join(names)}: {escape(text)}")
    if not rows:
        return "", ""
    head = ("Pair", "Probability of improvement", "95 % interval", "Verdict")
    where = f"{escape(run.env_id)}, {escape(st.protocol_name(run))}"
    return "<br>".join(lines), f"<h2>Which is better on {where}?</h2>{markup.table(head, rows)}"


def verdict(a: Group, b: Group, seed: int = 0) -> str:
    """Say which group is better, or "cannot tell" with the reason."""
    n, m = len(a.scores), len(b.scores)
    if min(n, m) < MIN_RUNS:
        return f"cannot tell: {n} and {m} runs; it takes {MIN_RUNS} or more seeds a side"
    (low_a, high_a), (low_b, high_b) = (_interval(group, seed) or (-inf, inf) for group in (a, b))
    if low_a <= high_b and low_b <= high_a:
        return "cannot tell: the intervals overlap"
    text = f"{(a if low_a > high_b else b).label} is better: the intervals do not overlap"
    odds = comb(n + m, n) / 2
    if odds < 100:
        text += f", though {n} and {m} runs of equals separate completely 1 time in {odds:.0f}"
    steps = [sum(run.env_steps for run in group.runs) / len(group.runs) for group in (a, b)]
    if max(steps) > 1.05 * min(steps):
        text += f"; budgets differ ({markup.si(steps[0])} and {markup.si(steps[1])} env steps)"
    return text


def _aggregates(groups: Sequence[Group], seed: int) -> str:
    """Tabulate human-normalised scores over games, for each algorithm, config and protocol."""
    sides: dict[str, list[Group]] = {}
    for group in groups:
        run = group.runs[0]
        if len(group.scores) and st.human_normalized(run.env_id, 0.0) is not None:
            config = {key: value for key, value in run.config.items() if key not in ("env", "seed")}
            key = json.dumps([run.algo, config, run.card.get("protocol")], sort_keys=True, default=str)
            sides.setdefault(key, []).append(group)
    if not sides or sum(len(group.runs) for group in groups) < 2:
        return ""
    names = [f"{side[0].runs[0].algo} · {st.protocol_name(side[0].runs[0])}" for side in sides.values()]
    rows, normal = [], {}
    for name, side in zip(st.unique(names), sides.values(), strict=True):
        tasks = [np.array([st.human_normalized(g.runs[0].env_id, s) for s in g.scores], float) for g in side]
        normal[name] = tasks
        cells = []
        for statistic in (st.iqm, st.median, st.mean, st.optimality_gap):
            span = st.bootstrap(tasks, statistic, np.random.default_rng(seed))
            cells.append(f"{statistic(tasks):.3f}" + (f"<small>{span[0]:.3f} to {span[1]:.3f}</small>" if span else ""))
        games = ", ".join(escape(group.runs[0].env_id) for group in side)
        rows.append((escape(name), games, str(sum(map(len, tasks))), *cells))
    told = "<p class='soft'>Compare rows only where they cover the same games under the same protocol.</p>"
    table = markup.table(("Runs", "Games", "Scores", "IQM", "Median", "Mean", "Optimality gap"), rows)
    heading = "<h2>Human-normalised scores over games</h2>"
    if len({frozenset((g.runs[0].env_id, g.runs[0].fingerprint) for g in side) for side in sides.values()}) > 1:
        return heading + table + told  # profiles of other games or protocols do not belong in one picture
    colours = markup.colours(normal)
    caption = "Performance profiles: the share of runs whose score is above a threshold; higher is better"
    figure = f"<figure>{profile_chart(normal, colours)}<figcaption>{caption}</figcaption></figure>"
    return f"{heading}{table}{told}{markup.legend(colours)}<div class='charts'>{figure}</div>"


def _published(groups: Sequence[Group]) -> str:
    """Tabulate what was published for the game under the protocol of these groups, with the groups among it."""
    run = groups[0].runs[0]
    protocol, found = st.protocol_name(run), st.published(run.env_id, st.protocol_name(run))
    if not found:
        return ""
    lines = [
        (line.score, escape(line.agent), line.frames, escape(line.source), escape(line.protocol)) for line in found
    ]
    for group in (group for group in groups if len(group.scores)):
        frames = markup.span([4 * member.env_steps for member in group.runs], markup.si)
        told = f"mean of the last {_last_games(group)} training games"
        if len(group.runs) > 1:
            told = f"IQM of {len(group.runs)} runs, {told}"
        lines.append((float(st.iqm([group.scores])), f"<b>{escape(group.label)}</b>", frames, "this page", told))
    rows = []
    for score, *cells in sorted(lines, key=lambda line: -line[0]):
        human = st.human_normalized(run.env_id, score)
        rows.append((cells[0], f"{score:,.1f}", f"{human:.0%}" if human is not None else "–", *cells[1:]))
    size = (run.card.get("protocol") or {}).get("image_size") or 84
    small = f"These runs see frames of {size}x{size}, the published ones of 84x84. " if size != 84 else ""
    sticky = "with sticky actions" if protocol == "machado" else "without sticky actions"
    told = f"{small}Only scores {sticky} are shown. Budgets, ends of games and what was averaged differ: see the table."
    table = markup.table(("Agent", "Score", "Human-normalised", "Frames", "Source", "What was measured"), rows)
    opened = " open" if len(rows) < 12 else ""
    heading = f"<h2>Published scores on {escape(run.env_id)}, {escape(protocol)}</h2><p class='soft'>{told}</p>"
    return f"{heading}<details{opened}><summary>{len(found)} published scores</summary>{table}</details>"


def _differences(groups: Sequence[Group]) -> str:
    if len(groups) < 2:
        return ""
    sources = {"": "config", "score: ": "card", "versions: ": "versions", "git: ": "git", "machine: ": "machine"}
    rows = []
    for prefix, key in sources.items():
        tables = [group.runs[0].meta.get(key) or {} for group in groups]
        found = st.differences([table if isinstance(table, dict) else {"": table} for table in tables])
        rows += [(f"{prefix}{name}", *values) for name, values in found.items() if (key, name) != ("config", "seed")]
    if not rows:
        return "<h2>What differs</h2><p>The algorithm only: settings, protocol, versions and machine are equal.</p>"
    cells = [[f"<code>{escape(str(cell))}</code>" for cell in row] for row in rows]
    return "<h2>What differs</h2>" + markup.table(["Setting", *(escape(group.label) for group in groups)], cells)


def _origins(runs: Sequence[RunData]) -> str:
    parts = []
    for run in runs:
        meta = run.meta
        rest = {key: value for key, value in meta.items() if key not in ("command", "config")}
        dump = (escape(json.dumps(part, indent=2, ensure_ascii=False)) for part in (run.config, rest))
        parts.append(
            f"<h3>{escape(run.name)}</h3><pre>{escape(str(meta.get('command') or 'command not recorded'))}</pre>"
            f"<p class='soft'>{escape(' · '.join(_provenance(meta)))}</p>"
            "<details><summary>Settings, protocol, versions, machine</summary>"
            f"{''.join(f'<pre>{text}</pre>' for text in dump)}</details>"
        )
    return "<h2>How to make these runs again</h2>" + "".join(parts)


def _provenance(meta: dict[str, Any]) -> list[str]:
    git, machine, versions = ({**found} if isinstance(found := meta.get(key), dict) else {} for key in PROVENANCE)
    commit = f"commit {str(git.get('commit') or 'not recorded')[:12]}"
    commit += " with uncommitted changes" if git.get("dirty") else ""
    facts = [f"seed {meta.get('seed')}", str(meta.get("created") or ""), commit]
    facts += [f"{key} {value}" for key, value in (machine | versions).items() if value is not None]
    return [fact for fact in facts if fact]


FOOTER = """<footer class="soft"><p><b>How to read this.</b> A return is the game's own score of one full training game.
A run's final return is the mean over its last 100 games, or over all of them where there are fewer. IQM is the mean of
the middle half of the runs' final returns; intervals are 95 % percentile intervals of a bootstrap that draws runs
anew within each game, so they speak of seeds, not of games, and are too narrow with few seeds. Probability of
improvement is the chance that a run of the first group beats one of the second. Definitions: Agarwal et al. 2021,
"Deep Reinforcement Learning at the Edge of the Statistical Precipice". "Best eval" is a maximum and thus flatters.</p>
<p>Human-normalised = (score - random) / (human - random), with the random and human scores of Wang et al. 2016 (30
no-op starts, 108,000 frames at most) as in deepmind/dqn_zoo, <code>dqn_zoo/atari_data.py</code>. They were taken
without sticky actions. For VideoPinball other papers take a random score of 0 instead of 16,256.9.</p></footer>"""

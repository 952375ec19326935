"""A self-contained HTML page that compares runs; it needs no network, server or script.

The markup is in templates/. Jinja2 escapes every value, since names and settings in a run folder may hold anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from networks.files import write_atomically
from scripts.report import sections
from scripts.report.charts import assign_colours
from scripts.report.comparison import MIN_RUNS
from scripts.report.formats import duration, si
from scripts.report.run_data import (
    Group,
    ReportError,
    RunData,
    comparable_groups,
    differing_values,
    group_runs,
    read_run,
)

VIDEO_BYTES = 30_000_000
"""Base64 characters of video that one page embeds; the page links to further videos."""
FILTERS: dict[str, Callable[..., str]] = {
    "si": si,
    "duration": duration,
    "fixed": lambda number, digits: f"{number:,.{digits}f}",
    "significant": lambda number, digits: f"{number:,.{digits}g}",
    "percent": lambda number, digits=0: f"{number:.{digits}%}",
    "pretty_json": lambda value: json.dumps(value, indent=2, ensure_ascii=False),
}


def write_report(
    runs: Sequence[Path],
    out: Path,
    *,
    title: str | None = None,
    allow_mixed: bool = False,
    seed: int = 0,
    video_bytes: int = VIDEO_BYTES,
) -> Path:
    """Write one page about run folders to `out`, atomically, and return `out`.

    `seed` is the bootstrap's. Raises ReportError if a folder is not a run, or if scores are not comparable and
    `allow_mixed` is off.
    """
    data = read_runs(runs, allow_mixed)
    page = render_page(data, out, title or default_title(data), seed, video_bytes)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, page.encode("utf-8", "backslashreplace"))  # names on disk may hold undecodable bytes
    return out


def read_runs(folders: Sequence[Path], allow_mixed: bool) -> list[RunData]:
    """Read each folder once; raise ReportError if one is not a run, or if scores are not comparable."""
    if not folders:
        raise ReportError("no runs given")
    data = [read_run(folder) for folder in {folder.resolve(): folder for folder in folders}.values()]
    if not allow_mixed:
        check_comparable(data)
    return data


def check_comparable(runs: Sequence[RunData]) -> None:
    """Raise ReportError, naming the settings that differ, unless all runs share one game and protocol."""
    if len({(run.env_id, run.fingerprint) for run in runs}) == 1:
        return
    differing = differing_values([{**run.game_spec, "env_id": run.env_id} for run in runs])
    differing.pop("fingerprint", None)
    settings = [f"{key} ({' / '.join(dict.fromkeys(map(str, row)))})" for key, row in differing.items()]
    raise ReportError(
        f"scores of these runs are not comparable: they differ in {', '.join(settings) or 'fingerprint only'}; "
        "--allow-mixed puts them on one page anyway"
    )


def render_page(runs: Sequence[RunData], out: Path, title: str, seed: int = 0, video_bytes: int = VIDEO_BYTES) -> str:
    """Return the page's HTML; links are relative to `out`."""
    groups = group_runs(runs)
    games = comparable_groups(groups)
    colours = assign_colours(group.label for group in groups)
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent / "templates"), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    templates.filters |= FILTERS
    return templates.get_template("page.html.j2").render(
        title=title, now=datetime.now(), min_runs=MIN_RUNS, runs=runs, groups=groups, colours=colours,
        notes=_notes(runs, groups, games),
        summaries=[sections.summarize(group, seed) for group in groups],
        games=[sections.game_section(members, colours, seed) for members in games],
        videos=sections.embed_videos(runs, out, video_bytes),
        normalized=sections.normalized_scores(groups, seed),
        differences=sections.setting_differences(groups), origins=[sections.origin_of(run) for run in runs],
    )  # fmt: skip


def default_title(runs: Sequence[RunData]) -> str:
    """Return a title that names algorithms and game."""
    algos, games = (list(dict.fromkeys(names)) for names in ([r.algo for r in runs], [r.env_id for r in runs]))
    return f"{' vs '.join(algos)} on {games[0] if len(games) == 1 else f'{len(games)} games'}"


def _notes(runs: Sequence[RunData], groups: Sequence[Group], games: Sequence[Sequence[Group]]) -> list[str]:
    notes = [note for run in runs for note in run.notes]
    if len(games) > 1:
        notes.append("These runs differ in game or protocol, so their scores are not comparable.")
    for group in groups:
        if len({run.seed for run in group.runs}) < len(group.runs):
            notes.append(f"{group.label}: a seed occurs more than once; these runs are not independent evidence.")
    return notes + [f"{run.name}: no game has ended yet." for run in runs if not len(run.games)]

"""The results book: duels that are trained, judged and written down by one command, from their run folders.

`benchmark.py suite` makes docs/results/book: for each chapter a JSON file with every number, the best judged game of
each side as an action replay, and one README.md with all tables. Nothing in it is typed by hand, and the same run
folders give the same files again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from agents.errors import ConfigError, RunError
from agents.run.provenance import ROOT
from envs.action_replays import EpisodeRecord, load_replays, previous_episodes
from scripts.experiments.duel import duel_table, pair_of, weigh
from scripts.experiments.suite import compete
from scripts.experiments.training_jobs import Settings
from scripts.report.tables import interval, number, wide_console
from scripts.runner.files import write_json

BOOK = ROOT / "docs" / "results" / "book"


@dataclass(frozen=True)
class Chapter:
    """One duel of the book."""

    name: str
    sides: tuple[str, str]
    env: str
    total_steps: int
    seeds: int = 3
    overrides: tuple[str, ...] = ()
    """Options of train.py for both sides."""
    remark: str = ""


CHAPTERS = (
    Chapter("cartpole-ppo", ("ppo", "sb3-ppo"), "CartPole-v1", 100_000),
    Chapter("cartpole-dqn", ("dqn", "sb3-dqn"), "CartPole-v1", 50_000),
    Chapter("lunarlander-ppo", ("ppo", "sb3-ppo"), "LunarLander-v3", 500_000),
    Chapter("breakout-ppo", ("ppo", "sb3-ppo"), "MinAtar/Breakout-v1", 500_000),
    Chapter(
        "pong-ppo", ("ppo:fast", "sb3-ppo"), "ALE/Pong-v5", 500_000, overrides=("--image-size", "42"),
        remark="Frames of 42x42 for both. Our preset was made for this budget, the zoo's for 10M steps.",
    ),
)  # fmt: skip


def write_book(arguments: argparse.Namespace, settings: Settings, chapters: Sequence[Chapter] = CHAPTERS) -> None:
    """Train what is missing of the chapters that were asked for, and write them and the book's page."""
    known = {chapter.name: chapter for chapter in chapters}
    unknown = [name for name in arguments.chapters if name not in known]
    if unknown:
        raise ConfigError(f"there is no chapter {', '.join(unknown)}; there are {', '.join(known)}")
    console = wide_console()
    if arguments.list:
        for chapter in chapters:
            words = f"{chapter.name}: {' and '.join(chapter.sides)} on {chapter.env}, {chapter.total_steps:,} steps"
            console.print(f"{words}, {chapter.seeds} seeds", highlight=False, markup=False, soft_wrap=True)
        return
    arguments.book.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    for name in arguments.chapters or known:
        failed |= write_chapter(known[name], settings, arguments.book, console)
    page = arguments.book / "README.md"
    page.write_text(render(arguments.book, chapters))
    console.print(f"book: {page}", highlight=False, markup=False, soft_wrap=True)
    if failed:
        raise RunError(f"{len(failed)} failed: {'; '.join(failed)}; the chapters without them are as they were")


def write_chapter(chapter: Chapter, settings: Settings, book: Path, console: Console) -> dict[str, str]:
    """Write one chapter; return what failed, after which its files are as they were."""
    asked = replace(settings, envs=(chapter.env,), total_steps=chapter.total_steps, seeds=range(chapter.seeds),
                    overrides=chapter.overrides)  # fmt: skip
    pair = pair_of(chapter.sides, asked)
    console.rule(chapter.name)
    rows, failed = compete(pair, asked, console)
    console.print(duel_table(rows, asked))
    if failed:
        return failed
    for who, row in zip(pair, rows, strict=True):
        folders = [who.folder(asked.folder, run["seed"]) for run in row["runs"]]
        row["best_game"] = keep_best_game(folders, book / f"{chapter.name}__{who.label.replace(':', '-')}.jsonl")
    found = {"chapter": chapter.name, "rows": rows, **weigh(rows, console)}
    for run in (run for row in rows for run in row["runs"]):
        run["folder"] = Path(run["folder"]).name
    write_json(book / f"{chapter.name}.json", found)
    return {}


def keep_best_game(folders: Sequence[Path], path: Path) -> dict[str, Any]:
    """Write the best judged game of some runs, and those that its start depends on, to a replay file of its own."""
    best: tuple[EpisodeRecord, list[EpisodeRecord], Path] | None = None
    for folder in folders:
        weights = json.loads((folder / "evaluation.json").read_text())["weights_sha256"]
        games = load_replays(folder / "replays" / "eval.jsonl")
        for index, game in enumerate(games):
            if game.extras.get("weights_sha256") != weights:
                continue  # of another checkpoint
            if best is None or game.episode_return > best[0].episode_return:
                best = game, previous_episodes(games, index), folder
    assert best is not None  # each run was judged
    game, before, folder = best
    path.write_text("".join(record.to_json(**record.extras) + "\n" for record in (*before, game)))
    return {"score": game.episode_return, "length": game.length, "run": folder.name, "replay": path.name}


def render(book: Path, chapters: Sequence[Chapter] = CHAPTERS) -> str:
    """Return the book's page, from its JSON files."""
    parts = [HEAD]
    for chapter in chapters:
        path = book / f"{chapter.name}.json"
        if path.exists():
            parts.append(_section(chapter, json.loads(path.read_text())))
    return "\n".join(parts)


HEAD = """# The results book

Written by `python scripts/benchmark.py suite` from run folders; change nothing here by hand. Both sides of a duel play
the same environments under one protocol, for the same env steps, one after the other. Score: mean return of the last
100 training games of a run, IQM and mean over seeds with 95 % bootstrap intervals; evaluation: mean of 30 full games
after training; steps/s and memory: median over seeds, on shared cores. The settings of Stable-Baselines3's side are
rl-baselines3-zoo's for the game. The JSON file of a chapter has every run with its command, commit, seed and machine;
`python scripts/watch.py docs/results/book/REPLAY.jsonl` plays a best game again and makes a video of it.
"""
COLUMNS = ("side", "seeds", "IQM", "mean", "evaluation", "env steps", "seconds", "steps/s", "RAM, GB", "best game")


def _section(chapter: Chapter, found: dict[str, Any]) -> str:
    rows = found["rows"]
    lines = [f"## {chapter.name}: {rows[0]['env']}, {chapter.total_steps:,} env steps", ""]
    lines += [
        f"`python scripts/benchmark.py suite {chapter.name}`, protocol fingerprint `{rows[0]['fingerprints'][0]}`"
    ]
    lines += [_sources([run for row in rows for run in row["runs"]]), ""]
    lines += ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    spans = (("iqm", "interval"), ("mean", "mean_interval"))
    for row in rows:
        best = f"[{number(row['best_game']['score'])}]({row['best_game']['replay']})"
        cells = [f"`{row['label']}`", str(len(row["runs"]))]
        cells += [f"{number(row[name])} {interval(row[span])}" for name, span in spans]
        names = ("evaluation", "env_steps", "wall_seconds", "steps_per_second", "peak_memory_gb")
        lines.append("| " + " | ".join([*cells, *(number(row[name]) for name in names), best]) + " |")
    lines += ["", f"{found['words']}; {found['verdict']}.", *([chapter.remark] if chapter.remark else []), ""]
    return "\n".join(lines)


def _sources(runs: Sequence[dict[str, Any]]) -> str:
    """Return commits and machines of some runs, in words."""
    commits = dict.fromkeys(f"`{run['commit'][:7]}`{' (changed)' if run['dirty'] else ''}" for run in runs)
    machines = dict.fromkeys(f"{run['machine']['cores']} cores of {run['machine']['processor']}" for run in runs)
    threads = dict.fromkeys(str(run["machine_facts"]["threads"]) for run in runs)
    return f"(commit {', '.join(commits)}; {', '.join(machines)}; threads of a run: {', '.join(threads)})."


def add_options(command: argparse.ArgumentParser) -> None:
    """Add the options of the book."""
    command.add_argument("chapters", nargs="*", metavar="CHAPTER", help="of --list (default: all)")
    command.add_argument("--list", action="store_true", help="show the chapters, and stop")
    command.add_argument("--book", type=Path, default=BOOK, help="where it is written (default: docs/results/book)")

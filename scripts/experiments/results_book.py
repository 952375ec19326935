"""The results book: duels trained, evaluated and written by one command, from their run folders.

`benchmark.py suite` makes docs/results/book: for each chapter a JSON file with every number and the best evaluation
game of each side as an action replay, learning curves in curves/, and one README.md with all tables. Nothing in it is
typed by hand, and the same run folders give the same files again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from rich.console import Console
from tyro.conf import FlagCreatePairsOff, Positional, arg

from agents.errors import ConfigError, RunError
from agents.run.provenance import ROOT
from envs.action_replays import EpisodeRecord, load_replays, previous_episodes
from networks.files import write_atomically
from scripts.experiments.duel import compare_sides, duel_table, make_pair
from scripts.experiments.results import ContenderResult
from scripts.experiments.settings import JobOptions, Settings
from scripts.experiments.suite import compete
from scripts.report.run_data import LAST_GAMES, read_run
from scripts.report.statistics import running_mean
from scripts.report.tables import interval, number, print_line, wide_console
from scripts.runner.files import check_folder, write_json

BOOK = ROOT / "docs" / "results" / "book"
CURVE_POINTS = 60
"""Points of each learning curve."""


@dataclass(frozen=True, kw_only=True)
class Suite(JobOptions):
    """Train and write the results book, docs/results/book."""

    chapters: Annotated[
        Positional[tuple[str, ...]], arg(metavar="CHAPTER...", help_behavior_hint="(default: all)")
    ] = ()
    """Chapters, as --list names them."""
    list: Annotated[bool, FlagCreatePairsOff] = False
    """List the chapters, and stop."""
    book: Annotated[Path, arg(metavar="DIR", help_behavior_hint="(default: docs/results/book)")] = BOOK
    """Folder of the book."""

    def run(self, overrides: Sequence[str]) -> None:
        """Write the chapters, or list them."""
        if overrides:
            raise ConfigError("suite takes no options after a --: its chapters have their own")
        known = {chapter.name: chapter for chapter in CHAPTERS}
        unknown = [name for name in self.chapters if name not in known]
        if unknown:
            raise ConfigError(f"there is no chapter {', '.join(unknown)}; there are {', '.join(known)}")
        console = wide_console()
        if self.list:
            for chapter in CHAPTERS:
                print_line(console, chapter.describe())
            return
        check_folder(self.book, "--book")
        chapters = [known[name] for name in self.chapters or known]
        write_book({chapter: self._settings(chapter) for chapter in chapters}, self.book, console)

    def _settings(self, chapter: Chapter) -> Settings:
        seeds = range(chapter.seeds)
        return self.make_settings((chapter.env,), seeds, chapter.total_steps, overrides=chapter.overrides)


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

    def describe(self) -> str:
        """Return sides, game, budget and seeds in one line."""
        game = f"{' and '.join(self.sides)} on {self.env}"
        return f"{self.name}: {game}, {self.total_steps:,} steps, {self.seeds} seeds"


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


def write_book(chapters: Mapping[Chapter, Settings], book: Path, console: Console) -> None:
    """Train the missing runs of these chapters; write them and the book's page. Raises RunError where runs failed."""
    book.mkdir(parents=True, exist_ok=True)
    failed: dict[str, str] = {}
    for chapter, settings in chapters.items():
        failed |= write_chapter(chapter, settings, book, console)
    page = book / "README.md"
    write_atomically(page, render(book))
    print_line(console, f"book: {page}")
    if failed:
        raise RunError(f"{len(failed)} failed: {'; '.join(failed)}; their chapters were left as they were")


def write_chapter(chapter: Chapter, settings: Settings, book: Path, console: Console) -> dict[str, str]:
    """Write one chapter, unless one of its runs failed; return an error line for each failed run."""
    pair = make_pair(chapter.sides, settings)
    console.rule(chapter.name)
    results, failed = compete(pair, settings, console)
    console.print(duel_table(results, settings))
    if failed:
        return failed
    rows = []
    for result in results:
        path = book / f"{chapter.name}__{result.label.replace(':', '-')}.jsonl"
        row = asdict(result) | {"best_game": asdict(write_best_game(result.folders, path))}
        for run in row["runs"]:
            run["folder"] = Path(run["folder"]).name
        rows.append(row)
    comparison = compare_sides(results, console)
    write_json(book / f"{chapter.name}.json", {"chapter": chapter.name, "rows": rows, **asdict(comparison)})
    write_curves(chapter.name, results, book / "curves" / f"{chapter.name}.json")
    return {}


def write_curves(chapter: str, results: Sequence[ContenderResult], path: Path) -> None:
    """Write the learning curve of each run: mean return of the last LAST_GAMES training games over env steps."""
    curves = []
    for result in results:
        for outcome in result.runs:
            games = read_run(Path(outcome.folder)).games
            chosen = np.unique(np.linspace(0, len(games) - 1, min(len(games), CURVE_POINTS)).astype(int))
            scores = running_mean(games[:, 2], LAST_GAMES)[chosen]
            curves.append({
                "label": result.label, "seed": outcome.seed,
                "env_steps": [int(steps) for steps in games[chosen, 0]],
                "scores": [round(float(score), 4) for score in scores],
            })  # fmt: skip
    path.parent.mkdir(exist_ok=True)
    write_json(path, {"chapter": chapter, "games": LAST_GAMES, "curves": curves})


@dataclass(frozen=True)
class BestGame:
    """The best evaluation game of some runs, and its action replay."""

    score: float
    length: int
    run: str
    """Name of the run folder."""
    replay: str
    """File name in the book."""


def write_best_game(folders: Sequence[Path], path: Path) -> BestGame:
    """Write an action replay of the best evaluation game of some runs, with the earlier games that it starts from."""
    best: tuple[EpisodeRecord, list[EpisodeRecord], Path] | None = None
    for folder in folders:
        weights = json.loads((folder / "evaluation.json").read_text())["weights_sha256"]
        games = load_replays(folder / "replays" / "eval.jsonl")
        for index, game in enumerate(games):
            if game.extras.get("weights_sha256") != weights:
                continue  # played by another checkpoint
            if best is None or game.episode_return > best[0].episode_return:
                best = game, previous_episodes(games, index), folder
    assert best is not None  # each run was evaluated
    game, before, folder = best
    write_atomically(path, "".join(record.to_json(**record.extras) + "\n" for record in (*before, game)))
    return BestGame(game.episode_return, game.length, folder.name, path.name)


def render(book: Path) -> str:
    """Return the book's page, from its JSON files."""
    parts = [HEAD]
    for chapter in CHAPTERS:
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


def _section(chapter: Chapter, numbers: dict[str, Any]) -> str:
    """Return a chapter's section, from the content of its JSON file."""
    rows = numbers["rows"]
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
    lines += ["", f"{numbers['words']}; {numbers['verdict']}.", *([chapter.remark] if chapter.remark else []), ""]
    return "\n".join(lines)


def _sources(runs: Sequence[dict[str, Any]]) -> str:
    """Return commits, machines and threads of some runs, as a sentence."""
    commits = dict.fromkeys(f"`{run['commit'][:7]}`{' (changed)' if run['dirty'] else ''}" for run in runs)
    machines = dict.fromkeys(f"{run['machine']['cores']} cores of {run['machine']['processor']}" for run in runs)
    threads = dict.fromkeys(str(run["machine_facts"]["threads"]) for run in runs)
    return f"(commit {', '.join(commits)}; {', '.join(machines)}; threads of a run: {', '.join(threads)})."

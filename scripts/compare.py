"""Compare runs on one self-contained page: learning curves, intervals, videos, differences, commands.

Examples:
  compare.py runs/ONE runs/OTHER --out page.html
  compare.py runs/ONE runs/OTHER --picture curves.svg
  compare.py --duel ppo sb3-ppo --env CartPole-v1 --total-steps 100000 [-- --any-field V]
  compare.py --duel dqn dqn,double=false --env CartPole-v1 --total-steps 50k --seeds 10

A duel trains both sides first, each seed in its own folder; finished runs are not trained again. A side is an
algorithm, with a preset or settings of its own: ALGO[:PRESET][,NAME=VALUE...]. Options after the -- are train.py's,
for both sides.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tyro.conf import FlagCreatePairsOff, Positional, arg

from agents.errors import ConfigError
from scripts.command_line.errors import behind_dashes, run_main
from scripts.command_line.options import parse
from scripts.experiments.settings import TrainingOptions
from scripts.runner.files import check_folder


@dataclass(frozen=True, kw_only=True)
class Duel(TrainingOptions):
    """Options of a duel."""

    duel: Annotated[tuple[str, str] | None, arg(metavar="SIDE SIDE", help_behavior_hint="")] = None
    """Train two sides, ALGO[:PRESET][,NAME=VALUE...], and compare them."""
    env: Annotated[str | None, arg(metavar="ID", help_behavior_hint="(required)")] = None
    """Game."""
    total_steps: Annotated[int | None, arg(metavar="N", help_behavior_hint="(required)")] = None
    """Env steps of each run."""
    preset: Annotated[str | None, arg(metavar="P", help_behavior_hint="(default: the game family's)")] = None
    """Preset of sides without one of their own."""
    seeds: Annotated[int, arg(metavar="N")] = 5
    """Runs of each side."""
    json: Annotated[Path | None, arg(metavar="FILE.json", help_behavior_hint="")] = None
    """Write all numbers to this JSON file."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Options of the page."""

    runs: Annotated[Positional[tuple[Path, ...]], arg(metavar="RUN...", help_behavior_hint="")] = ()
    """Run folders, as made by scripts/train.py."""
    out: Annotated[Path, arg(metavar="PAGE.html")] = Path("report.html")
    """The page."""
    picture: Annotated[Path | None, arg(metavar="FILE", help_behavior_hint="")] = None
    """Write the learning curves alone, to an .svg or .png file, instead of the page."""
    title: Annotated[str | None, arg(metavar="TEXT", help_behavior_hint="")] = None
    """Heading of the page or picture."""
    allow_mixed: Annotated[bool, FlagCreatePairsOff] = False
    """Accept different games or protocols on one page or picture."""
    training: Duel = Duel()


def main() -> None:
    """Write the page or picture of some runs, or the page of a duel that is trained first."""
    words, overrides = behind_dashes(sys.argv[1:])
    options = parse(Compare, words, prog="compare.py", description=__doc__)
    check_folder(options.out.parent, "--out")
    if options.out.is_dir():
        raise ConfigError(f"{options.out} is a folder; --out names the page's file")
    if options.picture is not None and options.training.duel is not None:
        raise ConfigError("--picture draws run folders; give no --duel beside it")
    if options.training.duel is not None:
        train_duel(options, overrides)
        return
    if not options.runs:
        raise ConfigError("name run folders to compare, or two sides: --duel ppo sb3-ppo --env ID")
    if options.picture is not None:
        from scripts.report.picture import write_picture

        print(write_picture(options.runs, options.picture, title=options.title, allow_mixed=options.allow_mixed))
        return
    from scripts.report.page import write_report

    page = write_report(options.runs, options.out, title=options.title, allow_mixed=options.allow_mixed)
    print(f"{page}  ({page.stat().st_size / 1e6:.1f} MB, opens in any browser, offline too)")


def train_duel(options: Compare, overrides: list[str]) -> None:
    """Train two sides, and write their page."""
    training = options.training
    if options.runs:
        raise ConfigError("--duel trains runs of its own; give no run folders beside it")
    if training.env is None or training.duel is None:
        raise ConfigError("name a game: --env ID")
    if training.total_steps is None:
        raise ConfigError("say how long to train: --total-steps N")
    print(f"loading {' and '.join(training.duel)} ...", flush=True)
    from scripts.experiments.duel import duel

    settings = training.make_settings(
        (training.env,), training.seed_range, training.total_steps,
        preset=training.preset, overrides=overrides, out=training.json,
    )  # fmt: skip
    duel(training.duel, settings, options.out)


if __name__ == "__main__":
    run_main(main)

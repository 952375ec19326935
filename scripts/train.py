"""Train an agent, continue a run, or start a new run from the weights of another.

Examples:
  train.py ppo --env CartPole-v1
  train.py dqn --env ALE/Pong-v5 --double --n-step 3 --total-steps 2M
  train.py ppo --env ALE/Pong-v5 --preset fast --dry-run
  train.py --resume runs/RUN [--total-steps MORE]
  train.py --from runs/RUN --learning-rate 1e-4
  train.py dqn --env ALE/Pong-v5 --help      all settings, with the preset's values as defaults
  train.py --list [FAMILY]                   algorithms and game families; games and presets of a family
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tyro.conf import Positional, arg

from agents.run.tracking import TrackingSettings, TrackMode
from scripts.command_line import algorithms
from scripts.command_line.errors import UsageError, run_main
from scripts.command_line.options import asks_for_help, option_names, parse, value_of

if TYPE_CHECKING:
    from agents.config import TrainConfig


PROGRAM = "train.py"
SWITCHES = ("--videos", "--no-videos", "--dry-run", "--no-dry-run")
"""Options of the command that take no value."""


@dataclass(frozen=True)
class TrainOptions:
    """Options of the command itself."""

    algo: Annotated[Positional[str], arg(metavar="[ALGO]", help_behavior_hint="")] = ""
    """Algorithm to train with."""
    preset: Annotated[str | None, arg(metavar="NAME", help_behavior_hint="")] = None
    """Preset other than the game family's own, such as fast, zoo or tiny."""
    resume: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="")] = None
    """Continue a run from its last checkpoint; --total-steps extends it."""
    initial_run: Annotated[Path | None, arg(name="from", metavar="RUN", help_behavior_hint="")] = None
    """Start a new run from the weights of another; its settings are the defaults unless an algorithm is named."""
    run_dir: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="")] = None
    """Run folder (default: a new one in runs/)."""
    videos: bool = False
    """Record the agent before and after training."""
    dry_run: bool = False
    """Print the pre-flight and stop."""
    tracking: TrackingSettings = field(default_factory=TrackingSettings)


@dataclass(frozen=True)
class Overview(TrainOptions):
    """Options of `train.py --help` and `--list`, without those of an algorithm."""

    env: Annotated[str, arg(metavar="ID", help_behavior_hint="")] = ""
    """Environment id, such as ALE/Pong-v5, MinAtar/Breakout-v1 or CartPole-v1."""
    list: Annotated[tuple[str, ...] | None, arg(metavar="[FAMILY]", help_behavior_hint="")] = None
    """List algorithms and game families, or games and presets of a family."""


@dataclass(frozen=True)
class Resume:
    """Options of a resumed run."""

    resume: Annotated[Path, arg(metavar="RUN")] = Path()
    """Run folder."""
    total_steps: int | None = None
    """New budget in env steps, all steps of the run included; None keeps the run's own."""
    track: TrackMode | None = None
    """Weights & Biases: offline, online or disabled; None keeps the run's own."""


def main() -> None:
    """Parse the command line, then list, resume or train."""
    words = sys.argv[1:]
    names = option_names(words)
    algorithm = _algorithm(words)
    if "list" in names:
        _list(parse(Overview, words, prog=PROGRAM).list or ())
    elif "resume" in names:
        _resume(words, names)
    elif algorithm or "from" in names:
        _train(algorithm, words)
    elif asks_for_help(words):
        parse(Overview, words, prog=PROGRAM, description=f"{__doc__}\nAlgorithms:\n{algorithms.overview()}")
    else:
        raise UsageError("name an algorithm, or --resume a run; train.py --help lists algorithms")


def _algorithm(words: list[str]) -> str:
    """Return the algorithm: the first word, or else the first that names one and is no option's value."""
    if words and not words[0].startswith("-"):
        return words[0]
    named = (word for before, word in pairwise(words) if not before.startswith("--") or before in SWITCHES)
    return next((word for word in named if word in algorithms.ALGORITHMS), "")


def _list(families: tuple[str, ...]) -> None:
    if not families:
        algorithms.print_families()
    for family in families:
        algorithms.print_family(family)


def _resume(words: list[str], names: set[str]) -> None:
    extra = names - {"resume", "total-steps", "track", "help", "h"}
    if extra or not words[0].startswith("-"):
        given = f"--{min(extra)}" if extra else words[0]
        raise UsageError(f"--resume takes --total-steps and --track; all else is the run's, so leave out {given}")
    options = parse(Resume, words, prog=PROGRAM)
    print(f"loading {options.resume} ...", flush=True)
    from scripts.runner import training

    training.resume(options.resume, track=options.track, total_steps=options.total_steps)


def _train(algorithm: str, words: list[str]) -> None:
    """Parse all settings of the algorithm, with the preset's values as defaults, and train."""
    env_id = value_of("--env", words)
    if not asks_for_help(words):
        if algorithm and env_id is None:
            raise UsageError("name a game: --env ID (train.py --list shows some)")
        if not algorithm and value_of("--from", words) is None:
            raise UsageError("--from takes a run folder")
        print(f"loading {' for '.join(filter(None, (algorithm, env_id))) or value_of('--from', words)} ...", flush=True)
    from scripts.command_line.groups import parse_with_settings
    from scripts.runner import training

    algorithm, base = _base(algorithm, env_id, words)
    parsed = parse_with_settings(TrainOptions, base, words, prog=f"{PROGRAM} {algorithm}", owner=algorithm)
    parsed.config.validate()
    options = parsed.command
    training.start(
        algorithm, parsed.config, run_dir=options.run_dir, videos=options.videos, dry_run=options.dry_run,
        tracking=options.tracking, initial_run=options.initial_run,
    )  # fmt: skip


def _base(algorithm: str, env_id: str | None, words: list[str]) -> tuple[str, TrainConfig]:
    """Return the algorithm and its settings before the options: from the preset, or from the run after --from."""
    from scripts.runner.encoders import with_copied_encoders
    from scripts.runner.run_record import read_record
    from scripts.runner.saved_run import split_checkpoint
    from scripts.runner.settings import defaults

    if algorithm:
        return algorithm, defaults(
            algorithm, env_id or "CartPole-v1", value_of("--preset", words), value_of("--core", words)
        )
    folder, _ = split_checkpoint(Path(value_of("--from", words) or ""))
    record = read_record(folder)
    return record.algo, with_copied_encoders(record.config, folder)


if __name__ == "__main__":
    run_main(main)

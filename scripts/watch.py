"""Record or show an agent that plays, or a game that was recorded.

Examples:
  watch.py runs/RUN --episodes 3 --checkpoint best
  watch.py runs/RUN/replays/train.jsonl --episode best

A run's agent plays full games, which become colour videos of native size with the game's sound, the score and the
agent's value. An action replay (train.jsonl, eval.jsonl) is simulated again from its actions, checked by score and
frame hashes, and refused if it was changed.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tyro.conf import Positional, arg

from agents.settings import ChannelName
from scripts.command_line.errors import UsageError, run_main
from scripts.command_line.options import option_names, parse

PROGRAM = "watch.py"
OF_A_RUN = {"episodes", "seed", "checkpoint", "mission-channel", "interpreter", "say"}
OF_A_REPLAY = {"episode", "verify"}


@dataclass(frozen=True)
class RunOptions:
    """Options for a RUN."""

    episodes: Annotated[int, arg(metavar="N")] = 1
    """Games to record."""
    seed: Annotated[int, arg(metavar="S")] = 0
    """Seed of the first game."""
    checkpoint: Annotated[str, arg(metavar="NAME")] = "latest"
    """latest, best, or a checkpoint's name."""
    mission_channel: Annotated[ChannelName | None, arg(help_behavior_hint="(default: the run's own)")] = None
    """Form of missions."""
    interpreter: Annotated[Path | None, arg(metavar="RUN", help_behavior_hint="(default: the run's own)")] = None
    """Folder of a translation or speech-to-text task that turns missions into English."""
    say: Annotated[str | None, arg(metavar="TEXT|WAV", help_behavior_hint="")] = None
    """Mission in place of the game's own, as text or a recording."""


@dataclass(frozen=True)
class ReplayOptions:
    """Options for a REPLAY."""

    episode: Annotated[str, arg(metavar="K")] = "best"
    """Number of the game, best or last."""
    verify: bool = False
    """Check the game only, without a video."""


@dataclass(frozen=True)
class WatchOptions:
    """Options of the command."""

    source: Annotated[Positional[Path | None], arg(metavar="RUN|REPLAY", help_behavior_hint="(required)")] = None
    """Run folder, or a .jsonl file from its replays folder."""
    scale: Annotated[int, arg(metavar="X")] = 1
    """Factor by which the picture is enlarged."""
    out: Annotated[Path | None, arg(metavar="DIR", help_behavior_hint="(default: RUN/videos)")] = None
    """Folder of the videos."""
    live: bool = False
    """Show a window instead of writing videos."""
    run: RunOptions = RunOptions()
    replay: ReplayOptions = ReplayOptions()


def main() -> None:
    """Parse; play or simulate, and write videos."""
    words = sys.argv[1:]
    options = parse(WatchOptions, words, prog=PROGRAM, description=__doc__)
    if options.source is None:
        raise UsageError("name a run folder or an action replay: watch.py RUN|REPLAY")
    run, replay = options.run, options.replay
    if run.episodes < 1 or not 1 <= options.scale <= 12 or run.seed < 0:
        raise UsageError("--episodes must be at least 1, --scale 1 to 12, --seed not negative")
    print(f"loading {options.source} ...", flush=True)
    from scripts.runner import watching
    from scripts.runner.saved_run import is_run

    played = is_run(options.source)
    unused = option_names(words) & (OF_A_REPLAY if played else OF_A_RUN)
    if unused and options.source.exists():
        raise UsageError(f"--{min(unused)} is for {'action replays' if played else 'runs'}, not for {options.source}")
    if played:
        watching.watch_run(
            options.source, episodes=run.episodes, seed=run.seed, checkpoint=run.checkpoint, scale=options.scale,
            out=options.out, live=options.live, mission_channel=run.mission_channel, interpreter=run.interpreter,
            mission=run.say,
        )  # fmt: skip
    else:
        watching.watch_replay(
            options.source, episode=replay.episode, verify=replay.verify, scale=options.scale, out=options.out,
            live=options.live,
        )  # fmt: skip


if __name__ == "__main__":
    run_main(main)

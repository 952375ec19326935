"""Watch an agent play: `watch.py RUN [--episodes N] [--live]`, or a recorded game again: `watch.py REPLAY --episode K`.

RUN is a run folder; its agent plays full games that are written as native-size colour videos with the game's sound,
the score and the agent's value. REPLAY is a .jsonl file of action replays (RUN/replays/train.jsonl, eval.jsonl): the
game is simulated again from its actions, checked by score and frame hashes, and refused if it was tampered with.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.errors import ConfigError
from agents.settings import ChannelName
from scripts.command_line import errors
from scripts.command_line.errors import run_main
from scripts.runner import watching
from scripts.runner.saved_run import is_run


def main() -> None:
    """Parse, play or simulate, write videos."""
    parser = errors.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", type=Path, metavar="RUN|REPLAY")
    parser.add_argument("--episodes", type=int, default=1, metavar="N", help="games to record (default: 1)")
    parser.add_argument("--episode", default="best", metavar="K", help="of a REPLAY: a number, best or last")
    parser.add_argument("--seed", type=int, default=0, help="seed of the first game")
    parser.add_argument("--checkpoint", default="latest", help="latest, best, or a checkpoint's name")
    parser.add_argument("--scale", type=int, default=1, help="enlarge the picture this many times")
    parser.add_argument("--out", type=Path, help="folder for the videos (default: RUN/videos)")
    parser.add_argument("--live", action="store_true", help="show a window instead of writing videos")
    parser.add_argument("--verify", action="store_true", help="of a REPLAY: only check it")
    parser.add_argument("--mission-channel", choices=get_args(ChannelName), help="how missions are given")
    parser.add_argument("--interpreter", type=Path, metavar="RUN", help="translation or speech-to-text, makes English")
    parser.add_argument("--say", metavar="TEXT|WAV", help="a mission of yours, in the place of the game's")
    arguments = parser.parse_args()
    if arguments.episodes < 1 or not 1 <= arguments.scale <= 12 or arguments.seed < 0:
        raise ConfigError("--episodes must be at least 1, --scale 1 to 12, --seed not negative")
    if is_run(arguments.what):
        watching.watch_run(
            arguments.what, episodes=arguments.episodes, seed=arguments.seed, checkpoint=arguments.checkpoint,
            scale=arguments.scale, out=arguments.out, live=arguments.live, mission_channel=arguments.mission_channel,
            interpreter=arguments.interpreter, mission=arguments.say,
        )  # fmt: skip
    else:
        watching.watch_replay(
            arguments.what, episode=arguments.episode, verify=arguments.verify, scale=arguments.scale,
            out=arguments.out, live=arguments.live,
        )  # fmt: skip


if __name__ == "__main__":
    run_main(main)

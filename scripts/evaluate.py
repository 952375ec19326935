"""Judge a run's agent by the run's own protocol: `evaluate.py RUN [--episodes N] [--seed S] [--json]`.

Full games, raw scores. The last line is JSON, and with --json the only one.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import get_args

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.errors import ConfigError
from agents.settings import ChannelName
from scripts.command_line import errors, options
from scripts.command_line.errors import run_main
from scripts.runner import mission_channels
from scripts.runner.evaluation import judge, judging_seed, keep_games, summary
from scripts.runner.saved_run import load_run


def main() -> None:
    """Parse, load, judge, print."""
    parser = errors.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder")
    parser.add_argument("--episodes", type=int, default=30, metavar="N", help="full games to play (default: 30)")
    parser.add_argument("--seed", type=int, default=0, metavar="S", help="seed of the judged games (default: 0)")
    parser.add_argument("--checkpoint", default="latest", help="latest, best, or a checkpoint's name")
    parser.add_argument("--json", action="store_true", help="print nothing but the JSON line")
    parser.add_argument("--env-kwargs", nargs="+", default=[], metavar="NAME VALUE", help="judge in a changed game")
    parser.add_argument("--repair", metavar="R", help="what repairs failing sensors, as for train.py")
    parser.add_argument("--mission-channel", choices=get_args(ChannelName), help="how missions are given")
    parser.add_argument("--interpreter", type=Path, metavar="RUN", help="translation or speech-to-text, makes English")
    arguments = parser.parse_args()
    if arguments.episodes < 1 or arguments.seed < 0:
        raise ConfigError("--episodes must be at least 1 and --seed not negative")
    saved = load_run(arguments.run, arguments.checkpoint)
    if not arguments.json:
        print(f"{saved.folder.name}, {saved.checkpoint.name}: {arguments.episodes} games of {saved.config.env}")
    config = mission_channels.with_channel(saved.config, arguments.mission_channel, arguments.interpreter)
    asked = [*(["--env-kwargs", *arguments.env_kwargs] if arguments.env_kwargs else ()),
             *(["--repair", arguments.repair] if arguments.repair else ())]  # fmt: skip
    changed = options.parse(type(config), asked, prog="evaluate.py", default=replace(config, env_kwargs={}))
    config = replace(changed, env_kwargs={**config.env_kwargs, **changed.env_kwargs})
    result = judge(saved.agent, config, arguments.episodes, judging_seed(arguments.seed))
    keep_games(saved, "eval", result)
    if not arguments.json:
        mean, std, length = result.return_mean, result.return_std, result.length_mean
        print(f"return {mean:.2f} +- {std:.2f}, {length:.0f} steps a game")
    print(json.dumps({**summary(result, saved), "mission_channel": config.mission_channel}))


if __name__ == "__main__":
    run_main(main)

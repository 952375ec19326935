"""Train an agent: `train.py ALGO --env ID [--any-field V]`, or go on with one: `train.py --resume RUN`.

train.py ppo --env CartPole-v1            train.py --list
train.py dqn --env ALE/Pong-v5 --double --n-step 3 --total-steps 2000000
train.py ppo --env ALE/Pong-v5 --preset fast --dry-run
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.errors import ConfigError
from scripts.command_line import algorithms, errors, groups
from scripts.command_line.errors import run_main
from scripts.runner import training
from scripts.runner.training import TrackingSettings


def main() -> None:
    """Parse, build, train."""
    parser = errors.Parser(usage=__doc__, add_help=False, allow_abbrev=False)
    parser.add_argument("algorithm", nargs="?")
    parser.add_argument("--env")
    parser.add_argument("--preset", help="a preset other than the game family's own, such as fast or tiny")
    parser.add_argument("--resume", type=Path, metavar="RUN", help="continue a run exactly where it was last saved")
    parser.add_argument("--run-dir", type=Path, help="where the run folder is made (default: runs/)")
    parser.add_argument(
        "--track", choices=("offline", "online", "disabled"), help="Weights & Biases (default: offline)"
    )
    parser.add_argument("--project", default="joypad", help="on W&B (default: joypad)")
    parser.add_argument("--group", help="on W&B: runs that belong together (default: ALGO__ENV)")
    parser.add_argument(
        "--tags", nargs="+", default=[], metavar="T", help="on W&B, beside algorithm, game and protocol"
    )
    parser.add_argument("--videos", action="store_true", help="record the agent before and after training")
    parser.add_argument("--dry-run", action="store_true", help="print the pre-flight and stop")
    parser.add_argument("--list", action="store_true", help="list algorithms, presets and games")
    arguments, rest = parser.parse_known_args()
    if arguments.list:
        algorithms.print_families()
    elif arguments.resume is not None:
        given = {key for key, value in vars(arguments).items() if value != parser.get_default(key)}
        if given - {"resume", "track"} or rest:
            raise ConfigError("--resume takes its settings from the run; give no other option beside --track")
        training.resume(arguments.resume, arguments.track)
    elif arguments.algorithm is None:
        parser.print_help()
        raise ConfigError("name an algorithm, or --resume a run")
    elif arguments.env is None:
        raise ConfigError("name a game: --env ID (train.py --list shows some)")
    else:
        config = groups.train_settings(arguments.algorithm, arguments.env, arguments.preset, rest)
        tracking = TrackingSettings(
            arguments.track or "offline", arguments.project, arguments.group, tuple(arguments.tags)
        )
        training.start(
            arguments.algorithm, config, run_dir=arguments.run_dir, tracking=tracking, videos=arguments.videos,
            dry_run=arguments.dry_run,
        )  # fmt: skip


if __name__ == "__main__":
    run_main(main)

"""Put runs on one self-contained page: learning curves, intervals, videos, differences, commands.

python scripts/compare.py RUN... [--out report.html] [--title TEXT] [--allow-mixed]
python scripts/compare.py --duel ppo sb3-ppo --env CartPole-v1 --total-steps 100000 [--seeds 5] [-- --any-field V]

A duel trains both sides first, each seed in a folder of its own; what is trained already is not trained again.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.errors import ConfigError
from scripts.command_line import errors
from scripts.command_line.errors import run_main
from scripts.experiments import options as benchmark_options
from scripts.experiments.duel import duel
from scripts.report.page import write_report


def main() -> None:
    """Parse, write the page, say where it is; 2 for runs that cannot be compared, 1 for a failure on the way."""
    words, behind = errors.behind_dashes(sys.argv[1:])
    parser = errors.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="run folder, as made by scripts/train.py")
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the page (default: %(default)s)")
    parser.add_argument("--title", help="the page's heading")
    parser.add_argument("--allow-mixed", action="store_true", help="accept different games or protocols on one page")
    group = parser.add_argument_group("duel")
    group.add_argument(
        "--duel", nargs=2, metavar=("ALGO[:PRESET]", "ALGO[:PRESET]"), help="train two sides and compare"
    )
    group.add_argument("--env", metavar="ID", help="the game")
    group.add_argument("--json", type=Path, metavar="FILE.json", help="write all numbers to this JSON file")
    benchmark_options.trained(group, 30, seeds=5, out=False)
    arguments = parser.parse_args(words)
    if arguments.duel:
        if arguments.runs:
            raise ConfigError("--duel trains runs of its own; give no run folders beside it")
        if arguments.env is None:
            raise ConfigError("name a game: --env ID")
        arguments.env, page, arguments.out = [arguments.env], arguments.out, arguments.json
        duel(arguments.duel, benchmark_options.settings(arguments, behind), page)
        return
    if not arguments.runs:
        raise ConfigError("name run folders to compare, or two sides: --duel ppo sb3-ppo --env ID")
    page = write_report(arguments.runs, arguments.out, title=arguments.title, allow_mixed=arguments.allow_mixed)
    print(f"{page}  ({page.stat().st_size / 1e6:.1f} MB, opens in any browser, offline too)")


if __name__ == "__main__":
    run_main(main)

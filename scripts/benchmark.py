"""Measure throughput against the machine's own limit and against Stable-Baselines3, in one run.

benchmark.py speed                         PPO and DQN on Pong, 84x84, Nature CNN
benchmark.py speed --algorithm ppo --no-sb3 --seconds 10
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from rich.console import Console
from rich.table import Table

from agents import machine, provenance
from scripts import cli, common, speed


def main() -> None:
    """Parse, measure, print; with --out the raw numbers too."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed",))
    parser.add_argument("--algorithm", nargs="+", choices=("ppo", "dqn"), default=["ppo", "dqn"])
    parser.add_argument("--repeats", type=int, default=5, help="turns of each contender (default: 5)")
    parser.add_argument("--seconds", type=float, default=12.0, help="length of a turn (default: 12)")
    parser.add_argument("--no-sb3", action="store_true", help="leave Stable-Baselines3 out")
    parser.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    arguments = parser.parse_args()
    if arguments.repeats < 1 or arguments.seconds <= 0:
        raise common.ConfigError("--repeats must be at least 1 and --seconds above 0")
    if not arguments.no_sb3 and importlib.util.find_spec("stable_baselines3") is None:
        raise common.ConfigError("no Stable-Baselines3: pip install -c constraints.txt -e '.[sb3]', or --no-sb3")
    console, results = Console(highlight=False), []
    for algorithm in arguments.algorithm:
        result = speed.measure(algorithm, arguments.repeats, arguments.seconds, not arguments.no_sb3)
        results.append(result)
        table = Table("", "env steps/s (median)", "all turns", title=f"{algorithm} on {speed.GAME}", box=None)
        for name, value in result["medians"].items():
            table.add_row(name, f"{value:,.0f}", " ".join(f"{turn:,.0f}" for turn in result["rates"][name]))
        table.add_row("limit: emulator, then network", f"{result['limit']:,.0f}", "")
        console.print(table)
        shares = "  ".join(f"{name} {share:.0%}" for name, share in result["time_shares"].items())
        console.print(f"  {result['share_of_limit']:.0%} of the limit; time: {shares}")
        if "times_sb3" in result:
            console.print(f"  {result['times_sb3']:.2f} x Stable-Baselines3 (median of the turns' ratios)")
    if arguments.out is not None:
        facts = {"machine": machine.facts(), "versions": machine.versions(), **provenance.describe()}
        arguments.out.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    common.guarded(main)

"""The options of benchmark.py."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import get_args

from agents.errors import ConfigError
from agents.run.tracking import TrackMode
from scripts.command_line import errors
from scripts.experiments import memory_exam, results_book, robustness, sweep, throughput, training_jobs, update_cost


def parser(description: str | None) -> errors.Parser:
    """Return the parser; `what` is the command's name."""
    parser = errors.Parser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(
        dest="what", required=True, metavar="speed|cost|learn|ablate|exam|sweep|transfer|robustness|suite"
    )
    fast = commands.add_parser("speed", help="throughput against Stable-Baselines3 and the machine's own limit")
    fast.add_argument("--algorithm", nargs="+", choices=("ppo", "dqn"), default=["ppo", "dqn"])
    fast.add_argument("--no-sb3", action="store_true", help="leave Stable-Baselines3 out")
    _timed(fast, "contender", 12.0)
    costs = commands.add_parser("cost", help="time of an update of each agent, in turns, and of prioritized sampling")
    kinds = (*update_cost.REPLAY_BASED, *update_cost.WITH_ROLLOUTS)
    costs.add_argument("--algorithm", nargs="+", choices=kinds, default=list(update_cost.REPLAY_BASED), metavar="ALGO",
                       help=f"of {', '.join(kinds)}; the others are compared with the first")  # fmt: skip
    costs.add_argument("--env", default=throughput.GAME, metavar="ID", help=f"the game (default: {throughput.GAME})")
    costs.add_argument("--batch-size", type=int, metavar="B", help="of agents without a memory (default: their own)")
    _timed(costs, "agent", 3.0)
    learn = commands.add_parser("learn", help="train algorithms on games, several seeds of each, and judge them")
    learn.add_argument("algorithms", nargs="+", metavar="ALGO", help="as train.py has them")
    ablate = commands.add_parser("ablate", help="train an algorithm as it is, and with one component off at a time")
    ablate.add_argument("algorithm", metavar="ALGO")
    ablate.add_argument("--list", action="store_true", help="show what would be switched off, and stop")
    for command in (learn, ablate):
        command.add_argument("--env", nargs="+", required=True, metavar="ID")
        trained(command, 30)
    sit = commands.add_parser("exam", help="train algorithms on tasks of memory, and find how far back they remember")
    sit.add_argument("algorithms", nargs="+", metavar="ALGO", help="as train.py has them")
    tasks = [*memory_exam.TASKS]
    sit.add_argument("--tasks", nargs="+", choices=tasks, default=tasks[:3], metavar="T",
                     help=f"of {', '.join(tasks)} (default: all but the last, which takes hours)")  # fmt: skip
    sit.add_argument("--horizons", nargs="+", type=int, default=list(memory_exam.HORIZONS), metavar="H",
                     help=f"steps to remember over (default: {' '.join(map(str, memory_exam.HORIZONS))})")  # fmt: skip
    trained(sit, 100)
    search = commands.add_parser("sweep", help="search settings by a W&B sweep file, here, without an account")
    sweep.add_options(search)
    trained(search, 30, seeds=1)
    moved = commands.add_parser("transfer", help="train agents with and without trained encoders, and compare steps")
    moved.add_argument("file", type=Path, metavar="FILE", help="who takes part, as in scripts/transfers/")
    trained(moved, 100)
    broken = commands.add_parser("robustness", help="judge trained agents while their sensors fail, and are repaired")
    robustness.add_options(broken)
    chapters = commands.add_parser("suite", help="train and write the results book, docs/results/book")
    results_book.add_options(chapters)
    trained(chapters, 30)
    return parser


def _timed(command: argparse.ArgumentParser, whose: str, seconds: float) -> None:
    """Add the options of what is measured in turns."""
    command.add_argument("--repeats", type=int, default=5, help=f"turns of each {whose} (default: 5)")
    command.add_argument("--seconds", type=float, default=seconds, help=f"length of a turn (default: {seconds:g})")
    command.add_argument("--out", type=Path, metavar="FILE.json", help="write all numbers to this JSON file")


def trained(command: argparse._ActionsContainer, games: int, seeds: int = 3, out: bool = True) -> None:
    """Add the options of what is trained."""
    command.add_argument("--seeds", type=int, default=seeds, metavar="N", help=f"runs of each (default: {seeds})")
    command.add_argument("--first-seed", type=int, default=0, metavar="S")
    command.add_argument("--total-steps", type=int, metavar="N", help="env steps of each run")
    command.add_argument("--preset", metavar="P", help="as for train.py")
    command.add_argument("--jobs", type=int, default=1, metavar="J", help="runs side by side (default: 1)")
    command.add_argument("--threads", type=int, metavar="T", help="of each run (default: 1 with several jobs)")
    command.add_argument(
        "--dir", type=Path, default=training_jobs.BENCH, help="where the run folders are (default: runs/bench)"
    )
    command.add_argument("--track", choices=get_args(TrackMode), default="disabled",
                         help="Weights & Biases, as for train.py (default: disabled)")  # fmt: skip
    command.add_argument("--group", help="on W&B: the runs' group (default: ALGO__ENV)")
    command.add_argument("--eval-episodes", type=int, default=games, metavar="N",
                         help=f"games to judge a run by (default: {games})")  # fmt: skip
    if out:
        command.add_argument("--out", type=Path, metavar="FILE.json", help="write all numbers to this JSON file")


def settings(arguments: argparse.Namespace, overrides: list[str]) -> training_jobs.Settings:
    """Return what was asked for; raise ConfigError where that is impossible."""
    listing = getattr(arguments, "list", False)
    if arguments.total_steps is None and not listing:
        raise ConfigError("say how long to train: --total-steps N")
    threads = arguments.threads if arguments.threads is not None else int(arguments.jobs > 1)
    return training_jobs.Settings(
        envs=tuple(arguments.env), seeds=range(arguments.first_seed, arguments.first_seed + arguments.seeds),
        total_steps=1 if arguments.total_steps is None else arguments.total_steps, preset=arguments.preset,
        overrides=tuple(overrides), parallel=arguments.jobs, threads=threads, folder=arguments.dir,
        episodes=arguments.eval_episodes, out=arguments.out, track=arguments.track, group=arguments.group,
    )  # fmt: skip

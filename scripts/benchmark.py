"""How fast, how well, and what each part of an algorithm is worth.

benchmark.py speed                         PPO and DQN on Pong, 84x84, Nature CNN, against Stable-Baselines3
benchmark.py speed --algorithm ppo --no-sb3 --seconds 10
benchmark.py cost                          what an update of each agent costs, and prioritized sampling
benchmark.py cost --algorithm dqn rainbow -- --head-hidden 256        (what stands behind the -- is not for the first)
benchmark.py cost --algorithm ppo ppo -- --core lstm                  (what a memory costs)
benchmark.py learn dqn ppo sb3-dqn --env CartPole-v1 --total-steps 50000 [-- --any-field V]
benchmark.py ablate dqn --env MinAtar/Breakout-v1 --seeds 5 --total-steps 1000000 -- --dueling --n-step 3
benchmark.py exam ppo r2d2 --total-steps 200000 [--horizons 2 4 8 16] -- --core gru   (how far back they remember)

`learn`, `ablate` and `exam` train every contender on every game with every seed, each in a folder of its own. What is
trained already is not trained again, so they can be stopped and repeated. What stands behind the -- goes to train.py.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts import ablation, baseline, cli, common, cost, exam, jobs, speed, suite


def main() -> None:
    """Parse; then measure, or train and judge."""
    parser = cli.Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="what", required=True, metavar="speed|cost|learn|ablate|exam")
    fast = commands.add_parser("speed", help="throughput against Stable-Baselines3 and the machine's own limit")
    fast.add_argument("--algorithm", nargs="+", choices=("ppo", "dqn"), default=["ppo", "dqn"])
    fast.add_argument("--repeats", type=int, default=5, help="turns of each contender (default: 5)")
    fast.add_argument("--seconds", type=float, default=12.0, help="length of a turn (default: 12)")
    fast.add_argument("--no-sb3", action="store_true", help="leave Stable-Baselines3 out")
    fast.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    costs = commands.add_parser("cost", help="time of an update of each agent, in turns, and of prioritized sampling")
    kinds = (*cost.REPLAY_BASED, *cost.WITH_ROLLOUTS)
    costs.add_argument("--algorithm", nargs="+", choices=kinds, default=list(cost.REPLAY_BASED), metavar="ALGO",
                       help=f"of {', '.join(kinds)}; the others are compared with the first")  # fmt: skip
    costs.add_argument("--env", default=speed.GAME, metavar="ID", help=f"an Atari game (default: {speed.GAME})")
    costs.add_argument("--batch-size", type=int, metavar="B", help="of agents without a memory (default: their own)")
    costs.add_argument("--repeats", type=int, default=5, help="turns of each agent (default: 5)")
    costs.add_argument("--seconds", type=float, default=3.0, help="length of a turn (default: 3)")
    costs.add_argument("--out", type=Path, help="write all numbers to this JSON file")
    learn = commands.add_parser("learn", help="train algorithms on games, several seeds of each, and judge them")
    learn.add_argument(
        "algorithms", nargs="+", metavar="ALGO", help=f"as train.py has them, {', '.join(baseline.DEFAULTS)}"
    )
    ablate = commands.add_parser("ablate", help="train an algorithm as it is, and with one component off at a time")
    ablate.add_argument("algorithm", metavar="ALGO")
    ablate.add_argument("--list", action="store_true", help="show what would be switched off, and stop")
    sit = commands.add_parser("exam", help="train algorithms on tasks of memory, and find how far back they remember")
    sit.add_argument("algorithms", nargs="+", metavar="ALGO", help="as train.py has them")
    sit.add_argument("--tasks", nargs="+", choices=exam.TASKS, default=list(exam.TASKS)[:3], metavar="T",
                     help=f"of {', '.join(exam.TASKS)} (default: all but the last, which takes hours)")  # fmt: skip
    sit.add_argument("--horizons", nargs="+", type=int, default=list(exam.HORIZONS), metavar="H",
                     help=f"steps to remember over (default: {' '.join(map(str, exam.HORIZONS))})")  # fmt: skip
    for command in (learn, ablate):
        command.add_argument("--env", nargs="+", required=True, metavar="ID")
    for command in (learn, ablate, sit):
        command.add_argument("--seeds", type=int, default=3, metavar="N", help="runs of each (default: 3)")
        command.add_argument("--first-seed", type=int, default=0, metavar="S")
        command.add_argument("--total-steps", type=int, metavar="N", help="env steps of each run")
        command.add_argument("--preset", metavar="P", help="as for train.py")
        command.add_argument("--jobs", type=int, default=1, metavar="J", help="runs side by side (default: 1)")
        command.add_argument("--threads", type=int, metavar="T", help="of each run (default: 1 with several jobs)")
        command.add_argument(
            "--dir", type=Path, default=jobs.BENCH, help="where the run folders are (default: runs/bench)"
        )
        command.add_argument("--eval-episodes", type=int, default=30, metavar="N", help="games to judge a run by")
        command.add_argument("--out", type=Path, metavar="FILE.json", help="write all numbers to this JSON file")
    words = sys.argv[1:]
    split = words.index("--") if "--" in words else len(words)
    arguments = parser.parse_args(words[:split])
    if arguments.what in ("speed", "cost"):
        if words[split:] and arguments.what == "speed":
            raise common.ConfigError("nothing stands behind a -- of speed")
        if arguments.repeats < 1 or arguments.seconds <= 0:
            raise common.ConfigError("--repeats must be at least 1 and --seconds above 0")
        speed.compare(arguments) if arguments.what == "speed" else cost.compare(arguments, words[split + 1 :])
    elif arguments.what == "learn":
        suite.learn(arguments.algorithms, settings(arguments, words[split + 1 :]))
    elif arguments.what == "exam":
        arguments.env = [exam.TASKS[name].env for name in arguments.tasks]
        chosen = settings(arguments, words[split + 1 :])
        exam.exam(arguments.algorithms, arguments.tasks, arguments.horizons, chosen)
    else:
        ablation.ablate(arguments.algorithm, settings(arguments, words[split + 1 :]), arguments.list)


def settings(arguments: argparse.Namespace, overrides: list[str]) -> jobs.Settings:
    """Return what was asked for; raise ConfigError where that is impossible."""
    listing = getattr(arguments, "list", False)
    if arguments.total_steps is None and not listing:
        raise common.ConfigError("say how long to train: --total-steps N")
    threads = arguments.threads if arguments.threads is not None else int(arguments.jobs > 1)
    return jobs.Settings(
        envs=tuple(arguments.env), seeds=range(arguments.first_seed, arguments.first_seed + arguments.seeds),
        total_steps=1 if arguments.total_steps is None else arguments.total_steps, preset=arguments.preset,
        overrides=tuple(overrides), parallel=arguments.jobs, threads=threads, folder=arguments.dir,
        episodes=arguments.eval_episodes, out=arguments.out,
    )  # fmt: skip


if __name__ == "__main__":
    common.guarded(main)

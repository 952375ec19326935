"""How fast, how well, and what each part of an algorithm is worth.

benchmark.py speed                         PPO and DQN on Pong, 84x84, Nature CNN, against Stable-Baselines3
benchmark.py speed --algorithm ppo --no-sb3 --seconds 10
benchmark.py cost                          what an update of each agent costs, and prioritized sampling
benchmark.py cost --algorithm dqn rainbow -- --head-hidden 256        (what stands behind the -- is not for the first)
benchmark.py cost --algorithm ppo ppo -- --core lstm                  (what a memory costs)
benchmark.py learn dqn ppo sb3-dqn --env CartPole-v1 --total-steps 50000 [-- --any-field V]
benchmark.py ablate dqn --env MinAtar/Breakout-v1 --seeds 5 --total-steps 1000000 -- --dueling --n-step 3
benchmark.py exam ppo r2d2 --total-steps 200000 [--horizons 2 4 8 16] -- --core gru   (how far back they remember)
benchmark.py sweep scripts/sweeps/ppo-cartpole.yaml --count 8             (a W&B sweep file, followed here)
benchmark.py transfer scripts/transfers/pong.yaml                     (what trained encoders save an agent)
benchmark.py robustness runs/RUN --damage drop --levels 0 0.2 0.5 --repair zero last knn
benchmark.py suite --threads 1                                        (the results book: docs/results/book)

All but the first two train every contender on every game with every seed, each in a folder of its own. What is
trained already is not trained again, so they can be stopped and repeated. What stands behind the -- goes to train.py.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.errors import ConfigError
from scripts.command_line import errors
from scripts.command_line.errors import run_main
from scripts.experiments import (
    ablation,
    memory_exam,
    results_book,
    robustness,
    suite,
    sweep,
    throughput,
    transfer,
    update_cost,
)
from scripts.experiments import options as benchmark_options


def main() -> None:
    """Parse; then measure, or train and judge."""
    words, behind = errors.behind_dashes(sys.argv[1:])
    arguments = benchmark_options.parser(__doc__).parse_args(words)
    if arguments.what == "robustness":
        robustness.robustness(arguments)
        return
    if arguments.what in ("speed", "cost"):
        if "--" in sys.argv and arguments.what == "speed":
            raise ConfigError("nothing stands behind a -- of speed")
        if arguments.repeats < 1 or arguments.seconds <= 0:
            raise ConfigError("--repeats must be at least 1 and --seconds above 0")
        throughput.compare(arguments) if arguments.what == "speed" else update_cost.compare(arguments, behind)
        return
    if arguments.what == "exam":
        arguments.env = [memory_exam.TASKS[name].env for name in arguments.tasks]
    if arguments.what == "transfer":
        arguments.env, arguments.total_steps = [arguments.what], arguments.total_steps or 1
    if arguments.what in ("sweep", "suite"):
        if arguments.total_steps is not None or arguments.preset is not None:
            raise ConfigError(f"--total-steps and --preset of a {arguments.what} stand in its own file")
        arguments.env, arguments.total_steps = [arguments.what], 1
    settings = benchmark_options.settings(arguments, behind)
    suites: dict[str, Callable[[], None]] = {
        "learn": lambda: suite.learn(arguments.algorithms, settings),
        "ablate": lambda: ablation.ablate(arguments.algorithm, settings, arguments.list),
        "sweep": lambda: sweep.sweep(arguments.file, arguments.count, settings, behind),
        "transfer": lambda: transfer.transfer(arguments.file, settings, behind),
        "suite": lambda: results_book.write_book(arguments, settings),
        "exam": lambda: memory_exam.memory_exam(arguments.algorithms, arguments.tasks, arguments.horizons, settings),
    }
    suites[arguments.what]()


if __name__ == "__main__":
    run_main(main)

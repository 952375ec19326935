"""Measure speed, compare algorithms, and ablate their components.

benchmark.py speed                         throughput on Pong (84x84, Nature CNN), against Stable-Baselines3
benchmark.py cost                          time of an update of each agent, and of prioritized sampling
benchmark.py startup                       seconds until each command prints its --help
benchmark.py learn dqn ppo sb3-dqn --env CartPole-v1 --total-steps 50000
benchmark.py ablate dqn --env MinAtar/Breakout-v1 --seeds 5 --total-steps 1000000 -- --dueling --n-step 3
benchmark.py exam ppo r2d2 --total-steps 200000 -- --core gru              over how many steps they remember
benchmark.py sweep scripts/sweeps/ppo-cartpole.yaml --count 8              a W&B sweep file, without an account
benchmark.py transfer scripts/transfers/pong.yaml                          env steps saved by pretrained encoders
benchmark.py robustness runs/RUN --damage drop --levels 0 0.2 0.5 --repair zero last knn
benchmark.py suite --threads 1                                             the results book, docs/results/book
benchmark.py results                                                       docs/results/README.md, from its JSON files

Options after the -- are train.py's, for every run (of cost: for all algorithms but the first). Every contender is
trained on every game with every seed, each run in its own folder. Finished runs are not trained again, and interrupted
ones are resumed, so any of these can be stopped and repeated.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripts.command_line.errors import UsageError, behind_dashes, run_main
from scripts.command_line.options import parse

EXPERIMENTS = {
    "speed": ("throughput", "Speed"),
    "cost": ("update_cost", "Cost"),
    "startup": ("startup", "Startup"),
    "learn": ("suite", "Learn"),
    "ablate": ("ablation", "Ablate"),
    "exam": ("memory_exam", "Exam"),
    "sweep": ("sweep", "Sweep"),
    "transfer": ("transfer", "Transfer"),
    "robustness": ("robustness", "Robustness"),
    "suite": ("results_book", "Suite"),
    "results": ("results_page", "ResultsPage"),
}
"""Name -> module in scripts/experiments, imported only when named, and the dataclass of its options."""


def main() -> None:
    """Run the named experiment."""
    words, overrides = behind_dashes(sys.argv[1:])
    if not words:
        raise UsageError(f"name an experiment: {', '.join(EXPERIMENTS)}; see --help")
    name, *options = words
    if name in ("-h", "--help"):
        print(f"{__doc__}\n`benchmark.py NAME --help` shows the options of an experiment.")
        return
    if name not in EXPERIMENTS:
        close = difflib.get_close_matches(name, EXPERIMENTS, 1)
        hint = f"did you mean {close[0]}?" if close else f"there are {', '.join(EXPERIMENTS)}"
        raise UsageError(f"unknown experiment '{name}'; {hint}")
    module, kind = EXPERIMENTS[name]
    experiment = getattr(importlib.import_module(f"scripts.experiments.{module}"), kind)
    parse(experiment, options, prog=f"benchmark.py {name}", description=inspect.getdoc(experiment) or "").run(overrides)


if __name__ == "__main__":
    run_main(main)

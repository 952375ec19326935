"""Train a module on a supervised task, and save it as an encoder that agents can reuse.

pretrain.py digits                        pretrain.py --list
pretrain.py atari-ram --env ALE/Breakout-v5 --examples 20000
pretrain.py mission-slots --arch bigru-attention --epochs 30 --schedule onecycle
pretrain.py evaluate runs/RUN             the test again, from the saved folder
pretrain.py probe runs/RUN --task atari-ram      how much of another task its frozen features tell
pretrain.py compare runs/RUN runs/OTHER   one table
pretrain.py ensemble runs/RUN runs/OTHER  their vote, beside each of them
pretrain.py simplify runs/RUN --prune 0.5 0.9 --quantize [--epochs 2] [--run-dir runs/SMALL]
pretrain.py record runs/RUN --data voices     what to say to a speech-to-text run; then what it hears of it
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.errors import ConfigError
from scripts.command_line import errors
from scripts.command_line.errors import run_main
from scripts.supervised import human_speech, saved_encoders, train_task
from scripts.supervised.tasks import registry

COMMANDS = {
    "evaluate": saved_encoders.evaluate, "probe": saved_encoders.probe, "compare": saved_encoders.compare,
    "ensemble": saved_encoders.ensemble, "simplify": saved_encoders.simplify, "record": human_speech.record,
}  # fmt: skip
"""What can be done with saved runs."""


def main() -> None:
    """Parse; then train, evaluate, probe or compare."""
    parser = errors.Parser(usage=__doc__, add_help=False, allow_abbrev=False)
    parser.add_argument("what", nargs="?", metavar="TASK|COMMAND")
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN")
    parser.add_argument("--list", action="store_true", help="list tasks and architectures")
    parser.add_argument("--task", help="what to probe for (default: the run's own)")
    parser.add_argument("--arch", help="the encoder's architecture")
    parser.add_argument("--from", dest="start", type=Path, metavar="RUN", help="begin with the encoder of another run")
    parser.add_argument("--env", metavar="ID", help="the game, for tasks on games")
    parser.add_argument("--image-size", type=int, metavar="N", help="side of an Atari game's frames (84)")
    parser.add_argument("--data", type=Path, metavar="PATH", help="data on disk, for tasks that read some")
    parser.add_argument(
        "--repair",
        metavar="R",
        help="what is put for missing numbers, or filters noise: zero, last, "
        "mean, median, knn, iterative; median, gaussian, wiener, spectral-gate",
    )
    parser.add_argument("--examples", type=int, metavar="N", help="how many to make")
    parser.add_argument("--augment", nargs="*", metavar="A", help="shift, cutout, noise, words, specaug; none for none")
    parser.add_argument("--run-dir", type=Path, help="where the folder is made (default: runs/)")
    parser.add_argument("--distill", type=Path, metavar="RUN", help="learn from another run's chances too")
    parser.add_argument(
        "--prune", type=float, nargs="+", metavar="P", help="simplify: shares of the weights to leave out"
    )
    parser.add_argument("--quantize", action="store_true", help="simplify: weights in eight bits as well")
    parser.add_argument("--lr-find", action="store_true", help="look for a good learning rate first, and take it")
    parser.add_argument("--untrained", action="store_true", help="save it as it is drawn: the control of a transfer")
    parser.add_argument("--no-baselines", action="store_true", help="leave the baselines out")
    arguments, rest = parser.parse_known_args()
    if arguments.list:
        train_task.print_list()
    elif arguments.what in COMMANDS:
        learn_on = errors.Parser(add_help=False, allow_abbrev=False)
        learn_on.add_argument("--epochs", type=int, default=0)
        given, rest = learn_on.parse_known_args(rest)
        if rest or (given.epochs and arguments.what != "simplify"):
            raise ConfigError(f"{arguments.what} has no option {rest[0] if rest else '--epochs'}")
        arguments.epochs = given.epochs
        COMMANDS[arguments.what](arguments)
    elif arguments.what is None:
        parser.print_help()
        raise ConfigError(f"name a task: {', '.join(registry.TASKS)}")
    else:
        train_task.train(arguments, rest)


if __name__ == "__main__":
    run_main(main)

"""Pretrain encoders on supervised tasks, and evaluate, probe, ensemble and compress saved ones.

pretrain.py digits                        pretrain.py --list
pretrain.py atari-ram --env ALE/Breakout-v5 --examples 20000
pretrain.py mission-slots --arch bigru-attention --epochs 30 --schedule onecycle
pretrain.py evaluate runs/RUN             evaluate on newly collected examples
pretrain.py probe runs/RUN --task atari-ram      train heads of another task on frozen features
pretrain.py compare runs/RUN runs/OTHER   one table
pretrain.py ensemble runs/RUN runs/OTHER  soft voting, beside each member
pretrain.py simplify runs/RUN --prune 0.5 0.9 --quantize [--epochs 2] [--run-dir runs/SMALL]
pretrain.py record runs/RUN --data voices     evaluate a speech-to-text run on human speech

pretrain.py TASK --help and pretrain.py COMMAND --help list the options.
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from agents.errors import ConfigError
from scripts.command_line.errors import run_main
from scripts.command_line.options import parse
from scripts.supervised.tasks.registry import TASKS, make_task

COMMANDS = {
    **dict.fromkeys(("evaluate", "probe", "compare", "ensemble", "simplify"), "saved_encoders"),
    "record": "human_speech",
}
"""Command -> module in scripts/supervised with the function of its name; imported when it is used."""


def main() -> None:
    """Parse the command line; then train a task, or run a command on saved encoders."""
    argv = sys.argv[1:]
    name = argv[0] if argv else ""
    prog = f"{Path(sys.argv[0]).name} {name}"
    if name == "--list":
        from scripts.supervised.tables import print_list

        print_list()
    elif name in ("-h", "--help"):
        print(__doc__)
    elif not name or name.startswith("-"):
        raise ConfigError(f"name a task: {', '.join(TASKS)}; see --help")
    elif name in COMMANDS:
        from scripts.supervised import options

        kind = getattr(options, f"{name.title()}Options")
        command = getattr(importlib.import_module(f"scripts.supervised.{COMMANDS[name]}"), name)
        command(parse(kind, argv[1:], prog=prog, description=kind.__doc__ or ""))
    else:
        from scripts.supervised import options
        from scripts.supervised.train_task import train

        task = make_task(name)
        defaults = options.TrainOptions(fit=task.config)
        train(task, parse(options.TrainOptions, argv[1:], prog=prog, default=defaults, description=task.summary))


if __name__ == "__main__":
    run_main(main)

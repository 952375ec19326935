"""The `joypad` command: `joypad train ...` is `python scripts/train.py ...`."""

from __future__ import annotations

import importlib
import sys

from agents.setting_names import closest
from scripts.command_line.errors import UsageError, run_main

COMMANDS = {
    "train": "train an agent, continue a run, or start from the weights of another",
    "evaluate": "play full games with a run's agent and report its score",
    "watch": "record or show an agent, or a game that was recorded",
    "compare": "make one page from runs: curves, intervals, differences, videos; or duel two algorithms",
    "pretrain": "fit a supervised module that agents reuse as an encoder",
    "benchmark": "measure speed, or train and compare many runs",
    "doctor": "check each installed game family and library",
}
"""Name -> summary; the help imports no command."""


def main() -> None:
    """Run the named command's `main` with the remaining arguments."""
    run_main(_dispatch)


def _dispatch() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name in ("-h", "--help"):
        print("usage: joypad COMMAND ...\n")
        for command, line in COMMANDS.items():
            print(f"  {command:<10} {line}")
        print("\njoypad COMMAND --help shows its options")
    elif name in COMMANDS:
        sys.argv[:2] = [f"joypad {name}"]
        importlib.import_module(f"scripts.{name}").main()
    elif name:
        raise UsageError(f"joypad has no command '{name}'{closest(name, COMMANDS) or '; see joypad --help'}")
    else:
        raise UsageError(f"joypad takes a command: {', '.join(COMMANDS)}")

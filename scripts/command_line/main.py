"""The `joypad` command: `joypad train ...` runs `scripts/train.py ...`."""

from __future__ import annotations

import importlib
import sys

from scripts.command_line.errors import UsageError, run_main

COMMANDS = ("train", "evaluate", "watch", "compare", "pretrain", "benchmark", "doctor")


def main() -> None:
    """Run the named command's `main` with the remaining arguments."""
    run_main(_dispatch)


def _dispatch() -> None:
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        raise UsageError(f"joypad takes a command: {', '.join(COMMANDS)}")
    sys.argv[:2] = [f"joypad {name}"]
    importlib.import_module(f"scripts.{name}").main()

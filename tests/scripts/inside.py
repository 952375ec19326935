"""Run the scripts' `main` in this process: what a user sees, without seconds of imports for each call."""

from __future__ import annotations

import contextlib
import importlib
import io
import sys
from typing import NamedTuple
from unittest import mock

import torch

from agents.run import preflight
from scripts.command_line.errors import run_main

QUIET = ("--preset", "tiny", "--track", "disabled")
"""Options of train.py for a training of a second, without W&B."""


class Done(NamedTuple):
    """How a script ended."""

    code: int
    out: str
    err: str


class Ended:
    """A process that is over."""

    def __init__(self, returncode: int):
        self.returncode = returncode

    def poll(self) -> int:
        return self.returncode


def call(name: str, *arguments: object) -> Done:
    """Run scripts/NAME.py to its end, with a pre-flight that hardly measures; threads and arguments are put back."""
    out, err, threads = io.StringIO(), io.StringIO(), torch.get_num_threads()
    main = importlib.import_module(f"scripts.{name}").main
    code = 0
    with contextlib.ExitStack() as stack:
        stack.enter_context(mock.patch.object(sys, "argv", [f"{name}.py", *(str(part) for part in arguments)]))
        stack.enter_context(mock.patch.multiple(preflight, ROW_SECONDS=0.0, LEARN_SECONDS=0.0))
        stack.enter_context(mock.patch.dict("os.environ", COLUMNS="200"))
        stack.enter_context(contextlib.redirect_stdout(out))
        stack.enter_context(contextlib.redirect_stderr(err))
        try:
            run_main(main)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 1
        finally:
            torch.set_num_threads(threads)
    return Done(code, out.getvalue(), err.getvalue())


def assert_one_line(done: Done, code: int, *fragments: str) -> None:
    """Fail unless the script ended with `code` and one line of error that holds every fragment."""
    assert done.code == code, done
    lines = done.err.splitlines()
    assert len(lines) == 1, done.err
    assert lines[0].startswith("error: ")
    for fragment in fragments:
        assert fragment in lines[0], (fragment, lines[0])

"""How every script speaks to a person: options and failures in one line, exit code 2 for bad input."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Callable
from typing import NoReturn

from safetensors import SafetensorError

from agents.errors import RunError
from envs.errors import RecordingError

USER_ERRORS = (ValueError, SafetensorError, FileNotFoundError)
"""Bad input: a ConfigError, EnvError, CheckpointError, ReplayError or UsageError is a ValueError."""
RUN_ERRORS = (RunError, RecordingError)
"""Failures on the way."""


class UsageError(ValueError):
    """A command line that cannot be followed, in one line."""


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose complaints are one line like all others."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError."""
        raise UsageError(f"{message}; see --help")


def behind_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """Split a command line at its `--`: what is the script's own, and what goes to train.py."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def run_main(main: Callable[[], None]) -> None:
    """Run a script: exit code 2 and one line for bad input, 1 and one line for a failure on the way."""
    warnings.formatwarning = lambda message, *where, **more: f"warning: {message}\n"
    try:
        main()
    except RUN_ERRORS as error:
        stop(1, str(error))
    except USER_ERRORS as error:
        stop(2, str(error))
    except OSError as error:
        stop(1, f"{error.filename or 'writing'}: {error.strerror}; checkpoints already saved are intact")
    except KeyboardInterrupt:
        stop(130, "stopped")


def stop(code: int, message: str) -> NoReturn:
    """Print the error as one line and exit."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)

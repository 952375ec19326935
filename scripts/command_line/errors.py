"""How every command ends: one line and exit code 2 for bad input, one line and exit code 1 for a failure on the way."""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from typing import NoReturn

from safetensors import SafetensorError

from agents.errors import RunError
from envs.errors import RecordingError

USER_ERRORS = (ValueError, SafetensorError, FileNotFoundError)
"""Bad input: ConfigError, EnvError, CheckpointError, ReplayError and UsageError are ValueErrors."""
RUN_ERRORS = (RunError, RecordingError)
"""Failures on the way."""


class UsageError(ValueError):
    """A command line with a mistake; the message is one line."""


def behind_dashes(words: list[str]) -> tuple[list[str], list[str]]:
    """Split a command line at its `--`: options of the command, and options of the trainings that it starts."""
    place = words.index("--") if "--" in words else len(words)
    return words[:place], words[place + 1 :]


def run_main(main: Callable[[], None]) -> None:
    """Run a command; exit with 2 for bad input, 1 for a failure on the way, 130 after Ctrl-C."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())  # without it SDL prints an error of its own
    warnings.formatwarning = lambda message, *where, **more: f"warning: {message}\n"
    try:
        main()
    except RUN_ERRORS as error:
        stop(1, str(error))
    except USER_ERRORS as error:
        stop(2, str(error))
    except BrokenPipeError:  # the reader of a pipe has gone, as `head` does: nothing is left to say
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None
    except OSError as error:
        stop(1, f"{error.filename or 'writing'}: {error.strerror}; checkpoints already saved are intact")
    except KeyboardInterrupt as error:
        stop(130, str(error) or "stopped")


def stop(code: int, message: str) -> NoReturn:
    """Print the error as one line and exit."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    raise SystemExit(code)

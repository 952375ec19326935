"""Errors of environments, action replays and videos. This file imports nothing, so `--help` loads no emulator."""


class EnvError(ValueError):
    """An environment cannot be made; the message is one line that says what to do."""


class ReplayError(ValueError):
    """An action replay cannot be read, or playing it gives another game; the message is one line."""


class RecordingError(RuntimeError):
    """A video cannot be written or played; the message is one line."""

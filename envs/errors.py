"""Errors of environments, action replays and videos. This file imports nothing, so `--help` loads no emulator."""


class EnvError(ValueError):
    """An environment cannot be made; the message is one line with the reason and a remedy."""


class ReplayError(ValueError):
    """An action replay cannot be read, or playing it again gives a different game; the message is one line."""


class RecordingError(RuntimeError):
    """A video cannot be written or played; the message is one line."""

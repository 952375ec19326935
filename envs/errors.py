"""Errors of environments, recorded games and videos. This file imports nothing, so that `--help` needs no emulator."""


class EnvError(ValueError):
    """An environment that cannot be made, in one line that says what to do."""


class ReplayError(ValueError):
    """An action replay that cannot be read or does not match its digests, in one line."""


class RecordingError(RuntimeError):
    """A video that cannot be written or played, in one line."""

"""Errors that end a command in one line. This file imports nothing, so that `--help` needs no torch."""


class ConfigError(ValueError):
    """A setting that cannot work, in one line that says what to do."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used, in one line that says why and what to do."""


class RunError(RuntimeError):
    """A run that had to stop, in one line that says why and what is left of it."""

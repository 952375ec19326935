"""Errors that end a command in one line. This file imports nothing, so that `--help` needs no torch."""


class ConfigError(ValueError):
    """A setting that cannot work; the message is one line with the remedy."""


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one line with the reason and a remedy."""


class RunError(RuntimeError):
    """A run that had to stop; the message is one line with the reason."""

"""Train, evaluate, watch and load runs; the Python API (docs/python-api.md) is imported from here when it is used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from scripts.runner.api import TrainedAgent, evaluate, load, record_video, resume, train

__all__ = ["TrainedAgent", "evaluate", "load", "record_video", "resume", "train"]


def __getattr__(name: str) -> Any:
    """Import the API at its first use: `import scripts.runner.files` needs no torch."""
    if name not in __all__:
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from scripts.runner import api

    return getattr(api, name)

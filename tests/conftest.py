"""Shared pieces: one thread, quiet W&B, a vector of toys.

This file imports neither torch nor Gymnasium at the top: the process that only hands out tests does without them.
"""

from __future__ import annotations

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import gymnasium as gym


def pytest_collection_finish() -> None:
    """Compute on one thread, and leave imports out of garbage collections, which took a fifth of the time."""
    import torch

    torch.set_num_threads(1)
    gc.collect()
    gc.freeze()


@pytest.fixture
def vector() -> Callable[..., gym.vector.SyncVectorEnv]:
    """Return a function that makes a NEXT_STEP vector of one kind of environment, without any of our wrappers."""
    import gymnasium as gym

    def make(kind: Callable[..., gym.Env], num_envs: int, **kwargs: Any) -> gym.vector.SyncVectorEnv:
        return gym.vector.SyncVectorEnv([lambda: kind(**kwargs)] * num_envs)

    return make

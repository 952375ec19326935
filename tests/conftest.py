"""Shared pieces: one thread, quiet W&B, a vector of toys, a short agent."""

from __future__ import annotations

import gc
import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("SDL_VIDEODRIVER", "dummy")

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import pytest
import torch

from agents.run.machine import MachineFacts

torch.set_num_threads(1)

CPU = MachineFacts("cpu", threads=1, bf16=False)


def pytest_collection_finish() -> None:
    """Leave what is imported out of garbage collections: they took a fifth of the time."""
    gc.collect()
    gc.freeze()


@pytest.fixture
def vector() -> Callable[..., gym.vector.SyncVectorEnv]:
    """Return a function that makes a NEXT_STEP vector of one kind of environment, without any of our wrappers."""

    def make(kind: Callable[..., gym.Env], num_envs: int, **kwargs: Any) -> gym.vector.SyncVectorEnv:
        return gym.vector.SyncVectorEnv([lambda: kind(**kwargs)] * num_envs)

    return make

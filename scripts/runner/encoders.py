"""Trained encoders in front of agents: frozen ones beside the environments, and copies that stay with the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from agents.config import TrainConfig
from agents.errors import ConfigError
from envs.wrappers import FrozenFeatures
from networks.encoders import reuse, store
from networks.tensors import to_tensor

FOLDER = "encoders"
BESIDE = ("interpreter", "teacher")
"""Fields of a config that name a network beside the agent's own."""
AnyConfig = TypeVar("AnyConfig", bound=TrainConfig)


def freeze(envs: Any, config: TrainConfig) -> Any:
    """Show the features of frozen encoders in the place of what they read; what was recorded stays the game's own."""
    readers: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {}
    for key, (path, mode) in config.encoders().items():
        stored = reuse.load_for(key, Path(path), envs.single_observation_space)
        mended = stored.encoder.spec.preprocess.get("repair")
        if mended not in (None, config.repair):
            raise ConfigError(f"the encoder {path} was trained on repaired observations: give --repair {mended}")
        if mode == "freeze":
            readers[key] = reader(stored), stored.encoder.out_dim
    return FrozenFeatures(envs, readers) if readers else envs


def reader(stored: store.Stored) -> Callable[[np.ndarray], np.ndarray]:
    """Return what turns observations [N, ...] into features float32 [N, out_dim]."""
    encoder = stored.encoder.eval().requires_grad_(False)

    def read(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return reuse.features(encoder, to_tensor(x, "cpu")).numpy()

    return read


def about(config: TrainConfig) -> dict[str, Any]:
    """Return what config.json says of the encoders: where they come from, and what they were trained on."""
    found = {}
    for key, (path, mode) in config.encoders().items():
        stored = store.load(Path(path))
        facts = {name: stored.config.get(name) for name in ("task", "examples", "seconds")}
        found[key] = {
            "mode": mode,
            "sha256": stored.sha256,
            "arch": stored.encoder.spec.arch,
            "env_frames": stored.env_frames,
            **facts,
        }
    return found


def keep(config: TrainConfig, folder: Path) -> None:
    """Copy the encoders into a run's folder, which is then whole without the folders that they come from."""
    for key, (path, _) in config.encoders().items():
        shutil.copytree(store.find(Path(path)), folder / FOLDER / key, dirs_exist_ok=True)
    for name in BESIDE:
        if path := getattr(config, name):
            shutil.copytree(store.find(Path(path)), folder / FOLDER / name, dirs_exist_ok=True)


def kept(config: AnyConfig, folder: Path) -> AnyConfig:
    """Return the config with the encoders that were copied into the run's folder."""
    own = tuple(f"{key}={folder / FOLDER / key}" for key in config.encoders())
    beside: dict[str, Any] = {name: str(folder / FOLDER / name) for name in BESIDE if getattr(config, name)}
    return replace(config, encoder=own, **beside)

"""Pretrained encoders of an agent: frozen ones beside the environments, and copies of all of them in the run folder."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.settings import EncoderMode, EncoderSettings
from envs.wrappers import FrozenFeatures
from networks.encoders import reuse, store
from networks.tensors import to_tensor

FOLDER = "encoders"
SIDE_NETWORKS = ("interpreter", "teacher")
"""Settings that name a network beside the agent's own."""
AnyConfig = TypeVar("AnyConfig", bound=TrainConfig)


@dataclass(frozen=True)
class EncoderFacts:
    """One encoder of a run, as config.json keeps it."""

    mode: EncoderMode
    sha256: str
    arch: str
    env_frames: int
    """Frames of games in its training data."""
    task: str | None
    """Supervised task that trained it."""
    examples: int | None
    """Training examples."""
    seconds: float | None
    """Duration of its training."""


def encoder_facts(settings: EncoderSettings) -> dict[str, EncoderFacts]:
    """Return the facts about the encoder of each part of the observation."""
    facts = {}
    for key, (path, mode) in settings.encoders().items():
        stored = store.load(Path(path))
        task, examples, seconds = (stored.config.get(name) for name in ("task", "examples", "seconds"))
        arch = stored.encoder.spec.arch
        facts[key] = EncoderFacts(mode, stored.sha256, arch, stored.env_frames, task, examples, seconds)
    return facts


def add_frozen_encoders(envs: Any, settings: EncoderSettings, repair: str) -> Any:
    """Replace parts of the observation by the features of frozen encoders; recorded games keep the originals.

    `repair` is the repair of observations in use, which must be the one that the encoder was trained with.
    """
    readers: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]] = {}
    for key, (path, mode) in settings.encoders().items():
        stored = reuse.load_for(key, Path(path), envs.single_observation_space)
        trained_with = stored.encoder.spec.preprocess.get("repair")
        if trained_with not in (None, repair):
            raise ConfigError(f"the encoder {path} was trained on repaired observations: give --repair {trained_with}")
        if mode == "freeze":
            readers[key] = feature_reader(stored), stored.encoder.out_dim
    return FrozenFeatures(envs, readers) if readers else envs


def feature_reader(stored: store.Stored) -> Callable[[np.ndarray], np.ndarray]:
    """Return the function from observations [N, ...] to features float32 [N, out_dim]."""
    encoder = stored.encoder.eval().requires_grad_(False)

    def read(x: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return reuse.features(encoder, to_tensor(x, "cpu")).numpy()

    return read


def copy_encoders(config: TrainConfig, folder: Path) -> None:
    """Copy the encoders into a run folder, which then needs no other folder."""
    for key, (path, _) in config.encoders().items():
        shutil.copytree(store.find(Path(path)), folder / FOLDER / key, dirs_exist_ok=True)
    for name in SIDE_NETWORKS:
        if path := getattr(config, name):
            shutil.copytree(store.find(Path(path)), folder / FOLDER / name, dirs_exist_ok=True)


def with_copied_encoders(config: AnyConfig, folder: Path) -> AnyConfig:
    """Return the config with the encoders in the run folder instead of those that they were copied from."""
    copies = tuple(f"{key}={folder / FOLDER / key}" for key in config.encoders())
    side: dict[str, Any] = {name: str(folder / FOLDER / name) for name in SIDE_NETWORKS if getattr(config, name)}
    return replace(config, encoder=copies, **side)

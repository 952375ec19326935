"""Build a training's agent, replay and input normalisation from a config and its environments."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.interface import GameSpec
from agents.learner import Learner
from agents.on_policy import RolloutLearner
from agents.presets.registry import ALGORITHMS
from agents.replay.buffer import Replay, ReplayLayout
from agents.replay.prioritized import PrioritizedReplay
from agents.run import machine
from agents.run.machine import MachineFacts
from networks.model import ACTION_MASK, map_tree
from networks.observation_spaces import is_image
from networks.torsos.build import torso_name
from networks.torsos.convnets import HEAVY

NORM_STEPS = 200
"""Random steps of each environment from which inputs are normalised before training."""


def convolutional(config: TrainConfig, space: spaces.Space) -> bool:
    """Whether the torso has convolutions over images that profit from several threads."""
    if isinstance(space, spaces.Dict):
        return any(convolutional(config, part) for part in space.values() if is_image(part))
    return (torso_name(space) if config.torso_name in ("auto", "dict", "sb3") else config.torso_name) in HEAVY


def build_agent(algorithm: str, config: TrainConfig, envs: gym.vector.VectorEnv, facts: MachineFacts) -> Learner:
    """Build the agent for these environments; its weights follow from the seed."""
    config.validate()
    machine.keep_large_blocks()
    torch.set_num_threads(facts.threads)
    torch.manual_seed(config.seed)
    _, agent_class = ALGORITHMS[algorithm]
    agent = agent_class(config, envs.single_observation_space, envs.single_action_space, facts)
    agent.restore_encoders()
    return agent


def resolve_machine(config: TrainConfig, envs: gym.vector.VectorEnv) -> MachineFacts:
    """Choose device, threads and precision for this config; raise ConfigError for a missing device."""
    try:
        return machine.resolve(config, convolutional(config, envs.single_observation_space))
    except ValueError as error:
        raise ConfigError(str(error)) from error


def replay_layout(config: TrainConfig, envs: gym.vector.VectorEnv, carry_dim: int) -> ReplayLayout | None:
    """Return the layout of the config's replay; None for an agent that learns without one."""
    return config.layout(envs.single_observation_space, frame_stack(envs), carry_dim)


def replay_class(layout: ReplayLayout) -> type[Replay]:
    """Return the class of replay for the layout."""
    return PrioritizedReplay if layout.sampling == "prioritized" else Replay


def spills(layout: ReplayLayout, storage: str) -> bool:
    """Whether the replay's observations go to files on disk; raise ConfigError where storage `memory` cannot fit."""
    free = machine.available_memory()
    if storage == "memory" and layout.nbytes > free:
        raise ConfigError(
            f"the replay needs {layout.nbytes / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; "
            f"use --replay-capacity {_fitting(layout, free)} or less, or --replay-storage auto"
        )
    return storage == "disk" or (storage == "auto" and layout.nbytes > 0.9 * free)


def _fitting(layout: ReplayLayout, free: int) -> int:
    """Return a capacity of at most four fifths of `free` bytes; the loop is for sum trees, sized in powers of two."""
    capacity = int(layout.capacity * 0.8 * free / layout.nbytes)
    while capacity > 1 and replace(layout, capacity=capacity).nbytes > 0.8 * free:
        capacity = int(0.9 * capacity)
    return capacity


def build_replay(
    layout: ReplayLayout, device: torch.device, storage: str = "memory", folder: Path | None = None
) -> Replay:
    """Allocate the replay in memory or in unnamed files on the disk of `folder`; raise ConfigError if it cannot fit."""
    kind = replay_class(layout)
    if not spills(layout, storage):
        return kind(layout, device)
    assert folder is not None
    free = shutil.disk_usage(folder).free
    if layout.nbytes > free:
        raise ConfigError(
            f"the replay needs {layout.nbytes / 1e9:.2f} GB and {free / 1e9:.2f} GB are free on the disk of {folder}; "
            f"use --replay-capacity {_fitting(layout, free)} or less, or another --run-dir"
        )
    return kind(layout, device, folder)


def frame_stack(envs: gym.vector.VectorEnv) -> int:
    """Return the frames stacked in an observation, 1 for environments without a `GameSpec`."""
    game: GameSpec | None = getattr(envs, "game", None)
    return game.frame_stack if game is not None else 1


def fit_normalization(agent: Learner, envs: gym.vector.VectorEnv, seed: int) -> None:
    """Fit the agent's input normalisation to random play if `input_norm` is center or running."""
    method = agent.config.input_norm
    if method == "scale" or not agent.normalizers():
        return
    if method == "center" and not isinstance(envs.single_observation_space, spaces.Box):
        raise ConfigError("--input-norm center works on one array of pixels or numbers, not on a Dict; use scale")
    rng = np.random.default_rng(seed)
    seeds = [int(number) for number in rng.integers(2**31, size=envs.num_envs)]
    obs: Any = envs.reset(seed=seeds)[0]  # type: ignore[arg-type]
    envs.action_space.seed(seed)
    rows = []
    for _ in range(NORM_STEPS):
        obs = envs.step(_random_actions(envs, obs))[0]
        rows.append(obs)
    if method == "running":
        assert isinstance(agent, RolloutLearner)  # validated: agents with a replay refuse running
        parts = {key: np.stack([row[key] for row in rows]) for key in obs} if isinstance(obs, dict) else np.stack(rows)
        all_rows = torch.ones(NORM_STEPS, envs.num_envs, dtype=torch.bool, device=agent.device)
        agent.update_normalization(map_tree(agent.tensor, parts), all_rows)
        return
    samples = torch.from_numpy(np.concatenate(rows[:: max(envs.num_envs // 8, 1)]))
    for normalize in agent.normalizers():
        normalize.fit(samples)


def _random_actions(envs: gym.vector.VectorEnv, obs: Any) -> Any:
    """Draw an action for each environment, among the legal ones if the observation has an action mask."""
    space = envs.action_space
    legal = obs.get(ACTION_MASK) if isinstance(obs, dict) else None
    if legal is None or not isinstance(envs.single_action_space, spaces.Discrete):
        return space.sample()
    return space.sample(mask=tuple(legal.astype(np.int8)))

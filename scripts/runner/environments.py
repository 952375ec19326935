"""Environments from settings: the game, its wrappers, mission channel and frozen encoders."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from gymnasium import spaces

from agents.config import TrainConfig
from agents.errors import ConfigError
from envs.action_replays import RecordEpisodes
from envs.make import make_envs, resolve_protocol
from envs.wrappers import ObserveLast, ObserveMask
from scripts.runner.custom_env import check_registered
from scripts.runner.encoders import add_frozen_encoders
from scripts.runner.mission_channels import add_mission_channel
from scripts.runner.observation_repair import add_repair


def environments(
    config: TrainConfig, num_envs: int, threads: int = 0, custom_mission: str | None = None
) -> RecordEpisodes:
    """Make the environments that a config describes; `custom_mission` replaces the game's own missions."""
    check_registered(config.env)
    protocol = resolve_protocol(config.env, config.protocol, config.image_size)
    envs = make_envs(config.env, num_envs, protocol, config.env_kwargs, threads)
    if config.observe_last and not isinstance(envs.single_action_space, spaces.Discrete):
        raise ConfigError(f"--observe-last shows numbered actions only; {config.env} has {envs.single_action_space}")
    mission_encoder = config.encoders().get("mission")
    wrapped: Any = add_repair(envs, config)
    wrapped = add_mission_channel(
        wrapped, config, Path(mission_encoder[0]) if mission_encoder is not None else None, custom_mission
    )
    wrapped = add_frozen_encoders(wrapped, config, config.repair)
    wrapped = ObserveLast(wrapped) if config.observe_last else wrapped
    return cast(RecordEpisodes, ObserveMask(wrapped) if config.mask_actions else wrapped)  # which have its attributes

"""What repairs observations in front of an agent, learned from play whose sensors do not fail."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium import spaces

from agents.config import TrainConfig
from agents.errors import ConfigError
from envs.make import DROP, SENSORS, make_envs, resolve_protocol
from envs.sensors import Repaired
from networks.supervised.data import DataError
from networks.supervised.repair import make_repairer

STEPS, GAMES = 200, 8
"""Random play that a repair is learned from."""


def repaired(envs: Any, config: TrainConfig) -> Any:
    """Put the repair that a config names in front of an agent, where there is something for it to do."""
    space = envs.single_observation_space
    pixels = isinstance(space, spaces.Box) and len(space.shape) == 3
    if config.repair == "zero" and (pixels or not config.env_kwargs.get(DROP)):
        return envs
    if not isinstance(space, spaces.Box):
        raise ConfigError(f"--repair is for observations of one array; {config.env} has {space}")
    try:
        tool = make_repairer(config.repair, space.shape)
    except DataError as error:
        raise ConfigError(f"--repair {config.repair}: {error}") from error
    if pixels:
        return Repaired(envs, tool)
    own = tuple(sorted((name, value) for name, value in config.env_kwargs.items() if name not in SENSORS))
    return Repaired(envs, tool.fit(_whole(config.env, config.protocol, own)))


@lru_cache(maxsize=8)
def _whole(env_id: str, protocol: str, own: tuple[tuple[str, Any], ...]) -> np.ndarray:
    """Return observations [N, D] of random play, whole and without noise."""
    envs = make_envs(env_id, GAMES, resolve_protocol(env_id, protocol), dict(own))
    envs.action_space.seed(0)
    seen = [envs.reset(seed=list(range(GAMES)))[0]]
    seen += [envs.step(envs.action_space.sample())[0] for _ in range(STEPS)]
    envs.close()
    return np.concatenate(seen)

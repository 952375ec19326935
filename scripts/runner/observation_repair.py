"""Repair of observations with failing sensors, fitted to random play with working ones."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from gymnasium import spaces

from agents.errors import ConfigError
from agents.settings import EnvironmentSettings
from envs.make import DROP, SENSORS, make_envs, resolve_protocol
from envs.sensors import Repaired
from networks.supervised.data import DataError
from networks.supervised.repair import make_repairer

STEPS, GAMES = 200, 8
"""Random play that a repair is fitted to: steps of each of so many environments."""


def add_repair(envs: Any, settings: EnvironmentSettings) -> Any:
    """Repair observations as `settings.repair` names it; leave environments without missing numbers as they are."""
    space = envs.single_observation_space
    pixels = isinstance(space, spaces.Box) and len(space.shape) == 3
    if settings.repair == "zero" and (pixels or not settings.env_kwargs.get(DROP)):
        return envs
    if not isinstance(space, spaces.Box):
        raise ConfigError(f"--repair is for observations of one array; {settings.env} has {space}")
    try:
        repair = make_repairer(settings.repair, space.shape)
    except DataError as error:
        raise ConfigError(f"--repair {settings.repair}: {error}") from error
    if pixels:
        return Repaired(envs, repair)
    env_kwargs = tuple(sorted((name, value) for name, value in settings.env_kwargs.items() if name not in SENSORS))
    return Repaired(envs, repair.fit(_random_play(settings.env, settings.protocol, env_kwargs)))


@lru_cache(maxsize=8)
def _random_play(env_id: str, protocol: str, env_kwargs: tuple[tuple[str, Any], ...]) -> np.ndarray:
    """Return observations [N, D] of random play with working sensors."""
    envs = make_envs(env_id, GAMES, resolve_protocol(env_id, protocol), dict(env_kwargs))
    envs.action_space.seed(0)
    observations = [envs.reset(seed=list(range(GAMES)))[0]]
    observations += [envs.step(envs.action_space.sample())[0] for _ in range(STEPS)]
    envs.close()
    return np.concatenate(observations)

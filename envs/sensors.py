"""Sensors that fail: blank frames, missing numbers, noise in what a game shows; and a place for what repairs them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.wrappers import AgentSideWrapper

Repair = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(observations [N, ...] with NaN where a number is missing, whether each opens an episode [N]) -> repaired ones."""


class Sensors(AgentSideWrapper):
    """Change what is seen, by a generator that follows from the seeds of `reset`; what is recorded stays the game's."""

    def __init__(self, envs: gym.vector.VectorEnv):
        super().__init__(envs)
        space = envs.single_observation_space
        if not isinstance(space, spaces.Box):
            raise ValueError(f"its observations are not one array but {space}")
        self.shown = space

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew; without seeds what fails is drawn from the system's randomness."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.generator = np.random.default_rng(None if seed is None else [*np.atleast_1d(seed), 0x5E])
        return self.changed(obs), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, *rest = self.env.step(actions)
        return self.changed(obs), *rest  # type: ignore[return-value]

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset those that have ended, as `RecordEpisodes.restart` does."""
        obs, info = self.env.restart(ended)  # type: ignore[attr-defined]
        return self.changed(obs), info

    def changed(self, obs: np.ndarray) -> np.ndarray:
        """Return what is seen instead of `obs` [N, ...]."""
        raise NotImplementedError


class DropSensor(Sensors):
    """Each number of a vector is missing (NaN) with a chance of `probability`, anew at every step."""

    def __init__(self, envs: gym.vector.VectorEnv, probability: float):
        super().__init__(envs)
        if len(self.shown.shape) != 1 or not np.issubdtype(self.shown.dtype, np.floating):
            raise ValueError(f"numbers can be missing from vectors of real numbers, not from {self.shown}")
        self.probability = _share("drop", probability)

    def changed(self, obs: np.ndarray) -> np.ndarray:
        """Lose numbers."""
        return np.where(self.generator.random(obs.shape) < self.probability, np.nan, obs).astype(obs.dtype)


class NoisyObs(Sensors):
    """Normal noise on every number, or pixels that are black or white (`salt`, their share).

    `sigma` is in units of what is seen: of the range of pixels (0.1 is 25.5), of a vector's numbers as they are.
    """

    def __init__(self, envs: gym.vector.VectorEnv, sigma: float = 0.0, salt: float = 0.0):
        super().__init__(envs)
        if isinstance(sigma, bool | str) or not sigma >= 0:
            raise ValueError(f"noise must not be below 0, and is {sigma}")
        self.sigma, self.salt = float(sigma), _share("salt", salt)
        self.pixels = len(self.shown.shape) == 3
        if salt and not self.pixels:
            raise ValueError(f"salt is for pixels, not for {self.shown}")
        self.low, self.high = (float(bound.flat[0]) for bound in (self.shown.low, self.shown.high))

    def changed(self, obs: np.ndarray) -> np.ndarray:
        """Add noise, then salt."""
        found = obs.astype(np.float32)
        if self.sigma:
            scale = self.sigma * (self.high - self.low if self.pixels else 1.0)
            found += scale * self.generator.standard_normal(obs.shape, np.float32)
        if self.salt:
            drawn = self.generator.random(obs.shape, np.float32)
            found = np.where(drawn < self.salt, np.where(drawn < self.salt / 2, self.low, self.high), found)
        if np.issubdtype(obs.dtype, np.integer):
            found = np.rint(np.clip(found, self.low, self.high))
        return found.astype(obs.dtype)


class Repaired(Sensors):
    """Show what `repair` makes of what is seen."""

    def __init__(self, envs: gym.vector.VectorEnv, repair: Repair):
        super().__init__(envs)
        self.repair = repair

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew."""
        self.first = np.ones(self.num_envs, bool)
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments; the observation after an end opens the next episode (NEXT_STEP autoreset)."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        shown = self.changed(obs)
        self.first = terminated | truncated
        return shown, reward, terminated, truncated, info

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset those that have ended."""
        self.first = self.first | ended
        return super().restart(ended)

    def changed(self, obs: np.ndarray) -> np.ndarray:
        """Repair it."""
        first, self.first = self.first, np.zeros(self.num_envs, bool)
        return self.repair(obs, first).astype(obs.dtype)


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool | str) or not 0.0 <= value < 1.0:
        raise ValueError(f"{name} is a share, 0 to below 1, not {value}")
    return float(value)


class Flicker(AgentSideWrapper):
    """Blank every frame with a chance of `probability`, so that what the game shows must be remembered.

    Flickering Pong of Hausknecht & Stone 2015 (section 5: 0.5). A frame that is blank is so in every stack of
    `frame_stack` frames that it is part of; the frames that fill an episode's first stack share one fate. What is drawn
    follows from the seeds of `reset`.
    """

    def __init__(self, envs: gym.vector.VectorEnv, probability: float, frame_stack: int = 1):
        super().__init__(envs)
        space = envs.single_observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ValueError(f"its observations are not images but {space}")
        if isinstance(probability, bool | str) or not 0.0 <= probability < 1.0:
            raise ValueError(f"the chance of a blank frame must lie in 0 to below 1, not {probability}")
        self.probability, self.frame_stack = probability, frame_stack

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew; without seeds what is blank is drawn from the system's randomness."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.generator = np.random.default_rng(seed)
        self.dead = np.zeros(self.num_envs, bool)
        self.seen = np.repeat(self._draw()[:, None], self.frame_stack, axis=1)  # [N, K], oldest frame first
        return self._blanked(obs), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        fresh = self._draw()[:, None]
        self.seen = np.where(self.dead[:, None], fresh, np.concatenate([self.seen[:, 1:], fresh], axis=1))
        self.dead = terminated | truncated  # NEXT_STEP autoreset: the next observation opens an episode
        return self._blanked(obs), reward, terminated, truncated, info

    def _draw(self) -> np.ndarray:
        return self.generator.random(self.num_envs) >= self.probability

    def _blanked(self, obs: np.ndarray) -> np.ndarray:
        """[N, C, H, W]: each frame has C / K channels."""
        seen = np.repeat(self.seen, obs.shape[1] // self.frame_stack, axis=1)
        return obs * seen[:, :, None, None].astype(obs.dtype)

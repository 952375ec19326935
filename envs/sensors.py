"""Failing sensors: blank frames, missing numbers and noise in observations; and a wrapper that repairs observations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.wrappers import AgentSideWrapper

Repair = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""(observations [N, ...] with NaN for a missing number, whether each starts an episode, bool [N]) -> repaired ones."""


class ChangedObservations(AgentSideWrapper):
    """Base of wrappers that change observations of one array by `change`, with a generator seeded by `reset`.

    Recorded games stay the game's own. Raises ValueError for observations that are not a Box.
    """

    def __init__(self, envs: gym.vector.VectorEnv):
        super().__init__(envs)
        space = envs.single_observation_space
        if not isinstance(space, spaces.Box):
            raise ValueError(f"its observations are not one array but {space}")
        self.space = space

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments; without seeds the changes depend on the system's randomness."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.generator = np.random.default_rng(None if seed is None else [*np.atleast_1d(seed), 0x5E])
        return self.change(obs), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, *rest = self.env.step(actions)
        return self.change(obs), *rest  # type: ignore[return-value]

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset the environments in `ended`, bool [num_envs]; see `RecordEpisodes.restart`."""
        obs, info = self.env.restart(ended)  # type: ignore[attr-defined]
        return self.change(obs), info

    def change(self, obs: np.ndarray) -> np.ndarray:
        """Return the changed observations: [N, ...] -> [N, ...], of the same dtype."""
        raise NotImplementedError


class DropSensor(ChangedObservations):
    """Each number of a vector is missing (NaN) with probability `probability`, independently at every step."""

    def __init__(self, envs: gym.vector.VectorEnv, probability: float):
        super().__init__(envs)
        if len(self.space.shape) != 1 or not np.issubdtype(self.space.dtype, np.floating):
            raise ValueError(f"drop needs a vector of real numbers, not {self.space}")
        self.probability = _share("drop", probability)

    def change(self, obs: np.ndarray) -> np.ndarray:
        """Set missing numbers to NaN."""
        return np.where(self.generator.random(obs.shape) < self.probability, np.nan, obs).astype(obs.dtype)


class NoisyObs(ChangedObservations):
    """Gaussian noise on every number, and a share `salt` of the pixels black or white.

    `sigma` is in units of the value range for pixels (0.1 is 25.5), and of the numbers themselves for vectors.
    """

    def __init__(self, envs: gym.vector.VectorEnv, sigma: float = 0.0, salt: float = 0.0):
        super().__init__(envs)
        if isinstance(sigma, bool | str) or not sigma >= 0:
            raise ValueError(f"noise must be at least 0, not {sigma}")
        self.sigma, self.salt = float(sigma), _share("salt", salt)
        self.pixels = len(self.space.shape) == 3
        if salt and not self.pixels:
            raise ValueError(f"salt needs pixels, not {self.space}")
        self.low, self.high = (float(bound.flat[0]) for bound in (self.space.low, self.space.high))

    def change(self, obs: np.ndarray) -> np.ndarray:
        """Add noise, then salt; integers are clipped to their range and rounded."""
        noisy = obs.astype(np.float32)
        if self.sigma:
            scale = self.sigma * (self.high - self.low if self.pixels else 1.0)
            noisy += scale * self.generator.standard_normal(obs.shape, np.float32)
        if self.salt:
            sample = self.generator.random(obs.shape, np.float32)
            noisy = np.where(sample < self.salt, np.where(sample < self.salt / 2, self.low, self.high), noisy)
        if np.issubdtype(obs.dtype, np.integer):
            noisy = np.rint(np.clip(noisy, self.low, self.high))
        return noisy.astype(obs.dtype)


class Repaired(ChangedObservations):
    """Replace observations by `repair(observations, first)`; see `Repair`."""

    def __init__(self, envs: gym.vector.VectorEnv, repair: Repair):
        super().__init__(envs)
        self.repair = repair

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments."""
        self.first = np.ones(self.num_envs, bool)
        return super().reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments; the observation after an end starts the next episode (NEXT_STEP autoreset)."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        repaired = self.change(obs)
        self.first = terminated | truncated
        return repaired, reward, terminated, truncated, info

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset the environments in `ended`, bool [num_envs]."""
        self.first = self.first | ended
        return super().restart(ended)

    def change(self, obs: np.ndarray) -> np.ndarray:
        """Repair observations [N, ...]."""
        first, self.first = self.first, np.zeros(self.num_envs, bool)
        return self.repair(obs, first).astype(obs.dtype)


class Flicker(AgentSideWrapper):
    """Blank each frame with probability `probability`, so that an agent must remember the hidden state.

    Flickering Atari games: Hausknecht & Stone 2015, section 5 (probability 0.5). A blank frame is blank in every stack
    of `frame_stack` frames that contains it; the frames of an episode's first stack are blanked together. The seeds of
    `reset` determine the blank frames. Raises ValueError for observations that are not images.
    """

    def __init__(self, envs: gym.vector.VectorEnv, probability: float, frame_stack: int = 1):
        super().__init__(envs)
        space = envs.single_observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
            raise ValueError(f"flicker needs images, not {space}")
        self.probability, self.frame_stack = _share("flicker", probability), frame_stack

    def reset(self, *, seed: Any = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset all environments; without seeds the blank frames depend on the system's randomness."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.generator = np.random.default_rng(seed)
        self.dead = np.zeros(self.num_envs, bool)
        self.visible = np.repeat(self._sample()[:, None], self.frame_stack, axis=1)  # [N, K], oldest frame first
        return self._blank(obs), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        newest = self._sample()[:, None]
        self.visible = np.where(self.dead[:, None], newest, np.concatenate([self.visible[:, 1:], newest], axis=1))
        self.dead = terminated | truncated  # NEXT_STEP autoreset: the next observation starts an episode
        return self._blank(obs), reward, terminated, truncated, info

    def _sample(self) -> np.ndarray:
        return self.generator.random(self.num_envs) >= self.probability

    def _blank(self, obs: np.ndarray) -> np.ndarray:
        """Set invisible frames of [N, C, H, W] to 0; each frame has C / K channels."""
        visible = np.repeat(self.visible, obs.shape[1] // self.frame_stack, axis=1)
        return obs * visible[:, :, None, None].astype(obs.dtype)


def _share(name: str, value: Any) -> float:
    if isinstance(value, bool | str) or not 0.0 <= value < 1.0:
        raise ValueError(f"{name} must be at least 0 and below 1, not {value}")
    return float(value)

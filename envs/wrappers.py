"""Wrappers that Gymnasium lacks: around one game, and around a vector of recorded games, on the agent's side."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.protocols import GameSpec


class SeededMinAtar(gym.Wrapper):
    """Make seeding complete: MinAtar keeps the last action across resets and may repeat it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game; with a seed, forget the last action, as a new environment would."""
        if seed is not None:
            self.unwrapped.game.last_action = 0  # type: ignore[attr-defined]
        return self.env.reset(seed=seed, options=options)


def bounded_actions(env: gym.Env) -> gym.Env:
    """Rescale continuous actions to [-1, 1], where their bounds are finite, and clip actions to the bounds."""
    space = env.action_space
    assert isinstance(space, spaces.Box)
    if np.isfinite(space.low).all() and np.isfinite(space.high).all():
        env = gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    return gym.wrappers.ClipAction(env)


class ChannelsFirst(gym.ObservationWrapper):
    """Turn an image or a stack of planes [H, W, C] into [C, H, W]; bool becomes uint8."""

    def __init__(self, env: gym.Env):
        super().__init__(env)
        space = env.observation_space
        assert isinstance(space, spaces.Box)
        dtype: Any = np.uint8 if space.dtype == np.bool_ else space.dtype
        low, high = (np.moveaxis(bound, 2, 0).astype(dtype) for bound in (space.low, space.high))
        self.observation_space = spaces.Box(low, high, dtype=dtype)

    def observation(self, observation: np.ndarray) -> np.ndarray:
        """[H, W, C] -> [C, H, W]."""
        return np.ascontiguousarray(np.moveaxis(observation, 2, 0), self.observation_space.dtype)


class AgentSideWrapper(gym.vector.VectorWrapper):
    """Base of wrappers around `RecordEpisodes`: their changes reach the agent and are not part of recorded games."""

    @property
    def game(self) -> GameSpec:
        """The `GameSpec` of the wrapped `RecordEpisodes`; Gymnasium's wrappers hide attributes of inner ones."""
        return self.env.game  # type: ignore[attr-defined]


class ObserveLast(AgentSideWrapper):
    """Add the last action (`last_action`, one-hot [A]) and last reward (`last_reward`, [1]) to the observation.

    Both are 0 at the start of an episode. The reward is compressed to sign(r) log(1 + |r|), since games do not bound
    it. An observation of one array becomes `obs` in a Dict. Needs NEXT_STEP autoreset and Discrete actions.
    """

    def __init__(self, envs: gym.vector.VectorEnv):
        super().__init__(envs)
        space, actions = envs.single_observation_space, envs.single_action_space
        assert isinstance(actions, spaces.Discrete), "Discrete actions only"
        self.identity = np.eye(int(actions.n), dtype=np.float32)
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"obs": space}
        parts["last_action"] = spaces.Box(0.0, 1.0, (int(actions.n),), np.float32)
        parts["last_reward"] = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.single_observation_space = spaces.Dict(parts)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset all environments."""
        obs, info = self.env.reset(**options)
        self.dead = np.zeros(self.num_envs, bool)
        shape = (self.num_envs, len(self.identity))
        return self._with(obs, np.zeros(shape, np.float32), np.zeros(self.num_envs)), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        alive = ~self.dead  # the step after an end only resets: its observation starts an episode
        self.dead = terminated | truncated
        obs = self._with(obs, self.identity[actions] * alive[:, None], reward * alive)
        return obs, reward, terminated, truncated, info

    def _with(self, obs: Any, action: np.ndarray, reward: np.ndarray) -> dict[str, np.ndarray]:
        parts = obs if isinstance(obs, dict) else {"obs": obs}
        compressed = (np.sign(reward) * np.log1p(np.abs(reward))).astype(np.float32)[:, None]
        return {**parts, "last_action": action, "last_reward": compressed}


class ObserveMask(AgentSideWrapper):
    """Add the mask of legal actions, `info["action_mask"]`, to the observation as `action_mask`, bool [A].

    For MultiDiscrete actions the masks of the choices are concatenated, as in sb3-contrib's maskable PPO. Needs
    NEXT_STEP autoreset; an observation of one array becomes `obs` in a Dict. Raises ValueError for other actions, and
    on the first observation whose info has no mask.
    """

    def __init__(self, envs: gym.vector.VectorEnv):
        super().__init__(envs)
        space, actions = envs.single_observation_space, envs.single_action_space
        sizes = [actions.n] if isinstance(actions, spaces.Discrete) else getattr(actions, "nvec", [])
        if not len(sizes):
            raise ValueError(f"only Discrete and MultiDiscrete actions can be masked, not {actions}")
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"obs": space}
        parts["action_mask"] = spaces.MultiBinary(int(sum(sizes)))
        self.single_observation_space = spaces.Dict(parts)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset all environments."""
        obs, info = self.env.reset(**options)
        return self._with(obs, info), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return self._with(obs, info), reward, terminated, truncated, info

    def _with(self, obs: Any, info: dict[str, Any]) -> dict[str, np.ndarray]:
        if "action_mask" not in info:
            raise ValueError('this game has no mask of legal actions: its info has no "action_mask"')
        shape = (self.num_envs, self.single_observation_space["action_mask"].shape[0])  # type: ignore[index]
        legal = np.asarray(info["action_mask"]).reshape(shape).astype(bool)
        return {**(obs if isinstance(obs, dict) else {"obs": obs}), "action_mask": legal}


class FrozenFeatures(AgentSideWrapper):
    """Replace parts of the observation by features: `encoders` is {key: (function [N, ...] -> [N, width], width)}.

    The key is `obs` for an observation of one array. Features of texts and sounds are cached, since these stay the same
    for a whole episode.
    """

    CACHE_SIZE = 2_000
    """Entries per key; when there are more, the older half is dropped."""

    def __init__(self, envs: gym.vector.VectorEnv, encoders: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]]):
        super().__init__(envs)
        self.encoders, self.caches = encoders, {key: dict[bytes, np.ndarray]() for key in encoders}
        space = envs.single_observation_space
        features = {key: spaces.Box(-np.inf, np.inf, (width,), np.float32) for key, (_, width) in encoders.items()}
        self.single_observation_space = (
            spaces.Dict({**space.spaces, **features}) if isinstance(space, spaces.Dict) else features["obs"]
        )
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Reset all environments."""
        obs, info = self.env.reset(**options)
        return self._encode(obs), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, *rest = self.env.step(actions)
        return self._encode(obs), *rest  # type: ignore[return-value]

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset the environments in `ended`, bool [num_envs]; see `RecordEpisodes.restart`."""
        obs, info = self.env.restart(ended)  # type: ignore[attr-defined]
        return self._encode(obs), info

    def _encode(self, obs: Any) -> Any:
        if isinstance(obs, dict):
            return {**obs, **{key: self._features(key, obs[key]) for key in self.encoders}}
        return self._features("obs", obs)

    def _features(self, key: str, x: np.ndarray) -> np.ndarray:
        encode, cache = self.encoders[key][0], self.caches[key]
        if x.ndim > 2:  # images hardly ever repeat
            return encode(x)
        rows = [row.tobytes() for row in x]
        new = {row: index for index, row in enumerate(rows) if row not in cache}
        if new:
            if len(cache) > self.CACHE_SIZE:
                for row in list(cache)[: self.CACHE_SIZE // 2]:
                    del cache[row]
                new = {row: index for index, row in enumerate(rows) if row not in cache}
            cache.update(zip(new, encode(x[list(new.values())]), strict=True))
        return np.stack([cache[row] for row in rows])

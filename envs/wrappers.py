"""Wrappers that Gymnasium lacks: what a game shows becomes arrays of one fixed shape."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.protocols import GameSpec


class SeededMinAtar(gym.Wrapper):
    """Have a seed decide everything: MinAtar remembers the last action across resets, and may repeat it."""

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game; with a seed, as a new environment would."""
        if seed is not None:
            self.unwrapped.game.last_action = 0  # type: ignore[attr-defined]
        return self.env.reset(seed=seed, options=options)


def bounded_actions(env: gym.Env) -> gym.Env:
    """Have -1 to 1 span what each continuous action may be, and cut what an agent chooses beyond that."""
    space = env.action_space
    assert isinstance(space, spaces.Box)
    if np.isfinite(space.low).all() and np.isfinite(space.high).all():
        env = gym.wrappers.RescaleAction(env, np.float32(-1.0), np.float32(1.0))
    return gym.wrappers.ClipAction(env)


class ChannelsFirst(gym.ObservationWrapper):
    """Turn an image or a stack of planes [H, W, C] into [C, H, W]; truth values become 0 and 1."""

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
    """A wrapper around `RecordEpisodes`: what it changes is seen by the agent, and is no part of a recorded game."""

    @property
    def game(self) -> GameSpec:
        """The `GameSpec` of the `RecordEpisodes` inside: Gymnasium's wrappers hide the attributes of what they wrap."""
        return self.env.game  # type: ignore[attr-defined]


class ObserveLast(AgentSideWrapper):
    """Show the last action, as a one-hot `last_action`, and the last reward, as `last_reward`, beside the observation.

    Both are 0 where an episode begins. The reward is shown as sign(r) log(1 + |r|), since no game bounds it. A plain
    observation becomes the part `obs` of a Dict. Wants NEXT_STEP autoreset and numbered actions.
    """

    def __init__(self, envs: gym.vector.VectorEnv):
        super().__init__(envs)
        space, actions = envs.single_observation_space, envs.single_action_space
        assert isinstance(actions, spaces.Discrete), "numbered actions only"
        self.identity = np.eye(int(actions.n), dtype=np.float32)
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"obs": space}
        parts["last_action"] = spaces.Box(0.0, 1.0, (int(actions.n),), np.float32)
        parts["last_reward"] = spaces.Box(-np.inf, np.inf, (1,), np.float32)
        self.single_observation_space = spaces.Dict(parts)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew."""
        obs, info = self.env.reset(**options)
        self.dead = np.zeros(self.num_envs, bool)
        shape = (self.num_envs, len(self.identity))
        return self._with(obs, np.zeros(shape, np.float32), np.zeros(self.num_envs)), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        alive = ~self.dead  # the step after an end only reset, and what it shows opens an episode
        self.dead = terminated | truncated
        shown = self._with(obs, self.identity[actions] * alive[:, None], reward * alive)
        return shown, reward, terminated, truncated, info

    def _with(self, obs: Any, action: np.ndarray, reward: np.ndarray) -> dict[str, np.ndarray]:
        parts = obs if isinstance(obs, dict) else {"obs": obs}
        shown = (np.sign(reward) * np.log1p(np.abs(reward))).astype(np.float32)[:, None]
        return {**parts, "last_action": action, "last_reward": shown}


class ObserveMask(AgentSideWrapper):
    """Show which actions are legal, `info["action_mask"]`, as the part `action_mask` of a Dict observation.

    Numbers of actions side by side where an action consists of several, as of sb3-contrib's maskable PPO. Wants
    NEXT_STEP autoreset; a plain observation becomes the part `obs`.
    """

    def __init__(self, envs: gym.vector.VectorEnv):
        super().__init__(envs)
        space, actions = envs.single_observation_space, envs.single_action_space
        sizes = [actions.n] if isinstance(actions, spaces.Discrete) else getattr(actions, "nvec", [])
        if not len(sizes):
            raise ValueError(f"only numbered actions can be masked, not {actions}")
        parts = dict(space.spaces) if isinstance(space, spaces.Dict) else {"obs": space}
        parts["action_mask"] = spaces.MultiBinary(int(sum(sizes)))
        self.single_observation_space = spaces.Dict(parts)
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew."""
        obs, info = self.env.reset(**options)
        return self._with(obs, info), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, reward, terminated, truncated, info = self.env.step(actions)
        return self._with(obs, info), reward, terminated, truncated, info

    def _with(self, obs: Any, info: dict[str, Any]) -> dict[str, np.ndarray]:
        if "action_mask" not in info:
            raise ValueError('this game does not say which actions are legal: its info has no "action_mask"')
        shape = (self.num_envs, self.single_observation_space["action_mask"].shape[0])  # type: ignore[index]
        legal = np.asarray(info["action_mask"]).reshape(shape).astype(bool)
        return {**(obs if isinstance(obs, dict) else {"obs": obs}), "action_mask": legal}


class ReadParts(AgentSideWrapper):
    """Show features in the place of parts of the observation: {key: (function of [N, ...], width)}.

    `obs` is a plain observation's key. Texts and sounds, which stay the same for a whole episode, are read once.
    """

    KEPT = 2_000
    """Features of texts and sounds that are remembered."""

    def __init__(self, envs: gym.vector.VectorEnv, readers: dict[str, tuple[Callable[[np.ndarray], np.ndarray], int]]):
        super().__init__(envs)
        self.readers, self.known = readers, {key: dict[bytes, np.ndarray]() for key in readers}
        space = envs.single_observation_space
        shown = {key: spaces.Box(-np.inf, np.inf, (width,), np.float32) for key, (_, width) in readers.items()}
        self.single_observation_space = (
            spaces.Dict({**space.spaces, **shown}) if isinstance(space, spaces.Dict) else shown["obs"]
        )
        self.observation_space = gym.vector.utils.batch_space(self.single_observation_space, envs.num_envs)

    def reset(self, **options: Any) -> tuple[Any, dict[str, Any]]:
        """Start all environments anew."""
        obs, info = self.env.reset(**options)
        return self._read(obs), info

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        """Step all environments."""
        obs, *rest = self.env.step(actions)
        return self._read(obs), *rest  # type: ignore[return-value]

    def restart(self, ended: np.ndarray) -> tuple[Any, dict[str, Any]]:
        """Reset those that have ended, as `RecordEpisodes.restart` does."""
        obs, info = self.env.restart(ended)  # type: ignore[attr-defined]
        return self._read(obs), info

    def _read(self, obs: Any) -> Any:
        if isinstance(obs, dict):
            return {**obs, **{key: self._features(key, obs[key]) for key in self.readers}}
        return self._features("obs", obs)

    def _features(self, key: str, x: np.ndarray) -> np.ndarray:
        read, known = self.readers[key][0], self.known[key]
        if x.ndim > 2:  # pictures are hardly ever the same
            return read(x)
        names = [row.tobytes() for row in x]
        fresh = {name: index for index, name in enumerate(names) if name not in known}
        if fresh:
            if len(known) > self.KEPT:
                for name in list(known)[: self.KEPT // 2]:
                    del known[name]
                fresh = {name: index for index, name in enumerate(names) if name not in known}
            known.update(zip(fresh, read(x[list(fresh.values())]), strict=True))
        return np.stack([known[name] for name in names])

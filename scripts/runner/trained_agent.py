"""An agent of a finished run that acts on observations, with its memory inside."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.learner import Learner
from envs.action_replays import RecordEpisodes
from networks.model import map_tree
from scripts.runner import custom_env
from scripts.runner.custom_env import EnvFactory
from scripts.runner.environments import environments


class TrainedAgent:
    """A loaded agent: `predict` maps observations to actions, `reset` clears its memory, `make_env` makes its game.

    Observations are those of `make_env()`: the run's environment with the wrappers that the agent was trained with
    (stacked frames, [C, H, W] images, mission channel, features of frozen encoders, last action and reward).
    """

    def __init__(self, agent: Learner, config: TrainConfig, factory: EnvFactory | None = None):
        self.agent, self.config, self.factory = agent, config, factory
        greedy: dict[str, Any] = {"eval_greedy": True, "eval_epsilon": 0.0}
        self._greedy = replace(
            config, **{each.name: greedy[each.name] for each in fields(config) if each.name in greedy}
        )
        self.observation_space, self.action_space = agent.observation_space, agent.action_space
        self.reset()

    def reset(self, seed: int = 0) -> None:
        """Clear the memory, as at the start of an episode; `seed` seeds actions drawn at random."""
        self._carry: torch.Tensor | None = None
        self._rng = torch.Generator(self.agent.device).manual_seed(seed)

    def predict(self, obs: Any, deterministic: bool = True, first: np.ndarray | bool | None = None) -> Any:
        """Return the action for one observation, or actions [N, ...] for a batch of N.

        The memory of a recurrent agent goes on from the last call, for each player of a batch by itself; call `reset`
        at the start of an episode.

        Args:
            obs: an array or a dict of arrays, as the observation space has it, or with a leading axis N.
            deterministic: take the action of the highest value or probability; otherwise act as `evaluate` does, where
                most policies draw their actions.
            first: bool, or bool [N]: observations that start an episode, before which the memory is cleared.

        Raises:
            ConfigError: for an observation that does not fit the observation space, or a batch of another size than
                the one before, without `reset` between them.
        """
        single = self._is_single(obs)
        batch = map_tree(lambda part: np.asarray(part)[None] if single else np.asarray(part), obs)
        size = len(next(iter(batch.values())) if isinstance(batch, dict) else batch)
        starts = np.zeros(size, bool) if first is None else np.broadcast_to(np.asarray(first, bool), size)
        if self._carry is None or self.agent.carry_dim == 0:
            self._carry, starts = self.agent.initial_carry(size), np.ones(size, bool)
        elif len(self._carry) != size:
            raise ConfigError(f"the memory belongs to {len(self._carry)} players, not {size}; call reset() first")
        self.agent.config = self._greedy if deterministic else self.config
        action, self._carry, _ = self.agent.act(batch, starts, self._carry, None, self._rng)
        return action[0] if single else action

    def make_env(self) -> gym.Env:
        """Make the run's environment as the agent observes it; episodes and rewards are the game's own."""
        if self.factory is not None:
            custom_env.register(self.config.env, self.factory)
        return AgentSideEnv(environments(self.config, 1, threads=1))

    def _is_single(self, obs: Any) -> bool:
        """Whether `obs` is one observation, not a batch; raise ConfigError if it is neither."""
        space = self.observation_space
        shapes = {key: part.shape for key, part in space.items()} if isinstance(space, spaces.Dict) else space.shape
        given = map_tree(np.shape, obs)
        if given == shapes:
            return True
        inner = map_tree(lambda shape: shape[1:], given)
        sizes = {shape[:1] for shape in (given.values() if isinstance(given, dict) else [given])}
        if inner != shapes or len(sizes) != 1 or () in sizes:
            raise ConfigError(f"an observation of shape {given} does not fit {space}")
        return False


class AgentSideEnv(gym.Env):
    """One environment of a vector of one, as a `gym.Env`."""

    def __init__(self, envs: RecordEpisodes):
        self.envs = envs
        self.observation_space, self.action_space = envs.single_observation_space, envs.single_action_space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; the seed determines it."""
        super().reset(seed=seed)
        seed = int(self.np_random.integers(2**31 - 1)) if seed is None else seed
        obs, info = self.envs.reset(seed=seed, options=options)
        return map_tree(_first, obs), _single_info(info)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Take one agent step; the reward is the game's own."""
        obs, reward, terminated, truncated, info = self.envs.step(np.asarray(action)[None])
        return map_tree(_first, obs), float(reward[0]), bool(terminated[0]), bool(truncated[0]), _single_info(info)

    def close(self) -> None:
        """Close the environment."""
        self.envs.close()


def _first(part: Any) -> Any:
    return np.array(part[0])


def _single_info(info: dict[str, Any]) -> dict[str, Any]:
    """Return the first environment's entries of a vector's info."""
    arrays = {key: value for key, value in info.items() if isinstance(value, np.ndarray) and not key.startswith("_")}
    return {key: value[0] for key, value in arrays.items()}

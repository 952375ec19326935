"""`interact` steps agent and environments; two training loops consume its rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from agents.config import ReplayConfig, RolloutConfig
from agents.exploration import linear_schedule, updates_due
from agents.interface import Agent, Rollout, Row
from agents.replay.buffer import Replay
from agents.run.run import Run
from networks.model import map_tree
from networks.tensors import to_tensor


def interact(
    agent: Agent,
    envs: gym.vector.VectorEnv,
    seeds: Sequence[int],
    rng: torch.Generator,
    env_steps: int | None = None,
    record_time: Callable[[str], None] = lambda name: None,
) -> Iterator[Row]:
    """Reset all environments, then yield one row per step of all of them, without end.

    Training, evaluation and recording all consume these rows. `env_steps` is the count so far in training, and None in
    evaluation. `record_time(name)` charges the time since its last call to `name`.
    """
    obs, info = envs.reset(seed=list(seeds))  # type: ignore[arg-type]
    first, dead = np.ones(envs.num_envs, bool), np.zeros(envs.num_envs, bool)
    carry = agent.initial_carry(envs.num_envs)
    record_time("env")
    while True:
        action, next_carry, extras = agent.act(obs, first, carry, env_steps, rng)
        record_time("act")
        next_obs, reward, terminated, truncated, next_info = envs.step(action)
        record_time("env")
        yield Row(
            obs, info, first, dead, carry, action, extras,
            reward, terminated, truncated, next_obs, next_info, next_carry,
        )  # fmt: skip
        if env_steps is not None:
            env_steps += int(np.count_nonzero(~dead))
        # NEXT_STEP autoreset: the step after an end only resets; its observation opens the next episode
        first, dead = dead, terminated | truncated
        obs, info, carry = next_obs, next_info, next_carry


def learning_view(row: Row, clip_rewards: bool, life_loss_ends: bool) -> Row:
    """Return the row with the rewards and ends that the agent learns from; recorded games keep the game's own."""
    reward, terminated = learning_signal(
        row.reward, row.terminated, row.info, row.next_info, clip_rewards, life_loss_ends, ~row.dead
    )
    return row._replace(reward=reward, terminated=terminated)


def learning_signal(
    reward: np.ndarray,
    terminated: np.ndarray,
    info: dict[str, Any],
    next_info: dict[str, Any],
    clip_rewards: bool,
    life_loss_ends: bool,
    alive: np.ndarray | bool = True,
) -> tuple[np.ndarray, np.ndarray]:
    """Return rewards (float32) and terminations (bool) to learn from, [N] each.

    `clip_rewards` takes signs; `life_loss_ends` adds lost lives to the ends of environments that are `alive`.
    """
    reward = np.asarray(reward, np.float32)
    if clip_rewards:
        reward = np.sign(reward)
    if life_loss_ends and "lives" in info:
        terminated = terminated | ((next_info["lives"] < info["lives"]) & alive)
    return reward, terminated


def train_off_policy(agent: Agent, envs: gym.vector.VectorEnv, replay: Replay, run: Run, config: ReplayConfig) -> None:
    """Add each row to the replay and take the gradient steps that are due, until the run is over."""
    for segment in run.segments():
        rows = interact(
            agent, envs, segment.seeds, segment.rng(agent.device, "acting"), run.env_steps, run.clock.record_time
        )
        sampling_rng, learning_rng = segment.numpy_rng(), segment.rng(agent.device, "learning")
        for row in rows:
            run.observe(row)
            replay.add(learning_view(row, config.clip_rewards, config.life_loss_ends))
            run.clock.record_time("log")
            agent.set_encoders_trainable(run.env_steps)
            for _ in range(updates_due(config.replay_ratio, config.learning_starts, run.env_steps, run.updates)):
                beta = linear_schedule(
                    config.importance_exponent, config.importance_exponent_end, config.total_steps, run.env_steps
                )
                batch = replay.sample(config.batch_size, sampling_rng, beta)
                metrics, priorities = agent.update(batch, learning_rng)
                run.learned(metrics)
                replay.update_priorities(batch.indices, priorities)
            run.clock.record_time("learn")
            run.log_if_due()
            if run.segment_over(segment):
                break
        replay.truncate_episodes(row.next_obs)  # the next segment starts with a reset
        run.checkpoint(agent, segment, replay)


def train_on_policy(agent: Agent, envs: gym.vector.VectorEnv, run: Run, config: RolloutConfig) -> None:
    """Collect a rollout and learn from it, until the run is over; the budget may end within the last rollout."""
    for segment in run.segments():
        rows = interact(
            agent, envs, segment.seeds, segment.rng(agent.device, "acting"), run.env_steps, run.clock.record_time
        )
        learning_rng = segment.rng(agent.device, "learning")
        collector = RolloutCollector(config.rollout_length, agent.device)
        while not run.segment_over(segment):
            for _ in range(config.rollout_length):
                row = next(rows)
                run.observe(row)
                collector.add(learning_view(row, config.clip_rewards, config.life_loss_ends))
                run.clock.record_time("log")
                if run.env_steps >= config.total_steps:
                    break
            agent.set_encoders_trainable(run.env_steps)
            rollout = collector.rollout(run.env_steps)
            metrics, _ = agent.update(rollout, learning_rng)
            run.learned(metrics, config.epochs * config.minibatches_of(len(rollout.dead)))
            run.clock.record_time("learn")
            run.log_if_due()
        run.checkpoint(agent, segment)


class RolloutCollector:
    """Stacks T rows into one rollout, in buffers that are reused for the next."""

    def __init__(self, length: int, device: torch.device):
        self.length, self.device, self.size = length, device, 0
        self.buffers: dict[str, Any] = {}
        self.last: Row | None = None

    def add(self, row: Row) -> None:
        """Copy one row into the buffers, which the first call allocates."""
        arrays = {
            "obs": row.obs,
            "first": row.first,
            "dead": row.dead,
            "carry": row.carry.cpu().numpy(),
            "action": row.action,
            "extras": row.extras,
            "reward": row.reward,
            "terminated": row.terminated,
            "truncated": row.truncated,
        }
        if not self.buffers:
            self.buffers = {key: map_tree(self._allocate, value) for key, value in arrays.items()}
        for key, value in arrays.items():
            buffer = self.buffers[key]
            if isinstance(value, dict):
                for part, array in value.items():
                    buffer[part][self.size] = array
            else:
                buffer[self.size] = value
        self.size, self.last = self.size + 1, row

    def _allocate(self, array: np.ndarray) -> np.ndarray:
        return np.empty((self.length, *array.shape), array.dtype)

    def rollout(self, env_steps: int = 0) -> Rollout:
        """Return the rows added, at most T, as tensors on the device, and make room for the next T."""
        assert self.last is not None
        size, self.size = self.size, 0
        tensors = {
            key: map_tree(lambda array: self._tensor(array[:size]), value) for key, value in self.buffers.items()
        }
        last = self.last
        return Rollout(
            **tensors,
            next_obs=map_tree(self._tensor, last.next_obs),
            next_first=self._tensor(last.dead),
            next_carry=last.next_carry,
            env_steps=env_steps,
        )

    def _tensor(self, array: np.ndarray) -> torch.Tensor:
        return to_tensor(array, self.device)

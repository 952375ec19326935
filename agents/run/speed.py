"""Speed of a training before it starts: a copy of the agent plays and learns for about a second."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch

from agents.build import replay_class, replay_layout
from agents.config import ReplayConfig, TrainConfig
from agents.exploration import updates_due
from agents.interface import Rollout, Row
from agents.learner import Learner
from agents.loops import RolloutCollector, interact, learning_view
from agents.replay.buffer import ReplayLayout
from networks.model import map_tree

MEASUREMENTS = 4
"""Most measurements of one thing."""
AGREEMENT = 0.1
"""Relative difference of two measurements that agree."""


@dataclass(frozen=True)
class Speed:
    """Seconds of the parts of a training."""

    reset: float
    """Of a reset of all environments, which opens a training and follows each checkpoint."""
    step: float
    """Of one env step: acting, environment and storing."""
    update: float
    """Of one update from a replay, or from a whole rollout."""

    def of_training(self, config: TrainConfig) -> float:
        """Return the seconds of the whole budget."""
        if isinstance(config, ReplayConfig):
            updates = float(updates_due(config.replay_ratio, config.learning_starts, config.total_steps, 0))
        else:
            updates = config.total_steps / (config.rows_in_memory * config.num_envs)
        resets = -(-config.total_steps // config.checkpoint_steps)
        return resets * self.reset + config.total_steps * self.step + updates * self.update


def measure(agent: Learner, envs: gym.vector.VectorEnv, row_seconds: float, learn_seconds: float) -> Speed:
    """Measure play and updates with a copy of the agent, each for a few times the given seconds."""
    learner, config = copy.deepcopy(agent), cast(Any, agent.config)
    rng = torch.Generator(agent.device).manual_seed(0)
    begin, times = time.perf_counter(), []
    rows = interact(
        learner, envs, list(range(envs.num_envs)), rng, 0, lambda name: times.append(time.perf_counter() - begin)
    )
    # a memory learns faster from long episodes, as they soon are, than from an untrained agent's short ones
    views = (
        learning_view(row, config.clip_rewards, config.life_loss_ends)._replace(first=np.zeros_like(row.first))
        for row in rows
    )
    layout, first = replay_layout(config, envs, agent.carry_dim), next(views)
    reset = times[0]
    if layout is None:
        return Speed(reset, *_with_rollouts(learner, first, views, rng, row_seconds, learn_seconds))
    return Speed(reset, *_with_replay(learner, first, views, layout, rng, row_seconds, learn_seconds))


def _with_replay(
    learner: Learner, first: Row, rows: Iterator[Row], layout: ReplayLayout, rng: torch.Generator, row_seconds: float,
    learn_seconds: float,
) -> tuple[float, float]:  # fmt: skip
    """Play into a small replay, then learn from it; return the seconds of an env step and of an update."""
    config, numpy_rng = cast(Any, learner.config), np.random.default_rng(0)
    length = max(32, layout.window + layout.n_step + 2 * layout.stride)  # room for several sequences of any length
    replay = replay_class(layout)(replace(layout, capacity=layout.num_envs * 2 * length), learner.device)

    def learn() -> None:
        batch = replay.sample(config.batch_size, numpy_rng)
        _, priorities = learner.update(batch, rng)
        replay.update_priorities(batch.indices, priorities)

    for _ in range(length):  # enough to sample from, however slow the environment is
        replay.add(first)
    row = seconds_of(lambda: replay.add(next(rows)), row_seconds)
    return row / layout.num_envs, seconds_of(learn, learn_seconds)


def _with_rollouts(
    learner: Learner, first: Row, rows: Iterator[Row], rng: torch.Generator, row_seconds: float, learn_seconds: float
) -> tuple[float, float]:
    """Play into a rollout, then learn from all of it, or from one minibatch's rows if that would take long.

    Returns the seconds of an env step, and of an update from a whole rollout.
    """
    config = cast(Any, learner.config)
    length, collector = config.rollout_length, RolloutCollector(config.rollout_length, learner.device)
    for _ in range(length):  # so that the rollout is whole, however slow the environment is
        collector.add(first)

    def play() -> None:
        collector.size %= length
        collector.add(next(rows))

    row = seconds_of(play, row_seconds)
    collector.size = length
    rollout = collector.rollout()

    def learn(count: int, epochs: int, seconds: float) -> float:
        """Return the seconds of an update from the first `count` rows."""
        learner.config, part = replace(config, epochs=epochs), _first_rows(rollout, count)
        return seconds_of(lambda: learner.update(part, rng), seconds)

    count, epochs = max(length // config.minibatches // config.unroll, 1) * config.unroll, 1
    least = learn(count, epochs, 0.0)
    if least * config.epochs < learn_seconds:
        epochs = config.epochs
    if least * epochs * length / count < learn_seconds:
        count = length
    share = count / length * epochs / config.epochs
    return row / config.num_envs, learn(count, epochs, learn_seconds) / share


def _first_rows(rollout: Rollout, count: int) -> Rollout:
    """Return a rollout of the first `count` rows."""
    names = ("obs", "first", "dead", "carry", "action", "extras", "reward", "terminated", "truncated")
    return rollout._replace(**{name: map_tree(lambda x: x[:count], getattr(rollout, name)) for name in names})


def seconds_of(call: Callable[[], Any], seconds: float) -> float:
    """Return the seconds of one `call`, measured for `seconds` again and again until two measurements agree.

    The first call is a warm-up: it compiles kernels, and starts emulators.
    """
    call()
    measured: list[float] = []
    begin = time.perf_counter()
    while not measured or (len(measured) < MEASUREMENTS and time.perf_counter() - begin < MEASUREMENTS * seconds):
        start, count = time.perf_counter(), 0
        while count == 0 or time.perf_counter() - start < seconds:
            call()
            count += 1
        measured.append((time.perf_counter() - start) / count)
        if len(measured) > 1 and abs(measured[-1] - measured[-2]) <= AGREEMENT * measured[-2]:
            return (measured[-1] + measured[-2]) / 2
    return sum(measured) / len(measured)

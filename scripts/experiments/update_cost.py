"""Cost of an update: agents on the same frames, batch and network, measured in turns; and of prioritized sampling.

Costs are wall-clock medians in milliseconds. Ratios are medians of the turns' ratios, so that a slow phase of the
machine slows both sides. An agent with a replay samples a batch, learns from it and updates the priorities; one with
rollouts acts on the rows of a rollout and learns from it. Rows of a recurrent agent exclude its burn-in, which it still
computes.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from typing import Annotated, Any, Literal, get_args

import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console
from rich.table import Table
from tyro.conf import arg

from agents.build import build_agent, build_replay, fit_normalization, frame_stack, resolve_machine
from agents.errors import ConfigError
from agents.interface import Row
from agents.loops import RolloutCollector, interact
from agents.replay.buffer import ReplayLayout
from agents.replay.prioritized import PrioritizedReplay
from scripts.command_line.groups import train_settings
from scripts.experiments.settings import TurnOptions
from scripts.runner.environments import environments
from scripts.runner.files import write_json
from scripts.runner.origin import origin

Timed = Literal["dqn", "c51", "qr-dqn", "iqn", "rainbow", "r2d2", "sac", "ppo", "a2c", "impala", "rnd", "pqn"]
WITH_ROLLOUTS = ("ppo", "a2c", "impala", "rnd", "pqn")
WITH_REPLAY = tuple(name for name in get_args(Timed) if name not in WITH_ROLLOUTS)
ROWS = 1_000_000
"""Env steps in the replay on which sampling is timed."""


@dataclass(frozen=True, kw_only=True)
class Cost(TurnOptions):
    """Measure the time of an update of each agent, and of prioritized sampling.

    Options of train.py for all algorithms but the first go after a --.
    """

    algorithm: tuple[Timed, ...] = WITH_REPLAY
    """Algorithms; the first is the base of the ratios."""
    env: Annotated[str, arg(metavar="ID")] = "ALE/Pong-v5"
    """Game."""
    batch_size: Annotated[int | None, arg(metavar="B", help_behavior_hint="(default: their own)")] = None
    """Batch size of agents without memory."""
    seconds: Annotated[float, arg(metavar="S")] = 3.0
    """Length of a turn."""

    def run(self, overrides: Sequence[str]) -> None:
        """Measure and print; `overrides` are options of train.py for all algorithms but the first."""
        self.check()
        if not self.algorithm:
            raise ConfigError("name algorithms: --algorithm ALGO...")
        base, *others = map(str, self.algorithm)
        updates = {base: timed_update(base, self.env, self.batch_size)}
        for name in others:
            label = " ".join([name, *overrides]) if name == base else name
            updates[label] = timed_update(name, self.env, self.batch_size, overrides)
        costs = measure(updates, self.repeats, self.seconds)
        console = Console(highlight=False)
        console.print(cost_table(costs, self.env))
        times = {} if base in WITH_ROLLOUTS else sampling_times(self.repeats, min(self.seconds, 1.0))
        for name, value in times.items():
            console.print(f"  {name} of {ROWS:,} prioritized rows: {value:.3f} ms")
        if self.out is not None:
            numbers = {
                "threads": torch.get_num_threads(), "env": self.env, "overrides": list(overrides),
                "updates": {name: asdict(cost) for name, cost in costs.items()}, "sampling_ms": times,
            }  # fmt: skip
            write_json(self.out, {**origin().to_json(), **numbers})


class Learning:
    """Act on the rows of one rollout and learn from it, at every call."""

    def __init__(self, algorithm: str, config: Any):
        envs = environments(config, config.num_envs)
        self.agent: Any = build_agent(algorithm, config, envs, resolve_machine(config, envs))
        fit_normalization(self.agent, envs, 0)
        self.rng = torch.Generator(self.agent.device).manual_seed(0)
        collector, self.seen = RolloutCollector(config.rollout_length, self.agent.device), []
        for row in islice(interact(self.agent, envs, range(config.num_envs), self.rng, 0), config.rollout_length):
            collector.add(row)
            self.seen.append((row.obs, row.first))
        self.rollout, self.rows = collector.rollout(), config.rollout_length * config.num_envs
        envs.close()

    def __call__(self) -> None:
        """Act and learn."""
        carry = self.rollout.carry[0]
        for obs, first in self.seen:
            _, carry, _ = self.agent.act(obs, first, carry, 0, self.rng)
        self.agent.update(self.rollout, self.rng)


class Update:
    """Sample a batch of random frames, learn from it and update the priorities, at every call."""

    def __init__(self, algorithm: str, config: Any, batch_size: int | None):
        config = replace(config, num_envs=8, replay_capacity=4_000)
        if batch_size is not None and config.core == "none":
            config = replace(config, batch_size=batch_size)
        envs = environments(config, config.num_envs)
        self.agent: Any = build_agent(algorithm, config, envs, resolve_machine(config, envs))
        space = envs.single_observation_space
        layout = config.layout(space, frame_stack(envs), self.agent.carry_dim)
        self.replay, rng = build_replay(layout, self.agent.device), np.random.default_rng(0)
        for row in random_rows(layout, rng, 2 * layout.window + 300):
            self.replay.add(row)
        envs.close()
        self.rng, self.numpy_rng, self.batch_size = torch.Generator(self.agent.device), rng, config.batch_size
        self.rows = config.batch_size * config.sequence_length

    def __call__(self) -> None:
        """Sample, learn and update the priorities."""
        batch = self.replay.sample(self.batch_size, self.numpy_rng, 0.5)
        _, priorities = self.agent.update(batch, self.rng)
        self.replay.update_priorities(batch.indices, priorities)


def timed_update(
    algorithm: str, env_id: str, batch_size: int | None, overrides: Sequence[str] = ()
) -> Update | Learning:
    """Return a function that makes one update of the algorithm."""
    config = train_settings(algorithm, env_id, None, list(overrides))
    return Learning(algorithm, config) if algorithm in WITH_ROLLOUTS else Update(algorithm, config, batch_size)


def random_rows(layout: ReplayLayout, rng: np.random.Generator, count: int) -> Any:
    """Yield `count` rows of random observations, in episodes of 1,000 steps."""
    envs, drawn = layout.num_envs, {}
    for name, part in layout.observations().items():
        high = 256 if part.dtype == np.uint8 else 1
        drawn[name.removeprefix("obs.")] = (high * rng.random((envs, *part.shape))).astype(part.dtype)
    obs = drawn if isinstance(layout.observation_space, spaces.Dict) else drawn["obs"]
    carry, no = torch.zeros(envs, layout.carry_dim), np.zeros(envs, bool)
    for number in range(count):
        first, dead = np.full(envs, number % 1000 == 0), np.full(envs, number % 1000 == 0 and number > 0)
        action, reward = rng.integers(3, size=envs), rng.normal(size=envs).astype(np.float32)
        ended = np.full(envs, number % 1000 == 999)
        yield Row(obs, {}, first & ~dead, dead, carry, action, {}, reward, ended, no, obs, {}, carry)


def milliseconds(call: Callable[[], Any], seconds: float) -> float:
    """Return the median duration of a call, in milliseconds, over at least `seconds` and three calls."""
    durations: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(durations) < 3:
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a call returns once its kernels are queued
        durations.append(1e3 * (time.perf_counter() - start))
    return statistics.median(durations)


def sampling_times(repeats: int, seconds: float) -> dict[str, float]:
    """Return the milliseconds to draw 32 of `ROWS` prioritized rows, to sample them, and to update their priorities."""
    layout = ReplayLayout(spaces.Box(-1, 1, (4,), np.float32), 8, ROWS, sampling="prioritized")
    replay, rng = PrioritizedReplay(layout), np.random.default_rng(0)
    replay.next_row = layout.rows + 100  # full; draws depend on the tree, filled below
    replay.tree.leaves[: layout.rows * 8] = rng.random(layout.rows * 8)
    replay.tree.rebuild()
    batch = replay.sample(32, rng, 0.5)
    fresh = torch.from_numpy(rng.random(32))
    return {
        "draw 32": statistics.median(milliseconds(lambda: replay._draw(32, rng), seconds) for _ in range(repeats)),
        "sample 32 vectors": statistics.median(
            milliseconds(lambda: replay.sample(32, rng, 0.5), seconds) for _ in range(repeats)
        ),
        "update 32": statistics.median(
            milliseconds(lambda: replay.update_priorities(batch.indices, fresh), seconds) for _ in range(repeats)
        ),
    }


@dataclass(frozen=True)
class UpdateCost:
    """Cost of one agent's update, and its ratio to the base's."""

    ms: list[float]
    """Median of each turn, in milliseconds."""
    rows: int
    """Env steps that one update learns from."""
    times: float
    """Cost divided by the base's."""
    per_row: float
    """The same per row."""


def measure(updates: Mapping[str, Update | Learning], repeats: int, seconds: float) -> dict[str, UpdateCost]:
    """Time the updates in turns of `seconds`; the first is the base of the ratios."""
    turns: dict[str, list[float]] = {name: [] for name in updates}
    for update in updates.values():
        update()
    for _ in range(repeats):
        for name, update in updates.items():
            turns[name].append(milliseconds(update, seconds))
    base, *_ = updates
    costs = {}
    for name, ms in turns.items():
        times = statistics.median(a / b for a, b in zip(ms, turns[base], strict=True))
        rows = updates[name].rows
        costs[name] = UpdateCost(ms, rows, times, times * updates[base].rows / rows)
    return costs


def cost_table(costs: Mapping[str, UpdateCost], env_id: str) -> Table:
    """Return one line for each agent."""
    table = Table("update of", "ms (median)", "rows", f"times {next(iter(costs))}", "per row", title=env_id, box=None)
    for name, cost in costs.items():
        ms = f"{statistics.median(cost.ms):.1f}"
        table.add_row(name, ms, f"{cost.rows:,}", f"{cost.times:.2f}", f"{cost.per_row:.2f}")
    return table

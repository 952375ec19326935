"""What an update costs: agents on the same frames, batch and network, in turns; and what sampling costs.

Costs are wall-clock medians in milliseconds. Ratios are medians of those within each turn, so that a machine that slows
down slows both down. A replay's agent samples a batch, learns from it and notes priorities; one of rollouts acts on the
rows of a rollout and learns from it. Rows of a recurrent agent count without its burn-in, which it must still compute.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console
from rich.table import Table

from agents.build import build_agent, build_replay, center_inputs, frame_stack, resolve_machine
from agents.interface import Row
from agents.loops import RolloutCollector, interact
from agents.replay.buffer import ReplayLayout
from agents.replay.prioritized import PrioritizedReplay
from scripts.command_line.groups import train_settings
from scripts.runner.environments import environments
from scripts.runner.files import write_json
from scripts.runner.origin import origin

REPLAY_BASED = ("dqn", "c51", "qr-dqn", "iqn", "rainbow", "r2d2", "sac")
WITH_ROLLOUTS = ("ppo", "a2c", "impala", "rnd", "pqn")
ROWS = 1_000_000
"""Env steps held by the replay that sampling is timed on."""


class Learning:
    """Acting on the rows of one rollout, and learning from it, again and again."""

    def __init__(self, algorithm: str, config: Any):
        envs = environments(config, config.num_envs)
        self.agent: Any = build_agent(algorithm, config, envs, resolve_machine(config, envs))
        center_inputs(self.agent, envs, 0)
        self.rng = torch.Generator(self.agent.device).manual_seed(0)
        collector, self.seen = RolloutCollector(config.rollout_length, self.agent.device), []
        for row in islice(interact(self.agent, envs, range(config.num_envs), self.rng, 0), config.rollout_length):
            collector.add(row)
            self.seen.append((row.obs, row.first))
        self.rollout, self.rows = collector.rollout(), config.rollout_length * config.num_envs
        envs.close()

    def __call__(self) -> None:
        """Act, and learn."""
        carry = self.rollout.carry[0]
        for obs, first in self.seen:
            _, carry, _ = self.agent.act(obs, first, carry, 0, self.rng)
        self.agent.update(self.rollout, self.rng)


class Update:
    """A replay agent's update on one batch of random frames, again and again."""

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
        """Sample, learn, and note the new priorities."""
        batch = self.replay.sample(self.batch_size, self.numpy_rng, 0.5)
        _, priorities = self.agent.update(batch, self.rng)
        self.replay.update_priorities(batch.indices, priorities)


def measured(algorithm: str, env_id: str, batch_size: int | None, overrides: Sequence[str] = ()) -> Update | Learning:
    """Return what is to be timed for this algorithm."""
    config = train_settings(algorithm, env_id, None, overrides)
    return Learning(algorithm, config) if algorithm in WITH_ROLLOUTS else Update(algorithm, config, batch_size)


def random_rows(layout: ReplayLayout, rng: np.random.Generator, count: int) -> Any:
    """Yield rows of random observations, in episodes of a thousand steps."""
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
    """Return the median duration of a call over at least `seconds`."""
    durations: list[float] = []
    begin = time.perf_counter()
    while time.perf_counter() - begin < seconds or len(durations) < 3:
        start = time.perf_counter()
        call()
        if torch.cuda.is_available():
            torch.cuda.synchronize()  # a call returns as soon as its kernels are queued
        durations.append(1e3 * (time.perf_counter() - start))
    return statistics.median(durations)


def sampling(repeats: int, seconds: float) -> dict[str, float]:
    """Return what drawing 32 of a million prioritized rows, and giving them new priorities, takes."""
    layout = ReplayLayout(spaces.Box(-1, 1, (4,), np.float32), 8, ROWS, sampling="prioritized")
    replay, rng = PrioritizedReplay(layout), np.random.default_rng(0)
    replay.next_row = layout.rows + 100  # full: what is drawn goes by the tree, which is filled below
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


def compare(arguments: argparse.Namespace, overrides: Sequence[str]) -> None:
    """Measure and print; with --out the raw numbers too. `overrides` are not for the first agent, which is the base."""
    console = Console(highlight=False)
    base, *others = arguments.algorithm
    updates = {base: measured(base, arguments.env, arguments.batch_size)}
    for name in others:
        label = " ".join([name, *overrides]) if name == base else name
        updates[label] = measured(name, arguments.env, arguments.batch_size, overrides)
    costs: dict[str, list[float]] = {name: [] for name in updates}
    for update in updates.values():
        update()
    for _ in range(arguments.repeats):
        for name, update in updates.items():
            costs[name].append(milliseconds(update, arguments.seconds))
    table = Table("update of", "ms (median)", "rows", f"times {base}", "per row", title=arguments.env, box=None)
    results: dict[str, Any] = {}
    for name, values in costs.items():
        ratios = [a / b for a, b in zip(values, costs[base], strict=True)]
        rows, times = updates[name].rows, statistics.median(ratios)
        per_row = times * updates[base].rows / rows
        results[name] = {"ms": values, "rows": rows, "times": times, "per_row": per_row}
        table.add_row(name, f"{statistics.median(values):.1f}", f"{rows:,}", f"{times:.2f}", f"{per_row:.2f}")
    console.print(table)
    drawn = {} if base in WITH_ROLLOUTS else sampling(arguments.repeats, min(arguments.seconds, 1.0))
    for name, value in drawn.items():
        console.print(f"  {name} of {ROWS:,} prioritized rows: {value:.3f} ms")
    if arguments.out is not None:
        facts = origin().to_json() | {
            "threads": torch.get_num_threads(),
            "env": arguments.env,
            "overrides": list(overrides),
            "updates": results,
            "sampling_ms": drawn,
        }
        write_json(arguments.out, facts)

"""Throughput on Atari: ours and Stable-Baselines3's, beside what emulator and network allow, interleaved in one run.

Every number is in env steps (agent decisions) per second. "Emulator" steps the games with random actions and nothing
else; "network" acts and learns on data that is already there; the limit is both one after the other.
"""

from __future__ import annotations

import argparse
import importlib.util
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from agents.build import build_agent, build_replay, replay_layout, resolve_machine
from agents.config import ReplayConfig, TrainConfig
from agents.errors import ConfigError
from agents.loops import RolloutCollector, interact, learning_view
from agents.policy.ppo import PPOConfig
from agents.presets.registry import preset
from agents.run.run import Clock
from scripts.runner.environments import environments
from scripts.runner.files import write_json
from scripts.runner.origin import origin

GAME = "ALE/Pong-v5"
SB3_REPLAY = 20_000
"""Stable-Baselines3 keeps two stacks per step: 1.1 GB for these."""


class Ours:
    """One training of ours, to be continued for some seconds at a time."""

    def __init__(self, algorithm: str):
        base = replace(preset(algorithm, "atari"), env=GAME)
        if isinstance(base, ReplayConfig):
            base = replace(base, replay_capacity=SB3_REPLAY, learning_starts=2_000)
        self.config = cast(Any, base)
        self.envs = environments(base, base.num_envs)
        self.agent: Any = build_agent(algorithm, base, self.envs, resolve_machine(base, self.envs))
        self.clock, self.fixed = Clock(), None
        rng = torch.Generator(self.agent.device).manual_seed(0)
        self.rows = interact(self.agent, self.envs, list(range(base.num_envs)), rng, 0, self.clock.record_time)
        self.rng, self.numpy_rng = rng, np.random.default_rng(0)
        layout = replay_layout(base, self.envs, 0)
        self.replay = build_replay(layout, self.agent.device) if layout is not None else None
        while self.replay is not None and self.replay.next_row * self.config.num_envs < self.config.learning_starts:
            self.replay.add(self._row())
        self.collector = None
        if self.replay is None:
            self.collector = RolloutCollector(self.config.rollout_length, self.agent.device)

    def _row(self) -> Any:
        return learning_view(next(self.rows), self.config.clip_rewards, self.config.life_loss_ends)

    def chunk(self) -> int:
        """Play and learn once; return the env steps made."""
        if self.replay is not None:
            self.replay.add(self._row())
            self.clock.record_time("log")
            self.learn()
            self.clock.record_time("learn")
            return self.config.num_envs
        assert self.collector is not None
        for _ in range(self.config.rollout_length):
            self.collector.add(self._row())
            self.clock.record_time("log")
        self.learn()
        self.clock.record_time("learn")
        return self.config.rollout_length * self.config.num_envs

    @property
    def updates_per_chunk(self) -> int:
        """Updates that one chunk makes due."""
        return 1 if self.replay is None else round(self.config.replay_ratio * self.config.num_envs)

    def batch(self) -> Any:
        """Return what one update learns from."""
        if self.replay is not None:
            return self.replay.sample(self.config.batch_size, self.numpy_rng)
        assert self.collector is not None
        self.collector.size = self.collector.length
        return self.collector.rollout()

    def learn(self) -> None:
        """Make the updates that one chunk makes due."""
        for _ in range(self.updates_per_chunk):
            self.agent.update(self.batch(), self.rng)

    def network_chunk(self) -> int:
        """Act and learn on one observation and one batch again and again; return the env steps this stands for."""
        config, agent = self.config, self.agent
        obs = np.random.default_rng(0).integers(256, size=(config.num_envs, 4, 84, 84)).astype(np.uint8)
        first, carry = np.zeros(config.num_envs, bool), agent.initial_carry(config.num_envs)
        steps = config.rollout_length if isinstance(config, PPOConfig) else 1
        for _ in range(steps):
            agent.act(obs, first, carry, 0, self.rng)
        if self.fixed is None:
            self.fixed = self.batch()
        for _ in range(self.updates_per_chunk):
            agent.update(self.fixed, self.rng)
        return steps * config.num_envs


def emulator(num_envs: int, config: TrainConfig) -> Callable[[], int]:
    """Return a function that steps the games 64 times with random actions and returns the env steps."""
    envs = environments(config, num_envs).env
    envs.reset(seed=np.arange(num_envs))  # type: ignore[arg-type]
    actions = np.random.default_rng(0).integers(6, size=(64, num_envs))

    def chunk() -> int:
        for action in actions:
            envs.step(action)
        return 64 * num_envs

    return chunk


def stable_baselines(algorithm: str, config: Any) -> Callable[[], int]:
    """Return a function that trains Stable-Baselines3 on with the same hyperparameters and returns the env steps."""
    import stable_baselines3 as sb3
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    # ALE/*-v5 skips frames by itself and has sticky actions; SB3's own wrapper does the skipping
    games = make_atari_env(GAME, config.num_envs, seed=0, env_kwargs={"frameskip": 1, "repeat_action_probability": 0.0})
    stacked = VecFrameStack(games, 4)
    model: Any
    if isinstance(config, PPOConfig):
        model = sb3.PPO(
            "CnnPolicy", stacked, learning_rate=config.learning_rate, n_steps=config.rollout_length,
            batch_size=config.rollout_length * config.num_envs // config.minibatches, n_epochs=config.epochs,
            gamma=config.gamma, gae_lambda=config.gae_lambda, clip_range=config.clip, clip_range_vf=config.clip,
            ent_coef=config.entropy_coef, vf_coef=config.value_coef, max_grad_norm=config.max_grad_norm, device="auto",
        )  # fmt: skip
        steps = config.rollout_length * config.num_envs
    else:
        model = sb3.DQN(
            "CnnPolicy", stacked, learning_rate=config.learning_rate, buffer_size=SB3_REPLAY,
            batch_size=config.batch_size, learning_starts=config.learning_starts, gamma=config.gamma, train_freq=1,
            max_grad_norm=config.max_grad_norm,
            gradient_steps=round(config.replay_ratio * config.num_envs), device="auto",
            target_update_interval=int(config.target_period / config.replay_ratio),
        )  # fmt: skip
        model.learn(config.learning_starts + 64)
        steps = 64 * config.num_envs

    def chunk() -> int:
        before = model.num_timesteps
        model.learn(steps, reset_num_timesteps=False)
        return model.num_timesteps - before

    return chunk


def rate(chunk: Callable[[], int], seconds: float) -> float:
    """Return env steps per second over at least `seconds` of whole chunks."""
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        steps += chunk()
    return steps / (time.perf_counter() - begin)


def measure(algorithm: str, repeats: int, seconds: float, with_sb3: bool) -> dict[str, Any]:
    """Return medians and all rates by contender; contenders take turns, so that a noisy machine treats all alike."""
    ours = Ours(algorithm)
    contenders: dict[str, Callable[[], int]] = {
        "ours": ours.chunk,
        "emulator alone": emulator(ours.config.num_envs, ours.config),
        "network alone": ours.network_chunk,
    }
    if with_sb3:
        contenders["stable-baselines3"] = stable_baselines(algorithm, ours.config)
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for chunk in contenders.values():
        chunk()
    shares: dict[str, float] = dict.fromkeys(ours.clock.seconds, 0.0)
    for name in list(contenders) * repeats:
        if name == "ours":
            ours.clock.reset()
        rates[name].append(rate(contenders[name], seconds))
        if name == "ours":
            shares = {key: shares[key] + value / repeats for key, value in ours.clock.shares().items()}
    medians = {name: statistics.median(values) for name, values in rates.items()}
    limit = 1.0 / (1.0 / medians["emulator alone"] + 1.0 / medians["network alone"])
    result: dict[str, Any] = {
        "algorithm": algorithm,
        "game": GAME,
        "medians": medians,
        "rates": rates,
        "time_shares": shares,
    }
    result |= {"limit": limit, "share_of_limit": medians["ours"] / limit}
    if with_sb3:
        ratios = [a / b for a, b in zip(rates["ours"], rates["stable-baselines3"], strict=True)]
        result["times_sb3"] = statistics.median(ratios)
    return result


def compare(arguments: argparse.Namespace) -> None:
    """Measure what was asked for and print it; with --out write the raw numbers too."""
    if not arguments.no_sb3 and importlib.util.find_spec("stable_baselines3") is None:
        raise ConfigError("no Stable-Baselines3: pip install -c constraints.txt -e '.[sb3]', or --no-sb3")
    console, results = Console(highlight=False), []
    for algorithm in arguments.algorithm:
        results.append(measure(algorithm, arguments.repeats, arguments.seconds, not arguments.no_sb3))
        show(results[-1], console)
    if arguments.out is not None:
        write_json(arguments.out, {**origin().to_json(), "results": results})


def show(result: dict[str, Any], console: Console) -> None:
    """Print what `measure` returned."""
    table = Table("", "env steps/s (median)", "all turns", title=f"{result['algorithm']} on {GAME}", box=None)
    for name, value in result["medians"].items():
        table.add_row(name, f"{value:,.0f}", " ".join(f"{turn:,.0f}" for turn in result["rates"][name]))
    table.add_row("limit: emulator, then network", f"{result['limit']:,.0f}", "")
    console.print(table)
    shares = "  ".join(f"{name} {share:.0%}" for name, share in result["time_shares"].items())
    console.print(f"  {result['share_of_limit']:.0%} of the limit; time: {shares}")
    if "times_sb3" in result:
        console.print(f"  {result['times_sb3']:.2f} x Stable-Baselines3 (median of the turns' ratios)")

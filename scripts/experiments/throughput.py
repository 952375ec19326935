"""Throughput on Atari: ours and Stable-Baselines3's, beside the limits of emulator and network, measured in turns.

All rates are in env steps (agent decisions) per second. "Emulator" steps the games with random actions and nothing
else; "network" acts and learns on fixed data; the limit is both one after the other.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from tyro.conf import FlagCreatePairsOff, arg

from agents.build import build_agent, build_replay, replay_layout, resolve_machine
from agents.config import ReplayConfig, TrainConfig
from agents.errors import ConfigError
from agents.loops import RolloutCollector, interact, learning_view
from agents.policy.ppo import PPOConfig
from agents.presets.registry import preset
from agents.run.run import Clock
from scripts.experiments.settings import TurnOptions
from scripts.runner.environments import environments
from scripts.runner.files import write_json
from scripts.runner.origin import origin

GAME = "ALE/Pong-v5"
LEARNING_STARTS = 2_000
"""Random env steps before DQN learns."""
SB3_REPLAY = 20_000
"""Replay capacity for both sides: Stable-Baselines3 stores two frame stacks per step, 1.1 GB in all."""


@dataclass(frozen=True, kw_only=True)
class Speed(TurnOptions):
    """Measure the throughput of PPO and DQN on Pong (84x84, Nature CNN), against Stable-Baselines3."""

    algorithm: tuple[Literal["ppo", "dqn"], ...] = ("ppo", "dqn")
    """Algorithms to measure."""
    no_sb3: Annotated[bool, FlagCreatePairsOff] = False
    """Leave Stable-Baselines3 out."""
    seconds: Annotated[float, arg(metavar="S")] = 12.0
    """Length of a turn."""

    def run(self, overrides: Sequence[str]) -> None:
        """Measure and print."""
        if overrides:
            raise ConfigError("speed takes no options after a --")
        self.check()
        if not self.no_sb3 and importlib.util.find_spec("stable_baselines3") is None:
            raise ConfigError("no Stable-Baselines3: pip install -c constraints.txt -e '.[sb3]', or --no-sb3")
        console, results = Console(highlight=False), []
        for algorithm in self.algorithm:
            results.append(measure(algorithm, self.repeats, self.seconds, not self.no_sb3))
            show(results[-1], console)
        if self.out is not None:
            write_json(self.out, {**origin().to_json(), "results": [result.to_json() for result in results]})


class Ours:
    """A training of ours that runs one chunk at a time: a step of a replay-based agent, or a rollout."""

    def __init__(self, algorithm: str):
        base = replace(preset(algorithm, "atari"), env=GAME)
        if isinstance(base, ReplayConfig):
            base = replace(base, replay_capacity=SB3_REPLAY, learning_starts=LEARNING_STARTS)
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
        """Play and learn once; return the number of env steps."""
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
        """Updates due after one chunk."""
        return 1 if self.replay is None else round(self.config.replay_ratio * self.config.num_envs)

    def batch(self) -> Any:
        """Return the data of one update."""
        if self.replay is not None:
            return self.replay.sample(self.config.batch_size, self.numpy_rng)
        assert self.collector is not None
        self.collector.size = self.collector.length
        return self.collector.rollout()

    def learn(self) -> None:
        """Make the updates due after one chunk."""
        for _ in range(self.updates_per_chunk):
            self.agent.update(self.batch(), self.rng)

    def network_chunk(self) -> int:
        """Do the network's work of one chunk on fixed data; return the number of env steps that it stands for."""
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
    """Return a function that steps the games 64 times with random actions and returns the number of env steps."""
    envs = environments(config, num_envs).env
    envs.reset(seed=np.arange(num_envs))  # type: ignore[arg-type]
    actions = np.random.default_rng(0).integers(6, size=(64, num_envs))

    def chunk() -> int:
        for action in actions:
            envs.step(action)
        return 64 * num_envs

    return chunk


def stable_baselines(algorithm: str, config: Any) -> Callable[[], int]:
    """Return a function that trains Stable-Baselines3's agent, with our hyperparameters, and returns its env steps."""
    import stable_baselines3 as sb3
    from stable_baselines3.common.env_util import make_atari_env
    from stable_baselines3.common.vec_env import VecFrameStack

    # SB3's wrapper skips frames; ALE/*-v5 would skip them once more, and repeat actions at random
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
    """Return env steps per second over whole chunks that take at least `seconds`."""
    steps, begin = 0, time.perf_counter()
    while time.perf_counter() - begin < seconds:
        steps += chunk()
    return steps / (time.perf_counter() - begin)


@dataclass(frozen=True)
class Throughput:
    """Rates of one algorithm, in env steps per second."""

    algorithm: str
    game: str
    medians: dict[str, float]
    rates: dict[str, list[float]]
    """Rate of every turn."""
    time_shares: dict[str, float]
    """Part of our training's time by activity."""
    limit: float
    """Rate of the emulator and the network one after the other."""
    share_of_limit: float
    times_sb3: float | None = None
    """Median over turns of our rate divided by Stable-Baselines3's; None without it."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields; `times_sb3` only where it was measured."""
        return {key: value for key, value in asdict(self).items() if value is not None}


def measure(algorithm: str, repeats: int, seconds: float, with_sb3: bool) -> Throughput:
    """Measure in turns of `seconds`, so that a slow phase of the machine slows all alike."""
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
    times_sb3 = None
    if with_sb3:
        times_sb3 = statistics.median(a / b for a, b in zip(rates["ours"], rates["stable-baselines3"], strict=True))
    return Throughput(algorithm, GAME, medians, rates, shares, limit, medians["ours"] / limit, times_sb3)


def show(result: Throughput, console: Console) -> None:
    """Print the rates of one algorithm."""
    table = Table("", "env steps/s (median)", "all turns", title=f"{result.algorithm} on {GAME}", box=None)
    for name, value in result.medians.items():
        table.add_row(name, f"{value:,.0f}", " ".join(f"{turn:,.0f}" for turn in result.rates[name]))
    table.add_row("limit: emulator, then network", f"{result.limit:,.0f}", "")
    console.print(table)
    shares = "  ".join(f"{name} {share:.0%}" for name, share in result.time_shares.items())
    console.print(f"  {result.share_of_limit:.0%} of the limit; time: {shares}")
    if result.times_sb3 is not None:
        console.print(f"  {result.times_sb3:.2f} x Stable-Baselines3 (median of the turns' ratios)")

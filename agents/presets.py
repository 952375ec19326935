"""Presets: algorithm x game family -> a frozen config, with its source; `tiny` is any preset at a size for tests.

A new agent or a new game family is one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

from agents.config import ConfigError, TrainConfig
from agents.learner import Learner
from agents.policy.ppo import PPO, PPOConfig
from agents.value.dqn import DQN, DQNConfig
from networks.cores import CoreName

ALGORITHMS: dict[str, tuple[type[TrainConfig], Callable[..., Learner]]] = {
    "dqn": (DQNConfig, DQN),
    "ppo": (PPOConfig, PPO),
}
"""Name -> (config class, agent class)."""

# CartPole solves with the settings of the SB3 zoo (dqn.yml), with several updates made after each vector step
DQN_CLASSIC = DQNConfig(
    total_steps=100_000, num_envs=4, checkpoint_steps=25_000, log_steps=1_000, learning_rate=5e-4, batch_size=64,
    replay_capacity=50_000, learning_starts=1_000, replay_ratio=0.5, target_period=100, epsilon_end=0.04,
    epsilon_steps=8_000, double=True, hidden=(256, 256),
)  # fmt: skip

# Mnih et al. 2015 with Adam as in Dopamine (dqn.gin: 6.25e-5, epsilon 1.5e-4) and a replay of 1M frames
DQN_ATARI = DQNConfig(
    total_steps=10_000_000, num_envs=8, checkpoint_steps=500_000, log_steps=10_000, learning_rate=6.25e-5,
    adam_epsilon=1.5e-4, replay_capacity=1_000_000, learning_starts=20_000, replay_ratio=0.25, target_period=2_000,
    epsilon_steps=250_000, clip_rewards=True, life_loss_ends=True,
)  # fmt: skip

# Young & Tian 2019, section 4: replay 100k, target 1000, epsilon 1 -> 0.1 over 100k; Adam as in later work
DQN_MINATAR = DQNConfig(
    total_steps=3_000_000, num_envs=8, checkpoint_steps=250_000, learning_rate=2.5e-4, adam_epsilon=1e-5,
    replay_capacity=100_000, learning_starts=5_000, replay_ratio=0.25, target_period=1_000, epsilon_steps=100_000,
    double=True,
)  # fmt: skip

DQN_MINIGRID = replace(DQN_MINATAR, total_steps=1_000_000, learning_rate=1e-4, n_step=3, epsilon_end=0.05)

# CleanRL's ppo.py: 2.5e-4, 128 x 4; CartPole is faster at 1e-3 with shorter rollouts, as in the SB3 zoo
PPO_CLASSIC = PPOConfig(
    total_steps=300_000, num_envs=8, checkpoint_steps=100_000, log_steps=1_000, learning_rate=1e-3, schedule="linear",
    rollout_length=64, epochs=10, minibatches=4, gamma=0.98, gae_lambda=0.8, clip=0.2, clip_value=False,
    entropy_coef=0.0,
)  # fmt: skip

# Huang et al. 2022 (ppo_atari.py): 8 x 128, 4 epochs of 4 minibatches, clip 0.1
PPO_ATARI = PPOConfig(
    total_steps=10_000_000, num_envs=8, checkpoint_steps=1_000_000, log_steps=10_240, clip_rewards=True,
    life_loss_ends=True,
)  # fmt: skip

PPO_MINATAR = replace(
    PPO_ATARI, total_steps=3_000_000, num_envs=64, checkpoint_steps=500_000, rollout_length=64, minibatches=8,
    learning_rate=5e-4, clip=0.2, epochs=3, clip_rewards=False, clip_value=False,
)  # fmt: skip

# rl-starter-files: 16 x 128, 1e-3, 4 epochs of 256
PPO_MINIGRID = PPOConfig(
    total_steps=500_000, num_envs=16, checkpoint_steps=100_000, learning_rate=1e-3, schedule="constant", clip=0.2,
    minibatches=8, adam_epsilon=1e-8,
)  # fmt: skip

# Small frames, a small network and per-pixel centring, for a Pong that is solved in minutes on two cores: rl_games'
# big rollouts and KL-adaptive rate (ppo_pong_envpool.yaml), at 42x42 as in universe-starter-agent
PPO_FAST = PPOConfig(
    total_steps=2_000_000, num_envs=64, checkpoint_steps=1_000_000, log_steps=8_192, image_size=42, torso="pong-small",
    input_norm="center", learning_rate=5e-4, schedule="kl", rollout_length=64, epochs=3, minibatches=4, clip=0.2,
    clip_value=False, max_grad_norm=1.0, stop_return=18.0,
)  # fmt: skip

TOY: dict[str, Any] = {"total_steps": 20_000, "checkpoint_steps": 10_000, "log_steps": 1_000, "stop_return": None}

PRESETS: dict[tuple[str, str], TrainConfig] = {
    ("dqn", "classic"): DQN_CLASSIC,
    ("dqn", "box2d"): replace(DQN_CLASSIC, total_steps=500_000, learning_rate=5e-4),
    ("dqn", "atari"): DQN_ATARI,
    ("dqn", "minatar"): DQN_MINATAR,
    ("dqn", "minigrid"): DQN_MINIGRID,
    ("dqn", "toy"): replace(DQN_CLASSIC, epsilon_steps=5_000, learning_starts=200, epsilon_end=0.1, **TOY),
    ("ppo", "classic"): PPO_CLASSIC,
    ("ppo", "box2d"): replace(PPO_CLASSIC, total_steps=1_000_000, num_envs=16, gamma=0.999, gae_lambda=0.98,
                              rollout_length=128, epochs=4, entropy_coef=0.01),
    ("ppo", "atari"): PPO_ATARI,
    ("ppo", "fast"): PPO_FAST,
    ("ppo", "minatar"): PPO_MINATAR,
    ("ppo", "minigrid"): PPO_MINIGRID,
    ("ppo", "toy"): replace(PPO_CLASSIC, rollout_length=16, entropy_coef=0.01, **TOY),
}  # fmt: skip
"""(algorithm, family or a name for --preset) -> config."""


def preset(algorithm: str, name: str) -> TrainConfig:
    """Return the preset, or a ConfigError that lists what there is."""
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm '{algorithm}'; there are {', '.join(ALGORITHMS)}")
    if (algorithm, name) not in PRESETS:
        known = ", ".join(key for owner, key in PRESETS if owner == algorithm)
        raise ConfigError(f"{algorithm} has no preset '{name}'; there are {known}")
    return PRESETS[algorithm, name]


def tiny(config: TrainConfig) -> TrainConfig:
    """Return the same settings at a size that trains, saves and acts within seconds."""
    small: dict[str, Any] = {"total_steps": 400, "num_envs": 2, "checkpoint_steps": 200, "log_steps": 100, "threads": 1}
    if isinstance(config, DQNConfig):
        small |= {"replay_capacity": 400, "learning_starts": 50, "batch_size": 8, "target_period": 10}
    if isinstance(config, PPOConfig):
        small |= {"rollout_length": 32, "epochs": 2, "minibatches": 2}
    return replace(config, **small)


def memory(config: TrainConfig, core: CoreName) -> TrainConfig:
    """Return the settings with a recurrent core and sequences to train it on, unless they have one."""
    if core not in get_args(CoreName):
        raise ConfigError(f"--core must be one of {', '.join(get_args(CoreName))}, not {core}")
    if core == "none" or config.core != "none":
        return config
    recurrent: dict[str, Any] = {"core": core, "sequence_length": 16}
    if isinstance(config, DQNConfig):  # a sequence is as much work as its rows
        recurrent |= {"batch_size": max(config.batch_size // 4, 4), "replay_ratio": config.replay_ratio / 2}
    return replace(config, **recurrent)

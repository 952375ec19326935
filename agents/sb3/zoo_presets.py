"""Presets of Stable-Baselines3's agents: its own defaults by game family, and rl-baselines3-zoo's values as `zoo-...`.

The zoo's files are hyperparams/{ppo,a2c,dqn,qrdqn,ppo_lstm}.yml at 22e3ff2; `entry` returns a game's own entry, or its
family's. MinAtar is not in the zoo: its entries are the zoo's Atari settings with network (our `minatar` torso and one
linear layer), learning rate, learning start and target period of Young & Tian 2019.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agents.sb3.config import SB3A2CConfig, SB3Config, SB3DQNConfig, SB3PPOConfig, SB3QRDQNConfig, SB3RecurrentPPOConfig

STEPS: dict[str, dict[str, Any]] = {
    "classic": {"total_steps": 100_000, "checkpoint_steps": 25_000, "log_steps": 1_000},
    "box2d": {"total_steps": 1_000_000, "checkpoint_steps": 100_000},
    # SB3's AtariWrapper: signs of rewards, lost lives as ends
    "atari": {"total_steps": 10_000_000, "checkpoint_steps": 1_000_000, "log_steps": 10_240, "clip_rewards": True,
              "life_loss_ends": True},
    "minatar": {"total_steps": 3_000_000, "checkpoint_steps": 500_000},
    "minigrid": {"total_steps": 500_000, "checkpoint_steps": 100_000},
    "toy": {"total_steps": 20_000, "checkpoint_steps": 10_000, "log_steps": 1_000},
}  # fmt: skip
"""Family -> budget, and the treatment of rewards and lost lives."""
KINDS: dict[str, type[SB3Config]] = {
    "sb3-ppo": SB3PPOConfig,
    "sb3-a2c": SB3A2CConfig,
    "sb3-dqn": SB3DQNConfig,
    "sb3-qrdqn": SB3QRDQNConfig,
    "sb3-recurrent-ppo": SB3RecurrentPPOConfig,
}

PPO_CARTPOLE: dict[str, Any] = {
    "num_envs": 8, "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98, "n_epochs": 20,
    "learning_rate": 1e-3, "schedule": "linear",
}  # fmt: skip
PPO_LUNARLANDER: dict[str, Any] = {
    "num_envs": 16, "n_steps": 1_024, "batch_size": 64, "gae_lambda": 0.98, "gamma": 0.999, "n_epochs": 4,
    "ent_coef": 0.01,
}  # fmt: skip
PPO_ATARI: dict[str, Any] = {
    "num_envs": 8, "n_steps": 128, "n_epochs": 4, "batch_size": 256, "learning_rate": 2.5e-4, "clip_range": 0.1,
    "schedule": "linear", "vf_coef": 0.5, "ent_coef": 0.01,
}  # fmt: skip
A2C_ATARI: dict[str, Any] = {"num_envs": 16, "ent_coef": 0.01, "vf_coef": 0.25, "rms_prop_tf_like": True}
DQN_CARTPOLE: dict[str, Any] = {
    "learning_rate": 2.3e-3, "batch_size": 64, "buffer_size": 100_000, "learning_starts": 1_000,
    "target_update_interval": 10, "train_freq": 256, "gradient_steps": 128, "exploration_fraction": 0.16,
    "exploration_final_eps": 0.04, "net_arch": (256, 256),
}  # fmt: skip
DQN_LUNARLANDER: dict[str, Any] = {
    "total_steps": 100_000, "checkpoint_steps": 25_000, "learning_rate": 6.3e-4, "batch_size": 128,
    "buffer_size": 50_000, "learning_starts": 0, "target_update_interval": 250, "train_freq": 4, "gradient_steps": -1,
    "exploration_fraction": 0.12, "exploration_final_eps": 0.1, "net_arch": (256, 256),
}  # fmt: skip
QRDQN_LUNARLANDER: dict[str, Any] = {
    "total_steps": 100_000, "checkpoint_steps": 25_000, "learning_rate": 1.5e-3, "schedule": "linear",
    "batch_size": 128, "buffer_size": 100_000, "learning_starts": 10_000, "gamma": 0.995, "target_update_interval": 1,
    "train_freq": 256, "gradient_steps": -1, "exploration_fraction": 0.24, "exploration_final_eps": 0.18,
    "net_arch": (256, 256), "n_quantiles": 170,
}  # fmt: skip
DQN_ATARI: dict[str, Any] = {
    "buffer_size": 100_000, "learning_starts": 100_000, "target_update_interval": 1_000, "exploration_fraction": 0.1,
    "exploration_final_eps": 0.01,
}  # fmt: skip
MINATAR: dict[str, Any] = {"torso": "minatar"}
# 1,000 updates are 4,000 steps, the unit of SB3's target period
DQN_MINATAR: dict[str, Any] = {
    **DQN_ATARI, **MINATAR, "learning_rate": 2.5e-4, "learning_starts": 5_000, "target_update_interval": 4_000,
}  # fmt: skip

ZOO: dict[tuple[str, str], tuple[str, dict[str, Any]]] = {
    ("sb3-ppo", "zoo-cartpole"): ("classic", PPO_CARTPOLE),
    ("sb3-ppo", "zoo-lunarlander"): ("box2d", PPO_LUNARLANDER),
    ("sb3-ppo", "zoo-atari"): ("atari", PPO_ATARI),
    ("sb3-ppo", "zoo-minatar"): ("minatar", {**PPO_ATARI, **MINATAR}),
    ("sb3-a2c", "zoo-cartpole"): ("classic", {"num_envs": 8, "total_steps": 500_000}),
    ("sb3-a2c", "zoo-lunarlander"): (
        "box2d",
        {"total_steps": 200_000, "num_envs": 8, "gamma": 0.995, "learning_rate": 8.3e-4, "schedule": "linear",
         "ent_coef": 1e-5},
    ),
    ("sb3-a2c", "zoo-atari"): ("atari", A2C_ATARI),
    ("sb3-a2c", "zoo-minatar"): ("minatar", {**A2C_ATARI, **MINATAR}),
    ("sb3-dqn", "zoo-cartpole"): ("classic", {**DQN_CARTPOLE, "total_steps": 50_000}),
    ("sb3-dqn", "zoo-lunarlander"): ("box2d", DQN_LUNARLANDER),
    ("sb3-dqn", "zoo-atari"): ("atari", DQN_ATARI),
    ("sb3-dqn", "zoo-minatar"): ("minatar", DQN_MINATAR),
    ("sb3-qrdqn", "zoo-cartpole"): ("classic", {**DQN_CARTPOLE, "total_steps": 50_000, "n_quantiles": 10}),
    ("sb3-qrdqn", "zoo-lunarlander"): ("box2d", QRDQN_LUNARLANDER),
    ("sb3-qrdqn", "zoo-atari"): ("atari", {}),
    ("sb3-qrdqn", "zoo-minatar"): ("minatar", DQN_MINATAR),
    # the zoo's CartPoleNoVel and LunarLanderNoVel have the values of its PPO
    ("sb3-recurrent-ppo", "zoo-cartpole"): ("classic", PPO_CARTPOLE),
    ("sb3-recurrent-ppo", "zoo-lunarlander"): ("box2d", PPO_LUNARLANDER),
    ("sb3-recurrent-ppo", "zoo-atari"): ("atari", {**PPO_ATARI, "life_loss_ends": False}),
}  # fmt: skip
"""(algorithm, name) -> game family, and the differences from SB3's defaults for it."""

PRESETS: dict[tuple[str, str], SB3Config] = {
    **{(name, family): kind(**steps) for name, kind in KINDS.items() for family, steps in STEPS.items()},
    **{key: replace(KINDS[key[0]](**STEPS[family]), **values) for key, (family, values) in ZOO.items()},
}
GAMES = {"CartPole-v1": "zoo-cartpole", "LunarLander-v3": "zoo-lunarlander"}
"""Games with an entry of their own in the zoo."""


def entry(env_id: str, family: str) -> str:
    """Return the name of the zoo's preset for a game."""
    return GAMES.get(env_id, f"zoo-{family}")

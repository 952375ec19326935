"""Presets for MinAtar."""

from __future__ import annotations

from dataclasses import replace

from agents.policy.rnd import RNDConfig
from agents.policy.sac import SACConfig
from agents.presets.atari import A2C_ATARI, BTR_IMAGES, IMPALA_ATARI, PPO_ATARI
from agents.presets.base import Presets, derive, dqn_family
from agents.presets.classic import REINFORCE_CLASSIC
from agents.value.dqn import DQNConfig
from agents.value.pqn import PQNConfig

# The replay of Young & Tian 2019 (section 4: 100k). They make an update of 32 at every step, with RMSProp at 2.5e-4 and
# epsilon 1 -> 0.1 over 100k; here one of 128 in 32 steps, an eighth of their samples, with other rates
DQN_MINATAR = DQNConfig(
    total_steps=3_000_000, num_envs=32, checkpoint_steps=250_000, learning_rate=5e-4, optimizer_epsilon=1e-5,
    batch_size=128, replay_capacity=100_000, learning_starts=5_000, replay_ratio=1 / 32, target_period=250,
    epsilon_steps=50_000, epsilon_end=0.05, double=True,
)  # fmt: skip

# pqn_minatar.yaml has 128 environments for 10M steps; 32 of them learn faster from fewer steps
PQN_MINATAR = PQNConfig(
    total_steps=3_000_000, num_envs=32, checkpoint_steps=500_000, log_steps=10_240, learning_rate=5e-4,
    rollout_length=32, epochs=2, minibatches=8, epsilon_end=0.05,
)  # fmt: skip

PPO_MINATAR = replace(
    PPO_ATARI, total_steps=3_000_000, num_envs=64, checkpoint_steps=500_000, rollout_length=64, minibatches=8,
    learning_rate=5e-4, clip=0.2, epochs=3, clip_rewards=False, clip_value=False,
)  # fmt: skip

A2C_MINATAR = replace(A2C_ATARI, total_steps=3_000_000, num_envs=64, clip_rewards=False, checkpoint_steps=500_000)
IMPALA_MINATAR = replace(IMPALA_ATARI, total_steps=3_000_000, clip_rewards=False, checkpoint_steps=500_000)

PRESETS: Presets = {
    **dqn_family("minatar", DQN_MINATAR, {"v_min": 0.0, "v_max": 50.0}, {"btr": BTR_IMAGES}),
    ("pqn", "minatar"): PQN_MINATAR,
    ("ppo", "minatar"): PPO_MINATAR,
    ("rnd", "minatar"): derive(RNDConfig, PPO_MINATAR),
    ("a2c", "minatar"): A2C_MINATAR,
    ("reinforce", "minatar"): replace(REINFORCE_CLASSIC, total_steps=3_000_000, num_envs=32, entropy_coef=0.01),
    ("impala", "minatar"): IMPALA_MINATAR,
    ("sac", "minatar"): derive(SACConfig, DQN_MINATAR, learning_rate=3e-4, target_entropy_scale=0.5),
}

"""Presets for MiniGrid and BabyAI, and `minigrid-missions` for games that differ by their missions."""

from __future__ import annotations

from dataclasses import replace

from agents.policy.ppo import PPOConfig
from agents.policy.rnd import RNDConfig
from agents.policy.sac import SACConfig
from agents.presets.base import Presets, derive, dqn_family
from agents.presets.classic import A2C_CLASSIC, IMPALA_CLASSIC, REINFORCE_CLASSIC
from agents.presets.minatar import DQN_MINATAR, PQN_MINATAR

DQN_MINIGRID = replace(
    DQN_MINATAR, total_steps=1_000_000, num_envs=8, batch_size=32, replay_ratio=0.25, target_period=1_000,
    learning_rate=1e-4, n_step=3,
)  # fmt: skip

# rl-starter-files: 16 x 128, 1e-3, 4 epochs of 256
PPO_MINIGRID = PPOConfig(
    total_steps=500_000, num_envs=16, checkpoint_steps=100_000, learning_rate=1e-3, schedule="constant", clip=0.2,
    minibatches=8, optimizer_epsilon=1e-8,
)  # fmt: skip

# Missions on symbols: kernels made from the mission, and a step size under which no policy collapses
# (measured in docs/notebook/missions-and-transfer.md).
PPO_MISSIONS = replace(
    PPO_MINIGRID, total_steps=200_000, torso="planes", fusion="kernels", learning_rate=5e-4, optimizer_epsilon=1e-5
)

PRESETS: Presets = {
    **dqn_family("minigrid", DQN_MINIGRID, {"v_min": 0.0, "v_max": 1.0}),
    ("pqn", "minigrid"): replace(PQN_MINATAR, total_steps=1_000_000),
    ("ppo", "minigrid"): PPO_MINIGRID,
    ("ppo", "minigrid-missions"): PPO_MISSIONS,
    ("rnd", "minigrid"): derive(RNDConfig, PPO_MINIGRID),
    ("a2c", "minigrid"): replace(A2C_CLASSIC, rollout_length=16, entropy_coef=0.01),
    ("reinforce", "minigrid"): replace(REINFORCE_CLASSIC, rollout_length=1_024, entropy_coef=0.01),
    ("impala", "minigrid"): replace(IMPALA_CLASSIC, entropy_coef=0.01),
    ("sac", "minigrid"): derive(SACConfig, DQN_MINIGRID, learning_rate=3e-4, target_entropy_scale=0.5),
}

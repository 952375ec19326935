"""Presets for classic control, and for any environment without a family of its own."""

from __future__ import annotations

from agents.policy.a2c import A2CConfig
from agents.policy.impala import ImpalaConfig
from agents.policy.ppo import PPOConfig
from agents.policy.reinforce import ReinforceConfig
from agents.policy.rnd import RNDConfig
from agents.policy.sac import SACConfig
from agents.presets.base import Presets, derive, dqn_family
from agents.value.dqn import DQNConfig
from agents.value.pqn import PQNConfig

# Chosen among seven by one or two seeds each on CartPole, starting from the SB3 zoo's dqn.yml
DQN_CLASSIC = DQNConfig(
    total_steps=100_000, num_envs=4, checkpoint_steps=25_000, log_steps=1_000, learning_rate=5e-4, batch_size=64,
    replay_capacity=50_000, learning_starts=1_000, replay_ratio=0.5, target_period=100, epsilon_end=0.04,
    epsilon_steps=8_000, double=True, hidden=(256, 256),
)  # fmt: skip

# CleanRL's pqn.py (4 epochs, 4 minibatches, epsilon to 0.05) with more environments, shorter rollouts and a higher rate
PQN_CLASSIC = PQNConfig(
    total_steps=300_000, num_envs=8, checkpoint_steps=100_000, log_steps=2_000, learning_rate=1e-3, rollout_length=32,
    epochs=4, minibatches=4, epsilon_end=0.05, epsilon_fraction=0.3, hidden=(128, 128), stop_episodes=30,
)  # fmt: skip

# CleanRL's ppo.py: 2.5e-4, 128 x 4; CartPole is faster at 1e-3 with shorter rollouts, as in the SB3 zoo
PPO_CLASSIC = PPOConfig(
    total_steps=300_000, num_envs=8, checkpoint_steps=100_000, log_steps=1_000, learning_rate=1e-3, schedule="linear",
    rollout_length=64, epochs=10, minibatches=4, gamma=0.98, gae_lambda=0.8, clip=0.2, clip_value=False,
    entropy_coef=0.0,
)  # fmt: skip

# SB3's rl-zoo a2c.yml has 8 environments of 5 rows; more rows and Adam learn CartPole to the end
A2C_CLASSIC = A2CConfig(
    total_steps=500_000, num_envs=16, checkpoint_steps=100_000, log_steps=2_000, learning_rate=2e-3, optimizer="adam",
    rollout_length=16, gae_lambda=0.95, gamma=0.99, entropy_coef=0.001, normalize_advantage=True,
)  # fmt: skip

REINFORCE_CLASSIC = ReinforceConfig(
    total_steps=500_000, num_envs=8, checkpoint_steps=100_000, log_steps=2_000, learning_rate=1e-2,
    rollout_length=512, entropy_coef=0.001,
)  # fmt: skip

IMPALA_CLASSIC = ImpalaConfig(
    total_steps=500_000, num_envs=16, checkpoint_steps=100_000, log_steps=2_000, learning_rate=1e-3, optimizer="adam",
    optimizer_epsilon=1e-5, rollout_length=32, minibatches=4, entropy_coef=0.001, max_grad_norm=1.0,
)  # fmt: skip

# DQN's settings with twice the learning rate, chosen among three on CartPole; half of the maximum entropy as target:
# at CleanRL's 0.89, an agent with two actions still takes the worse one every third time
SAC_CLASSIC = derive(SACConfig, DQN_CLASSIC, learning_rate=1e-3, hidden=(128, 128), target_entropy_scale=0.5)

PRESETS: Presets = {
    **dqn_family("classic", DQN_CLASSIC, {"v_min": -100.0, "v_max": 100.0, "atoms": 101}),
    ("pqn", "classic"): PQN_CLASSIC,
    ("ppo", "classic"): PPO_CLASSIC,
    ("rnd", "classic"): derive(RNDConfig, PPO_CLASSIC),
    ("a2c", "classic"): A2C_CLASSIC,
    ("reinforce", "classic"): REINFORCE_CLASSIC,
    ("impala", "classic"): IMPALA_CLASSIC,
    ("sac", "classic"): SAC_CLASSIC,
}

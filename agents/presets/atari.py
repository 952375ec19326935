"""Presets for Atari, and more under names of their own: `atari-100k`, `atari-fast` and `fast`."""

from __future__ import annotations

from dataclasses import replace

from agents.policy.a2c import A2CConfig
from agents.policy.impala import ImpalaConfig
from agents.policy.ppo import PPOConfig
from agents.policy.rnd import RNDConfig
from agents.policy.sac import SACConfig
from agents.presets.base import RAINBOW, Changes, Presets, derive, dqn_family
from agents.presets.classic import REINFORCE_CLASSIC
from agents.value.c51 import C51Config
from agents.value.dqn import DQNConfig
from agents.value.pqn import PQNConfig

SUPPORT: Changes = {"v_min": -10.0, "v_max": 10.0}
"""The range of returns that C51's atoms span."""

# Mnih et al. 2015 with Adam as in Dopamine (dqn.gin: 6.25e-5, epsilon 1.5e-4), the squared error that goes with it, and
# a replay of 1M frames
DQN_ATARI = DQNConfig(
    total_steps=10_000_000, num_envs=8, checkpoint_steps=500_000, log_steps=10_000, learning_rate=6.25e-5,
    optimizer_epsilon=1.5e-4, replay_capacity=1_000_000, learning_starts=20_000, replay_ratio=0.25, target_period=2_000,
    epsilon_steps=250_000, clip_rewards=True, life_loss_ends=True, huber_delta=0.0,
)  # fmt: skip

# DrQ(eps) as in Dopamine's atari_100k gins (Agarwal et al. 2021): n 10, an update at every step from 1600 on, no target
# network, epsilon 1 -> 0.01 over 5k, augmented images; on the two convolutions of DER, a sixth of the Nature CNN's
# work, and with a squared error
DQN_100K = replace(
    DQN_ATARI, total_steps=100_000, num_envs=1, checkpoint_steps=25_000, log_steps=1_000, learning_rate=1e-4,
    replay_capacity=100_000, learning_starts=1_600, replay_ratio=1.0, target_period=1, epsilon_steps=5_000, n_step=10,
    double=True, dueling=True, torso="data-efficient", head_hidden=512, augment=True,
)  # fmt: skip

# DER (van Hasselt et al. 2019, appendix), with n 10 as in Dopamine's gin and sigma 0.1 as in its code
DER = derive(
    C51Config, DQN_100K, **{**RAINBOW, "n_step": 10}, head_hidden=256, augment=False, target_period=2_000,
    noisy_sigma=0.1,
)  # fmt: skip

# Learning rate and Adam epsilon of Dabney et al. 2018 for agents of quantiles
QUANTILE: Changes = {"learning_rate": 5e-5, "optimizer_epsilon": 3.125e-4}
# A quarter of the paper's batch, but each row is learned from four times: there are fewer of them
R2D2_ATARI: Changes = {
    "sequence_length": 80, "burn_in": 40, "batch_size": 16, "head_hidden": 512, "core_size": 512,
    "replay_ratio": 1 / 320, "learning_rate": 1e-4, "target_period": 1_000, "num_envs": 64,
}  # fmt: skip
# Clark et al. 2024: 64 environments, one update of 256 for each step of all of them
BTR_IMAGES: Changes = {
    "num_envs": 64, "batch_size": 256, "replay_ratio": 1 / 64, "learning_rate": 1e-4, "optimizer_epsilon": 0.005 / 256,
    "target_period": 500,
}  # fmt: skip
BTR_ATARI: Changes = {
    **BTR_IMAGES, "head_hidden": 512, "torso": "impala-large", "learning_starts": 200_000, "epsilon_steps": 2_000_000,
    "replay_capacity": 1_048_576,
}  # fmt: skip

# Gallici et al. 2024, pqn_atari.yaml, with CleanRL's 8 environments of 128 rows and its falling rate
# (pqn_atari_envpool.py)
PQN_ATARI = PQNConfig(
    total_steps=10_000_000, num_envs=8, checkpoint_steps=1_000_000, log_steps=10_240, rollout_length=128, epochs=2,
    minibatches=8, clip_rewards=True, life_loss_ends=True,
)  # fmt: skip

# Huang et al. 2022 (ppo_atari.py): 8 x 128, 4 epochs of 4 minibatches, clip 0.1
PPO_ATARI = PPOConfig(
    total_steps=10_000_000, num_envs=8, checkpoint_steps=1_000_000, log_steps=10_240, clip_rewards=True,
    life_loss_ends=True,
)  # fmt: skip

# rl_games' ppo_pong_envpool.yaml: big rollouts, a KL-adaptive learning rate, inputs and values normalised by statistics
# of all play, lost lives not taken for ends. Its critic coefficient of 2 is for the mean squared error, here halved
PPO_ATARI_FAST = replace(
    PPO_ATARI, total_steps=2_000_000, num_envs=64, learning_rate=3e-4, schedule="kl", clip=0.2, clip_value=False,
    max_grad_norm=1.0, input_norm="running", value_scale="normalize", value_coef=1.0, life_loss_ends=False,
)  # fmt: skip

# Small frames, a small network and per-pixel centring, to solve Pong within minutes on two cores: rl_games' big
# rollouts and KL-adaptive learning rate (ppo_pong_envpool.yaml), at 42x42 as in universe-starter-agent
PPO_FAST = PPOConfig(
    total_steps=2_000_000, num_envs=64, checkpoint_steps=1_000_000, log_steps=8_192, image_size=42, torso="pong-small",
    input_norm="center", learning_rate=5e-4, schedule="kl", rollout_length=64, epochs=3, minibatches=4, clip=0.2,
    clip_value=False, max_grad_norm=1.0, stop_return=18.0,
)  # fmt: skip

# rl-zoo a2c.yml, atari: 16 x 5, RMSProp, value loss 0.25 (of the squared error)
A2C_ATARI = A2CConfig(
    total_steps=10_000_000, checkpoint_steps=1_000_000, log_steps=10_240, schedule="linear", clip_rewards=True,
    life_loss_ends=True,
)  # fmt: skip

REINFORCE_ATARI = replace(
    REINFORCE_CLASSIC, total_steps=10_000_000, checkpoint_steps=1_000_000, num_envs=4, log_steps=10_240,
    rollout_length=2_048, learning_rate=1e-3, entropy_coef=0.01, clip_rewards=True,
)  # fmt: skip

# Cleanba (cleanba_impala.py): unroll 20, RMSProp, 4 minibatches in one pass
IMPALA_ATARI = ImpalaConfig(
    total_steps=10_000_000, checkpoint_steps=1_000_000, log_steps=10_240, minibatches=4, clip_rewards=True,
    life_loss_ends=True,
)  # fmt: skip

# CleanRL's sac_atari.py, whose target networks are copied every 8000 env steps
SAC_ATARI = derive(
    SACConfig, DQN_ATARI, learning_rate=3e-4, optimizer_epsilon=1e-4, batch_size=64, target_period=2_000,
)  # fmt: skip

DQN_CHANGES: dict[str, Changes] = {
    "c51": {"learning_rate": 2.5e-4},
    "qr-dqn": {"quantiles": 200, **QUANTILE},
    "iqn": {"n_step": 1, "head_hidden": 512, **QUANTILE},
    "rainbow": {"head_hidden": 512},
    "btr": BTR_ATARI,
    "r2d2": R2D2_ATARI,
}
PRESETS: Presets = {
    **dqn_family("atari", DQN_ATARI, SUPPORT, DQN_CHANGES),
    ("dqn", "atari-100k"): DQN_100K,
    ("rainbow", "atari-100k"): DER,
    ("pqn", "atari"): PQN_ATARI,
    ("ppo", "atari"): PPO_ATARI,
    ("ppo", "fast"): PPO_FAST,
    ("ppo", "atari-fast"): PPO_ATARI_FAST,
    ("rnd", "atari"): derive(RNDConfig, PPO_ATARI),
    ("a2c", "atari"): A2C_ATARI,
    ("reinforce", "atari"): REINFORCE_ATARI,
    ("impala", "atari"): IMPALA_ATARI,
    ("sac", "atari"): SAC_ATARI,
}

"""Presets: algorithm x game family -> a frozen config, with its source; `tiny` is any preset at a size for tests.

A new agent or a new game family is one line here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from math import gcd
from typing import Any, TypeVar, get_args

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.learner import Learner
from agents.off_policy import ReplayConfig
from agents.on_policy import RolloutConfig
from agents.policy.a2c import A2C, A2CConfig
from agents.policy.impala import Impala, ImpalaConfig
from agents.policy.ppo import PPO, PPOConfig
from agents.policy.reinforce import Reinforce, ReinforceConfig
from agents.policy.rnd import RND, RNDConfig
from agents.policy.sac import SAC, SACConfig
from agents.sb3 import zoo_presets
from agents.sb3.agent import StableBaseline
from agents.value.c51 import C51, C51Config
from agents.value.dqn import DQN, DQNConfig
from agents.value.iqn import IQN, IQNConfig
from agents.value.pqn import PQN, PQNConfig
from agents.value.qr_dqn import QRDQN, QRDQNConfig
from networks.cores import CoreName

ALGORITHMS: dict[str, tuple[type[TrainConfig], Callable[..., Learner]]] = {
    "dqn": (DQNConfig, DQN),
    "c51": (C51Config, C51),
    "qr-dqn": (QRDQNConfig, QRDQN),
    "iqn": (IQNConfig, IQN),
    "rainbow": (C51Config, C51),
    "btr": (IQNConfig, IQN),
    "r2d2": (DQNConfig, DQN),
    "pqn": (PQNConfig, PQN),
    "reinforce": (ReinforceConfig, Reinforce),
    "a2c": (A2CConfig, A2C),
    "ppo": (PPOConfig, PPO),
    "rnd": (RNDConfig, RND),
    "impala": (ImpalaConfig, Impala),
    "sac": (SACConfig, SAC),
    **{name: (kind, StableBaseline) for name, kind in zoo_presets.KINDS.items()},
}
"""Name -> (config class, agent class). Rainbow, BTR and R2D2 are sets of switches: presets of their own."""
OURS = tuple(name for name in ALGORITHMS if name not in zoo_presets.KINDS)
"""The agents of this repository, beside Stable-Baselines3's."""

Config = TypeVar("Config", bound=TrainConfig)


def derive(kind: type[Config], base: TrainConfig, **changes: Any) -> Config:
    """Return a config of another algorithm with all that `base` has in common with it, and `changes`."""
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in vars(base).items() if name in known} | changes)


# Chosen among seven by one or two seeds each on CartPole, starting from the SB3 zoo's dqn.yml
DQN_CLASSIC = DQNConfig(
    total_steps=100_000, num_envs=4, checkpoint_steps=25_000, log_steps=1_000, learning_rate=5e-4, batch_size=64,
    replay_capacity=50_000, learning_starts=1_000, replay_ratio=0.5, target_period=100, epsilon_end=0.04,
    epsilon_steps=8_000, double=True, hidden=(256, 256),
)  # fmt: skip

# Mnih et al. 2015 with Adam as in Dopamine (dqn.gin: 6.25e-5, epsilon 1.5e-4), the squared error that goes with it, and
# a replay of 1M frames
DQN_ATARI = DQNConfig(
    total_steps=10_000_000, num_envs=8, checkpoint_steps=500_000, log_steps=10_000, learning_rate=6.25e-5,
    adam_epsilon=1.5e-4, replay_capacity=1_000_000, learning_starts=20_000, replay_ratio=0.25, target_period=2_000,
    epsilon_steps=250_000, clip_rewards=True, life_loss_ends=True, huber_delta=0.0,
)  # fmt: skip

# The replay of Young & Tian 2019 (section 4: 100k). They make an update of 32 at every step, with RMSProp at 2.5e-4 and
# epsilon 1 -> 0.1 over 100k; here one of 128 in 32 steps, an eighth of their samples, with other rates
DQN_MINATAR = DQNConfig(
    total_steps=3_000_000, num_envs=32, checkpoint_steps=250_000, learning_rate=5e-4, adam_epsilon=1e-5,
    batch_size=128, replay_capacity=100_000, learning_starts=5_000, replay_ratio=1 / 32, target_period=250,
    epsilon_steps=50_000, epsilon_end=0.05, double=True,
)  # fmt: skip

DQN_MINIGRID = replace(
    DQN_MINATAR, total_steps=1_000_000, num_envs=8, batch_size=32, replay_ratio=0.25, target_period=1_000,
    learning_rate=1e-4, n_step=3,
)  # fmt: skip

# DrQ(eps) as in Dopamine's atari_100k gins (Agarwal et al. 2021): n 10, an update at every step from 1600 on, no target
# network, epsilon 1 -> 0.01 over 5k, augmented images; on the two convolutions of DER, a sixth of the Nature CNN's
# work, and with a squared error
DQN_100K = derive(
    DQNConfig, DQN_ATARI, total_steps=100_000, num_envs=1, checkpoint_steps=25_000, log_steps=1_000,
    learning_rate=1e-4, replay_capacity=100_000, learning_starts=1_600, replay_ratio=1.0, target_period=1,
    epsilon_steps=5_000, n_step=10, double=True, dueling=True, torso="data-efficient", head_hidden=512, augment=True,
)  # fmt: skip

# Hessel et al. 2018, table 1
RAINBOW: dict[str, Any] = {
    "double": True, "dueling": True, "noisy": True, "prioritized": True, "n_step": 3, "epsilon_start": 0.0,
    "epsilon_end": 0.0, "eval_epsilon": 0.0,
}  # fmt: skip

# Clark et al. 2024, table of hyperparameters: one update of 256 for 64 environments' step, no decay of the rate
BTR: dict[str, Any] = {
    "double": False, "munchausen": True, "dueling": True, "noisy": True, "prioritized": True,
    "priority_exponent": 0.2, "n_step": 3, "quantiles": 8, "gamma": 0.997, "eval_epsilon": 0.01,
}  # fmt: skip

# Kapturowski et al. 2019, table 2, at the size of one machine. Their Adam epsilon of 1e-3 goes with losses summed over
# the 80 rows of a sequence; here they are averaged
R2D2: dict[str, Any] = {
    "core": "lstm", "double": True, "dueling": True, "n_step": 5, "gamma": 0.997, "value_rescale": True,
    "prioritized": True, "priority_exponent": 0.9, "importance_exponent": 0.6, "clip_rewards": False,
    "importance_exponent_end": 0.6, "life_loss_ends": False, "observe_last": True, "exploration": "ladder",
    "huber_delta": 0.0, "adam_epsilon": 1e-5,
}  # fmt: skip

# DER (van Hasselt et al. 2019, appendix), with n 10 as in Dopamine's gin and sigma 0.1 as in its code
DER = derive(
    C51Config, DQN_100K, **RAINBOW | {"n_step": 10}, head_hidden=256, augment=False, target_period=2_000,
    noisy_sigma=0.1,
)  # fmt: skip

# CleanRL's pqn.py (4 epochs, 4 minibatches, epsilon to 0.05) with more environments, shorter rollouts and a higher rate
PQN_CLASSIC = PQNConfig(
    total_steps=300_000, num_envs=8, checkpoint_steps=100_000, log_steps=2_000, learning_rate=1e-3, rollout_length=32,
    epochs=4, minibatches=4, epsilon_end=0.05, epsilon_fraction=0.3, hidden=(128, 128), stop_episodes=30,
)  # fmt: skip

# Gallici et al. 2024, pqn_atari.yaml, with CleanRL's 8 environments of 128 rows and its falling rate
# (pqn_atari_envpool.py)
PQN_ATARI = PQNConfig(
    total_steps=10_000_000, num_envs=8, checkpoint_steps=1_000_000, log_steps=10_240, rollout_length=128, epochs=2,
    minibatches=8, clip_rewards=True, life_loss_ends=True,
)  # fmt: skip

# pqn_minatar.yaml has 128 environments for 10M steps; 32 of them learn faster where there are few
PQN_MINATAR = PQNConfig(
    total_steps=3_000_000, num_envs=32, checkpoint_steps=500_000, log_steps=10_240, learning_rate=5e-4,
    rollout_length=32, epochs=2, minibatches=8, epsilon_end=0.05,
)  # fmt: skip

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

# Missions on symbols: kernels made from what is asked for, and steps that no policy collapses under (docs/results)
PPO_MISSIONS = replace(
    PPO_MINIGRID, total_steps=200_000, torso="planes", fusion="kernels", learning_rate=5e-4, adam_epsilon=1e-5
)

# DQN's with the rate doubled, chosen among three on CartPole; half of the most entropy instead of CleanRL's 0.89, at
# which of two actions one is still taken every third time
SAC_CLASSIC = derive(SACConfig, DQN_CLASSIC, learning_rate=1e-3, hidden=(128, 128), target_entropy_scale=0.5)

# CleanRL's sac_atari.py, whose target networks are copied every 8000 env steps
SAC_ATARI = derive(
    SACConfig, DQN_ATARI, learning_rate=3e-4, adam_epsilon=1e-4, batch_size=64, target_period=2_000,
)  # fmt: skip

SAC_MINATAR = derive(SACConfig, DQN_MINATAR, learning_rate=3e-4, target_entropy_scale=0.5)

# rl_games' ppo_pong_envpool.yaml: big rollouts, a KL-adaptive rate, inputs and values normalised by all play, lives
# that don't count. Its critic coefficient of 2 is for the mean of the squared error, here halved
PPO_ATARI_FAST = replace(
    PPO_ATARI, total_steps=2_000_000, num_envs=64, learning_rate=3e-4, schedule="kl", clip=0.2, clip_value=False,
    max_grad_norm=1.0, input_norm="running", value_scale="normalize", value_coef=1.0, life_loss_ends=False,
)  # fmt: skip

# Small frames, a small network and per-pixel centring, for a Pong that is solved in minutes on two cores: rl_games'
# big rollouts and KL-adaptive rate (ppo_pong_envpool.yaml), at 42x42 as in universe-starter-agent
PPO_FAST = PPOConfig(
    total_steps=2_000_000, num_envs=64, checkpoint_steps=1_000_000, log_steps=8_192, image_size=42, torso="pong-small",
    input_norm="center", learning_rate=5e-4, schedule="kl", rollout_length=64, epochs=3, minibatches=4, clip=0.2,
    clip_value=False, max_grad_norm=1.0, stop_return=18.0,
)  # fmt: skip

# SB3's rl-zoo a2c.yml has 8 environments of 5 rows; more rows and Adam learn CartPole to the end
A2C_CLASSIC = A2CConfig(
    total_steps=500_000, num_envs=16, checkpoint_steps=100_000, log_steps=2_000, learning_rate=2e-3, optimizer="adam",
    rollout_length=16, gae_lambda=0.95, gamma=0.99, entropy_coef=0.001, normalize_advantage=True,
)  # fmt: skip

# rl-zoo a2c.yml, atari: 16 x 5, RMSProp, value loss 0.25 (of the squared error)
A2C_ATARI = A2CConfig(
    total_steps=10_000_000, checkpoint_steps=1_000_000, log_steps=10_240, schedule="linear", clip_rewards=True,
    life_loss_ends=True,
)  # fmt: skip

REINFORCE_CLASSIC = ReinforceConfig(
    total_steps=500_000, num_envs=8, checkpoint_steps=100_000, log_steps=2_000, learning_rate=1e-2,
    rollout_length=512, entropy_coef=0.001,
)  # fmt: skip

IMPALA_CLASSIC = ImpalaConfig(
    total_steps=500_000, num_envs=16, checkpoint_steps=100_000, log_steps=2_000, learning_rate=1e-3, optimizer="adam",
    adam_epsilon=1e-5, rollout_length=32, minibatches=4, entropy_coef=0.001, max_grad_norm=1.0,
)  # fmt: skip

# Cleanba (cleanba_impala.py): unroll 20, RMSProp, 4 minibatches in one pass
IMPALA_ATARI = ImpalaConfig(
    total_steps=10_000_000, checkpoint_steps=1_000_000, log_steps=10_240, minibatches=4, clip_rewards=True,
    life_loss_ends=True,
)  # fmt: skip

TOY: dict[str, Any] = {"total_steps": 20_000, "checkpoint_steps": 10_000, "log_steps": 1_000, "stop_return": None}

DQN_BOX2D = replace(DQN_CLASSIC, total_steps=500_000, learning_rate=5e-4)
DQN_TOY = replace(
    DQN_CLASSIC, epsilon_steps=5_000, learning_starts=200, epsilon_end=0.1, hidden=(64, 64), batch_size=32,
    replay_ratio=0.25, **TOY,
)  # fmt: skip

SAC_TOY = derive(SACConfig, DQN_TOY, learning_rate=1e-3, target_entropy_scale=0.3, target_period=1, target_tau=0.01)

VALUE_BASES: dict[str, DQNConfig] = {
    "classic": DQN_CLASSIC,
    "box2d": DQN_BOX2D,
    "atari": DQN_ATARI,
    "minatar": DQN_MINATAR,
    "minigrid": DQN_MINIGRID,
    "toy": DQN_TOY,
}
"""What the DQN family starts from, by game family."""

RANGES: dict[str, dict[str, Any]] = {
    "classic": {"v_min": -100.0, "v_max": 100.0, "atoms": 101},
    "box2d": {"v_min": -100.0, "v_max": 100.0, "atoms": 101},
    "atari": {"v_min": -10.0, "v_max": 10.0},
    "minatar": {"v_min": 0.0, "v_max": 50.0},
    "minigrid": {"v_min": 0.0, "v_max": 1.0},
    "toy": {"v_min": -1.0, "v_max": 5.0},
}
"""The returns that C51's atoms span, by game family."""


def _value_presets(family: str, base: DQNConfig) -> dict[tuple[str, str], TrainConfig]:
    """Return the presets of the whole DQN family, for one game family."""
    atari, toy = family == "atari", family == "toy"
    image = atari or family == "minatar"
    span = RANGES[family]
    # quantile agents: Adam's rates and epsilon of Dabney et al., where images are learned from
    rate: dict[str, Any] = {"learning_rate": 5e-5, "adam_epsilon": 3.125e-4} if atari else {}
    rainbow: dict[str, Any] = {**RAINBOW, **span, "head_hidden": 512 if atari else 128}
    # the paper draws 64 taus, at seven times the cost of DQN on a CPU; BTR draws 8
    iqn: dict[str, Any] = {"quantiles": 8, "head_hidden": 512} if atari else {"quantiles": 8, "n_step": 3}
    r2d2: dict[str, Any] = {
        **R2D2, "num_envs": 16, "sequence_length": 16, "burn_in": 8, "batch_size": 16, "head_hidden": 128,
        "core_size": 128, "replay_ratio": 1 / 16, "learning_rate": 5e-4, "target_period": 200,
    }  # fmt: skip
    if atari:
        # a quarter of the paper's batch, but each row learned from four times: there are fewer of them
        r2d2 |= {"sequence_length": 80, "burn_in": 40, "batch_size": 16, "head_hidden": 512, "core_size": 512,
                 "replay_ratio": 1 / 320, "learning_rate": 1e-4, "target_period": 1_000, "num_envs": 64}  # fmt: skip
    if toy:
        r2d2 |= {"gamma": base.gamma, "burn_in": 2, "sequence_length": 8, "num_envs": 8, "core_size": 32,
                 "head_hidden": 32, "n_step": 2, "learning_starts": 400, "exploration": "linear"}  # fmt: skip
    btr: dict[str, Any] = {**BTR, "head_hidden": 512 if atari else 128}
    if image:
        btr |= {"num_envs": 64, "batch_size": 256, "replay_ratio": 1 / 64, "learning_rate": 1e-4,
                "adam_epsilon": 0.005 / 256, "target_period": 500}  # fmt: skip
    if atari:
        btr |= {"torso": "impala-large", "learning_starts": 200_000, "epsilon_steps": 2_000_000,
                "replay_capacity": 1_048_576}  # fmt: skip
    return {
        ("dqn", family): base,
        ("c51", family): derive(C51Config, base, **span | ({"learning_rate": 2.5e-4} if atari else {})),
        ("qr-dqn", family): derive(QRDQNConfig, base, quantiles=200 if atari else 32, **rate),
        ("iqn", family): derive(IQNConfig, base, **iqn, **rate),
        ("rainbow", family): derive(C51Config, base, **rainbow),
        ("btr", family): derive(IQNConfig, base, **btr),
        ("r2d2", family): derive(DQNConfig, base, **r2d2),
    }


PPO_BASES: dict[str, PPOConfig] = {
    "classic": PPO_CLASSIC,
    "box2d": replace(PPO_CLASSIC, total_steps=1_000_000, num_envs=16, gamma=0.999, gae_lambda=0.98,
                     rollout_length=128, epochs=4, entropy_coef=0.01, value_scale="normalize"),
    "atari": PPO_ATARI,
    "minatar": PPO_MINATAR,
    "minigrid": PPO_MINIGRID,
    "toy": replace(PPO_CLASSIC, rollout_length=16, entropy_coef=0.01, **TOY),
}  # fmt: skip
"""Family -> PPO's preset, which those of PPO with novelty derive from."""

PRESETS: dict[tuple[str, str], TrainConfig] = {
    **{key: config for family, base in VALUE_BASES.items() for key, config in _value_presets(family, base).items()},
    ("dqn", "atari-100k"): DQN_100K,
    ("rainbow", "atari-100k"): DER,
    ("pqn", "classic"): PQN_CLASSIC,
    ("pqn", "box2d"): replace(PQN_CLASSIC, total_steps=1_000_000, num_envs=16),
    ("pqn", "atari"): PQN_ATARI,
    ("pqn", "minatar"): PQN_MINATAR,
    ("pqn", "minigrid"): replace(PQN_MINATAR, total_steps=1_000_000),
    ("pqn", "toy"): replace(PQN_CLASSIC, rollout_length=16, **TOY),
    **{("ppo", family): base for family, base in PPO_BASES.items()},
    ("ppo", "minigrid-missions"): PPO_MISSIONS,
    ("ppo", "fast"): PPO_FAST,
    ("ppo", "atari-fast"): PPO_ATARI_FAST,
    **{("rnd", family): derive(RNDConfig, base) for family, base in PPO_BASES.items()},
    ("a2c", "classic"): A2C_CLASSIC,
    ("a2c", "box2d"): replace(A2C_CLASSIC, total_steps=1_000_000, gamma=0.995, entropy_coef=0.01),
    ("a2c", "atari"): A2C_ATARI,
    ("a2c", "minatar"): replace(A2C_ATARI, total_steps=3_000_000, num_envs=64, clip_rewards=False,
                                checkpoint_steps=500_000),
    ("a2c", "minigrid"): replace(A2C_CLASSIC, rollout_length=16, entropy_coef=0.01),
    ("a2c", "toy"): replace(A2C_CLASSIC, rollout_length=16, num_envs=8, entropy_coef=0.01, **TOY),
    ("reinforce", "classic"): REINFORCE_CLASSIC,
    ("reinforce", "box2d"): replace(REINFORCE_CLASSIC, total_steps=1_000_000, rollout_length=1_024, entropy_coef=0.01),
    ("reinforce", "atari"): replace(REINFORCE_CLASSIC, total_steps=10_000_000, checkpoint_steps=1_000_000, num_envs=4,
                                    log_steps=10_240, rollout_length=2_048, learning_rate=1e-3, entropy_coef=0.01,
                                    clip_rewards=True),
    ("reinforce", "minatar"): replace(REINFORCE_CLASSIC, total_steps=3_000_000, num_envs=32, entropy_coef=0.01),
    ("reinforce", "minigrid"): replace(REINFORCE_CLASSIC, rollout_length=1_024, entropy_coef=0.01),
    ("reinforce", "toy"): replace(REINFORCE_CLASSIC, rollout_length=64, entropy_coef=0.01, **TOY),
    ("impala", "classic"): IMPALA_CLASSIC,
    ("impala", "box2d"): replace(IMPALA_CLASSIC, total_steps=1_000_000, gamma=0.995, entropy_coef=0.01),
    ("impala", "atari"): IMPALA_ATARI,
    ("impala", "minatar"): replace(IMPALA_ATARI, total_steps=3_000_000, clip_rewards=False, checkpoint_steps=500_000),
    ("impala", "minigrid"): replace(IMPALA_CLASSIC, entropy_coef=0.01),
    ("impala", "toy"): replace(IMPALA_CLASSIC, rollout_length=16, num_envs=8, entropy_coef=0.01, **TOY),
    ("sac", "classic"): SAC_CLASSIC,
    ("sac", "box2d"): replace(SAC_CLASSIC, total_steps=500_000),
    ("sac", "atari"): SAC_ATARI,
    ("sac", "minatar"): SAC_MINATAR,
    ("sac", "minigrid"): derive(SACConfig, DQN_MINIGRID, learning_rate=3e-4, target_entropy_scale=0.5),
    ("sac", "toy"): SAC_TOY,
    **zoo_presets.PRESETS,
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
    return replace(config, **config.tiny())


def without_memory(config: Any) -> dict[str, Any]:
    """Return the fields that take a recurrent agent its core, and leave it as many rows to learn from."""
    off: dict[str, Any] = {"core": "none", "burn_in": 0}
    whole = isinstance(config, RolloutConfig) and config.sequence_length == 0  # which it is with a memory or without
    off |= {} if whole else {"sequence_length": 1}
    replayed = isinstance(config, ReplayConfig)
    return off | ({"batch_size": config.batch_size * config.sequence_length} if replayed else {})


def memory(config: TrainConfig, core: CoreName | str | None) -> TrainConfig:
    """Return the settings with this core, and sequences to train it on; None leaves them as they are."""
    if core is None or core == config.core:
        return config
    if core not in get_args(CoreName):
        raise ConfigError(f"--core must be one of {', '.join(get_args(CoreName))}, not {core}")
    recurrent: dict[str, Any] = {"core": core}
    if core == "none":
        recurrent = without_memory(config)
    elif config.core == "none":
        if getattr(config, "sequence_length", 0) == 1:
            recurrent |= {"sequence_length": gcd(16, getattr(config, "rollout_length", 16))}
        if isinstance(config, ReplayConfig):  # a sequence is as much work as its rows
            recurrent |= {"batch_size": max(config.batch_size // 4, 4), "replay_ratio": config.replay_ratio / 2}
    known = {field.name for field in fields(config)}
    return replace(config, **{name: value for name, value in recurrent.items() if name in known})

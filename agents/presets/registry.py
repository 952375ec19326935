"""The registry: name -> algorithm, and (algorithm, game family or name) -> tuned settings.

A new agent is a line in ALGORITHMS, and a preset for each game family that it was tuned on.
"""

from __future__ import annotations

from dataclasses import fields, replace
from math import gcd
from typing import Any, get_args

from agents.config import ReplayConfig, RolloutConfig, TrainConfig
from agents.errors import ConfigError
from agents.learner import Learner
from agents.policy.a2c import A2C, A2CConfig
from agents.policy.impala import Impala, ImpalaConfig
from agents.policy.ppo import PPO, PPOConfig
from agents.policy.reinforce import Reinforce, ReinforceConfig
from agents.policy.rnd import RND, RNDConfig
from agents.policy.sac import SAC, SACConfig
from agents.presets import atari, box2d, classic, minatar, minigrid, toy
from agents.presets.base import Presets
from agents.sb3 import zoo_presets
from agents.sb3.agent import StableBaseline
from agents.value.c51 import C51, C51Config
from agents.value.dqn import DQN, DQNConfig
from agents.value.iqn import IQN, IQNConfig
from agents.value.pqn import PQN, PQNConfig
from agents.value.qr_dqn import QRDQN, QRDQNConfig
from networks.cores import CoreName

ALGORITHMS: dict[str, tuple[type[TrainConfig], type[Learner]]] = {
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

PRESETS: Presets = {
    **classic.PRESETS,
    **box2d.PRESETS,
    **atari.PRESETS,
    **minatar.PRESETS,
    **minigrid.PRESETS,
    **toy.PRESETS,
    **zoo_presets.PRESETS,
}


def preset(algorithm: str, name: str) -> TrainConfig:
    """Return the preset, or raise a ConfigError that lists the known ones."""
    if algorithm not in ALGORITHMS:
        raise ConfigError(f"unknown algorithm '{algorithm}'; there are {', '.join(ALGORITHMS)}")
    if (algorithm, name) not in PRESETS:
        known = ", ".join(key for owner, key in PRESETS if owner == algorithm)
        raise ConfigError(f"{algorithm} has no preset '{name}'; there are {known}")
    return PRESETS[algorithm, name]


def zoo_preset(algorithm: str, env_id: str, family: str) -> str | None:
    """Return the name of rl-baselines3-zoo's preset for a game; None where the zoo has none for this algorithm."""
    name = zoo_presets.entry(env_id, family)
    return name if (algorithm, name) in PRESETS else None


def is_baseline(algorithm: str) -> bool:
    """Whether the algorithm is one of Stable-Baselines3's."""
    return algorithm in zoo_presets.KINDS


def tiny(config: TrainConfig) -> TrainConfig:
    """Return the same settings at a size that trains, saves and acts within seconds."""
    return replace(config, **config.tiny())


def without_core(config: TrainConfig) -> dict[str, Any]:
    """Return the overrides that turn recurrence off at equal rows per batch."""
    overrides: dict[str, Any] = {"core": "none", "burn_in": 0}
    if not (isinstance(config, RolloutConfig) and config.sequence_length == 0):  # 0, the whole rollout, stays
        overrides["sequence_length"] = 1
    if isinstance(config, ReplayConfig):
        overrides["batch_size"] = config.batch_size * config.sequence_length
    return overrides


def with_core(config: TrainConfig, core: CoreName | str | None) -> TrainConfig:
    """Return the settings with this core and sequences to train it on; None leaves them as they are."""
    if core is None or core == config.core:
        return config
    if core not in get_args(CoreName):
        raise ConfigError(f"--core must be one of {', '.join(get_args(CoreName))}, not {core}")
    overrides: dict[str, Any] = {"core": core}
    if core == "none":
        overrides = without_core(config)
    elif config.core == "none":
        if getattr(config, "sequence_length", 0) == 1:
            overrides["sequence_length"] = gcd(16, getattr(config, "rollout_length", 16))
        if isinstance(config, ReplayConfig):  # a sequence costs as much as its rows
            overrides |= {"batch_size": max(config.batch_size // 4, 4), "replay_ratio": config.replay_ratio / 2}
    known = {field.name for field in fields(config)}
    return replace(config, **{name: value for name, value in overrides.items() if name in known})

"""Shared by the families: `derive`, the switches of Rainbow, BTR and R2D2, and the table of the DQN family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from types import MappingProxyType
from typing import Any, TypeVar

from agents.config import TrainConfig
from agents.value.c51 import C51Config
from agents.value.dqn import DQNConfig
from agents.value.iqn import IQNConfig
from agents.value.qr_dqn import QRDQNConfig

Config = TypeVar("Config", bound=TrainConfig)
Presets = dict[tuple[str, str], TrainConfig]
"""(algorithm, family or a name for --preset) -> config."""
Changes = Mapping[str, Any]
NONE: Mapping[str, Changes] = MappingProxyType({})

# Hessel et al. 2018, table 1
RAINBOW: Changes = {
    "double": True, "dueling": True, "noisy": True, "replay_sampling": "prioritized", "n_step": 3, "epsilon_start": 0.0,
    "epsilon_end": 0.0, "eval_epsilon": 0.0,
}  # fmt: skip

# Clark et al. 2024, table of hyperparameters: one update of 256 for 64 environments' step, constant learning rate
BTR: Changes = {
    "double": False, "munchausen": True, "dueling": True, "noisy": True, "replay_sampling": "prioritized",
    "priority_exponent": 0.2, "n_step": 3, "quantiles": 8, "gamma": 0.997, "eval_epsilon": 0.01,
}  # fmt: skip

# Kapturowski et al. 2019, table 2. Their Adam epsilon of 1e-3 goes with losses summed over the 80 rows of a sequence;
# here losses are averaged
R2D2: Changes = {
    "core": "lstm", "double": True, "dueling": True, "n_step": 5, "gamma": 0.997, "value_rescale": True,
    "replay_sampling": "prioritized", "priority_exponent": 0.9, "importance_exponent": 0.6, "clip_rewards": False,
    "importance_exponent_end": 0.6, "life_loss_ends": False, "observe_last": True, "exploration": "ladder",
    "huber_delta": 0.0, "optimizer_epsilon": 1e-5,
}  # fmt: skip

# R2D2 at the size of one machine
R2D2_SMALL: Changes = {
    "num_envs": 16, "sequence_length": 16, "burn_in": 8, "batch_size": 16, "head_hidden": 128, "core_size": 128,
    "replay_ratio": 1 / 16, "learning_rate": 5e-4, "target_period": 200,
}  # fmt: skip


def derive(kind: type[Config], base: TrainConfig, **changes: Any) -> Config:
    """Return a config of class `kind` with the fields that it shares with `base`, then `changes`."""
    known = {field.name for field in fields(kind)}
    return kind(**{name: value for name, value in vars(base).items() if name in known} | changes)


def dqn_family(
    family: str, dqn: DQNConfig, support: Changes, changes: Mapping[str, Changes] = NONE
) -> dict[tuple[str, str], TrainConfig]:
    """Return the presets of DQN and its variants for one game family.

    `support` has the range of returns that C51's atoms span; `changes` has, by algorithm, the family's own settings.
    """
    # IQN's paper draws 64 quantile fractions, at seven times the cost of DQN on a CPU; BTR draws 8
    variants: dict[str, tuple[type[DQNConfig], Changes]] = {
        "dqn": (DQNConfig, {}),
        "c51": (C51Config, support),
        "qr-dqn": (QRDQNConfig, {"quantiles": 32}),
        "iqn": (IQNConfig, {"quantiles": 8, "n_step": 3}),
        "rainbow": (C51Config, {**RAINBOW, **support, "head_hidden": 128}),
        "btr": (IQNConfig, {**BTR, "head_hidden": 128}),
        "r2d2": (DQNConfig, {**R2D2, **R2D2_SMALL}),
    }
    return {
        (name, family): derive(kind, dqn, **{**settings, **changes.get(name, {})})
        for name, (kind, settings) in variants.items()
    }

"""Presets for the toy environments of `envs/toy.py`: seconds of training on chains, mazes and memory tasks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agents.policy.rnd import RNDConfig
from agents.policy.sac import SACConfig
from agents.presets.base import Changes, Presets, derive, dqn_family
from agents.presets.classic import A2C_CLASSIC, DQN_CLASSIC, IMPALA_CLASSIC, PPO_CLASSIC, PQN_CLASSIC, REINFORCE_CLASSIC

SHORT: dict[str, Any] = {"total_steps": 20_000, "checkpoint_steps": 10_000, "log_steps": 1_000, "stop_return": None}

DQN_TOY = replace(
    DQN_CLASSIC, epsilon_steps=5_000, learning_starts=200, epsilon_end=0.1, hidden=(64, 64), batch_size=32,
    replay_ratio=0.25, **SHORT,
)  # fmt: skip
PPO_TOY = replace(PPO_CLASSIC, rollout_length=16, entropy_coef=0.01, **SHORT)
R2D2_TOY: Changes = {
    "gamma": DQN_TOY.gamma, "burn_in": 2, "sequence_length": 8, "num_envs": 8, "core_size": 32, "head_hidden": 32,
    "n_step": 2, "learning_starts": 400, "exploration": "linear",
}  # fmt: skip

PRESETS: Presets = {
    **dqn_family("toy", DQN_TOY, {"v_min": -1.0, "v_max": 5.0}, {"r2d2": R2D2_TOY}),
    ("pqn", "toy"): replace(PQN_CLASSIC, rollout_length=16, **SHORT),
    ("ppo", "toy"): PPO_TOY,
    ("rnd", "toy"): derive(RNDConfig, PPO_TOY),
    ("a2c", "toy"): replace(A2C_CLASSIC, rollout_length=16, num_envs=8, entropy_coef=0.01, **SHORT),
    ("reinforce", "toy"): replace(REINFORCE_CLASSIC, rollout_length=64, entropy_coef=0.01, **SHORT),
    ("impala", "toy"): replace(IMPALA_CLASSIC, rollout_length=16, num_envs=8, entropy_coef=0.01, **SHORT),
    ("sac", "toy"): derive(
        SACConfig, DQN_TOY, learning_rate=1e-3, target_entropy_scale=0.3, target_period=1, target_tau=0.01
    ),
}

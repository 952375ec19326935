"""Presets for Box2D's games, such as LunarLander: classic control's, with longer trainings and horizons."""

from __future__ import annotations

from dataclasses import replace

from agents.policy.rnd import RNDConfig
from agents.presets.base import Presets, derive, dqn_family
from agents.presets.classic import (
    A2C_CLASSIC,
    DQN_CLASSIC,
    IMPALA_CLASSIC,
    PPO_CLASSIC,
    PQN_CLASSIC,
    REINFORCE_CLASSIC,
    SAC_CLASSIC,
)

DQN_BOX2D = replace(DQN_CLASSIC, total_steps=500_000, learning_rate=5e-4)
PPO_BOX2D = replace(
    PPO_CLASSIC, total_steps=1_000_000, num_envs=16, gamma=0.999, gae_lambda=0.98, rollout_length=128, epochs=4,
    entropy_coef=0.01, value_scale="normalize",
)  # fmt: skip

PRESETS: Presets = {
    **dqn_family("box2d", DQN_BOX2D, {"v_min": -100.0, "v_max": 100.0, "atoms": 101}),
    ("pqn", "box2d"): replace(PQN_CLASSIC, total_steps=1_000_000, num_envs=16),
    ("ppo", "box2d"): PPO_BOX2D,
    ("rnd", "box2d"): derive(RNDConfig, PPO_BOX2D),
    ("a2c", "box2d"): replace(A2C_CLASSIC, total_steps=1_000_000, gamma=0.995, entropy_coef=0.01),
    ("reinforce", "box2d"): replace(REINFORCE_CLASSIC, total_steps=1_000_000, rollout_length=1_024, entropy_coef=0.01),
    ("impala", "box2d"): replace(IMPALA_CLASSIC, total_steps=1_000_000, gamma=0.995, entropy_coef=0.01),
    ("sac", "box2d"): replace(SAC_CLASSIC, total_steps=500_000),
}

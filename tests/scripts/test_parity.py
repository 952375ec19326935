"""Our evaluation and Stable-Baselines3's evaluate_policy give one policy the same scores for the same seeds."""

from __future__ import annotations

import zlib
from dataclasses import replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from agents.build import build_agent
from agents.evaluate import evaluate
from agents.learner import Learner
from agents.presets.registry import ALGORITHMS, PRESETS, tiny, with_core
from agents.value.dqn import DQN, DQNConfig
from envs.make import family, make_env, resolve_protocol
from scripts.runner.environments import environments
from tests.machine import CPU

SEED, GAMES = 11, 4


class AsModel:
    """Adapter from our agent to evaluate_policy: `predict` from observations, memory and episode starts."""

    def __init__(self, agent: Learner):
        self.agent, self.rng = agent, torch.Generator().manual_seed(0)

    def predict(
        self, obs: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, Any]:
        carry = self.agent.initial_carry(len(obs)) if state is None else state
        action, carry, _ = self.agent.act(obs, np.asarray(episode_start, bool), carry, None, self.rng)
        return action, carry


class HashedActions(DQN):
    """An agent whose actions depend on every pixel: an untrained network plays all games alike."""

    def act(self, obs: Any, *rest: Any) -> Any:
        _, carry, extras = super().act(obs, *rest)
        return np.array([zlib.crc32(row.tobytes()) % self.num_actions for row in obs]), carry, extras


@pytest.mark.parametrize(
    ("env", "protocol", "core"),
    [
        ("CartPole-v1", "native", "none"),
        ("CartPole-v1", "native", "gru"),
        ("MinAtar/SpaceInvaders-v1", "native", "none"),
        ("ALE/Breakout-v5", "machado", "none"),  # classic draws other no-ops in a single environment
    ],
)
def test_both_evaluations_give_the_same_scores(
    env: str, protocol: str, core: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("stable_baselines3")
    from stable_baselines3.common.evaluation import evaluate_policy
    from stable_baselines3.common.monitor import Monitor
    from stable_baselines3.common.vec_env import DummyVecEnv

    config: Any = replace(
        cast(Any, with_core(tiny(PRESETS["dqn", family(env)]), core)), env=env, protocol=protocol, eval_epsilon=0.0,
        image_size=44 if family(env) == "atari" else None, seed=5,
    )  # fmt: skip
    envs = environments(config, GAMES)
    monkeypatch.setitem(ALGORITHMS, "hashed", (DQNConfig, HashedActions))
    agent = build_agent("dqn" if core != "none" else "hashed", config, envs, CPU)
    ours = evaluate(agent, envs, GAMES, SEED)
    played = resolve_protocol(env, protocol, config.image_size)
    theirs = DummyVecEnv([lambda: Monitor(make_env(env, played, render_mode=None))] * GAMES)
    theirs.seed(SEED)
    model: Any = AsModel(agent)
    returns, lengths = evaluate_policy(model, theirs, GAMES, deterministic=True, return_episode_rewards=True)
    scores = [(record.episode_return, record.length) for record in ours.records]
    assert sorted(scores) == sorted(zip(returns, lengths, strict=True))  # theirs are in the order of their ends
    assert len(set(scores)) > 1  # equal games would agree under any evaluation

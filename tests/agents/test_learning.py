"""Agents reach known optima on toys; recurrent ones remember, feed-forward ones provably cannot."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from agents.on_policy import RolloutLearner
from agents.presets.registry import OURS, PRESETS, with_core
from envs.toy import ChainEnv, DeepSeaEnv, EndlessRewardEnv, MemoryChainEnv, RepeatPreviousEnv, TMazeEnv
from envs.wrappers import ObserveLast
from tests.agents.helpers import mean_return, train


def played(config, envs):
    """Wrap the environments as the config asks."""
    return ObserveLast(envs) if config.observe_last else envs


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", OURS)
@pytest.mark.parametrize("core", ["none", "gru"])
def test_chain_optimum(algorithm, core, vector, tmp_path) -> None:
    config = replace(with_core(PRESETS[algorithm, "toy"], core), core_size=32, gamma=0.9)
    agent, _ = train(algorithm, config, played(config, vector(ChainEnv, config.num_envs)), tmp_path)
    assert mean_return(agent, played(config, vector(ChainEnv, 4))) > 0.9  # the optimum is 1, impatience pays 0.1


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", OURS)
@pytest.mark.parametrize(("core", "least", "most"), [("none", -0.5, 0.5), ("gru", 0.9, 1.0), ("lstm", 0.9, 1.0)])
def test_memory_chain_needs_memory(algorithm, core, least, most, vector, tmp_path) -> None:
    config = replace(with_core(PRESETS[algorithm, "toy"], core), core_size=32, total_steps=40_000)
    agent, _ = train(algorithm, config, played(config, vector(MemoryChainEnv, config.num_envs)), tmp_path)
    assert least <= mean_return(agent, played(config, vector(MemoryChainEnv, 4)), 200) <= most


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ["dqn", "c51", "iqn", "pqn", "ppo", "a2c", "impala", "reinforce", "rnd"])
def test_value_under_time_limits(algorithm, vector, tmp_path) -> None:
    config = replace(PRESETS[algorithm, "toy"], gamma=0.8, total_steps=20_000)
    agent, _ = train(algorithm, config, vector(EndlessRewardEnv, config.num_envs), tmp_path)
    output, _ = agent.model(torch.ones(1, 1), agent.initial_carry(1), torch.ones(1, dtype=torch.bool))
    value = agent.value(output) if isinstance(agent, RolloutLearner) else output.q.max()
    assert value.item() == pytest.approx(1 / (1 - 0.8), rel=0.05)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "horizon", "chance", "gamma"), [(TMazeEnv, 8, 0.5, 0.98), (RepeatPreviousEnv, 2, 0.25, 0.5)]
)
def test_memory_tasks_need_memory(kind, horizon, chance, gamma, vector, tmp_path) -> None:
    base = replace(PRESETS["ppo", "toy"], num_envs=16, rollout_length=64, total_steps=120_000, core_size=64)
    base = replace(base, gamma=gamma)
    for core in ("none", "gru"):
        config = replace(with_core(base, core), sequence_length=64 if core == "gru" else 1)
        agent, _ = train("ppo", config, vector(kind, 16, horizon=horizon), tmp_path / core)
        found = mean_return(agent, vector(kind, 8, horizon=horizon), 400)
        assert found > 0.9 if core == "gru" else found == pytest.approx(chance, abs=0.08)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("algorithm", "steps", "least", "most"), [("rnd", 100_000, 0.9, 1.0), ("ppo", 50_000, -1.0, 0.1)]
)
def test_novelty_finds_a_treasure_that_random_play_does_not(algorithm, steps, least, most, vector, tmp_path) -> None:
    config = replace(PRESETS[algorithm, "toy"], num_envs=16, gamma=0.99, total_steps=steps)
    agent, _ = train(algorithm, config, vector(DeepSeaEnv, 16), tmp_path)
    assert least <= mean_return(agent, vector(DeepSeaEnv, 4)) <= most

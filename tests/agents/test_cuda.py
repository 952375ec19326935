"""On a GPU: every agent trains, in float32 and bfloat16, and acts on a CPU as on the GPU."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.build import build_agent, fit_normalization
from agents.learner import Learner
from agents.loops import interact
from agents.presets.registry import OURS
from agents.run import checkpoint
from agents.run.machine import MachineFacts
from networks.cores import CoreName
from scripts.runner.environments import environments
from tests.agents.helpers import fit
from tests.agents.test_presets import small
from tests.machine import CPU

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CASES: list[tuple[str, str, CoreName]] = [
    *((algorithm, "atari", "none") for algorithm in OURS),
    *((algorithm, "minigrid", "lstm") for algorithm in OURS),
    ("ppo", "fast", "none"),
    ("dqn", "atari-100k", "none"),
]


def values(agent: Learner, config, rows: int = 10) -> np.ndarray:
    """Return the agent's values [rows, N] along random actions, the same for all agents."""
    envs = environments(config, 2, threads=1)
    envs.action_space.seed(0)
    obs, carry, first, values = envs.reset(seed=3)[0], agent.initial_carry(2), np.ones(2, bool), []
    rng = torch.Generator(agent.device).manual_seed(0)
    for _ in range(rows):
        _, carry, extras = agent.act(obs, first, carry, None, rng)
        values.append(extras["value"])
        obs, first = envs.step(envs.action_space.sample())[0], np.zeros(2, bool)
    envs.close()
    return np.stack(values)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize(("algorithm", "name", "core"), CASES)
def test_an_agent_trained_on_a_gpu_acts_alike_on_a_cpu(
    algorithm: str, name: str, core: CoreName, bf16: bool, tmp_path: Path
) -> None:
    config = small(algorithm, name, core)
    envs = environments(config, config.num_envs, threads=1)
    agent = build_agent(algorithm, config, envs, MachineFacts("cuda", 1, bf16))
    fit_normalization(agent, envs, config.seed)
    run = fit(agent, envs, tmp_path)
    envs.close()
    assert run.updates > 0
    assert all(weight.is_cuda for weight in agent.model.parameters())
    assert all(bool(torch.isfinite(weight).all()) for weight in agent.model.parameters())
    envs = environments(config, 1, threads=1)
    twin = build_agent(algorithm, config, envs, CPU)
    envs.close()
    checkpoint.load_agent(checkpoint.resolve(tmp_path / "checkpoints"), twin)
    assert checkpoint.weights_sha256(twin) == checkpoint.weights_sha256(agent)
    tolerance = 0.1 if bf16 else 1e-2  # TF32 in cuDNN's convolutions
    here, there = values(agent, config), values(twin, config)
    np.testing.assert_allclose(here, there, rtol=tolerance, atol=tolerance * max(float(np.abs(there).max()), 0.1))


def test_a_seed_determines_random_draws_on_a_gpu() -> None:
    config = replace(small("ppo", "minigrid", "none"), total_steps=100)
    drawn = []
    for _ in range(2):
        envs = environments(config, 2, threads=1)
        agent = build_agent("ppo", config, envs, MachineFacts("cuda", 1, False))
        rows = interact(agent, envs, [0, 1], torch.Generator("cuda").manual_seed(4), 0)
        drawn.append(np.stack([row.action for row, _ in zip(rows, range(30), strict=False)]))
        envs.close()
    np.testing.assert_array_equal(drawn[0], drawn[1])

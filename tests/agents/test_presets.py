"""Every preset at its tiny size trains, saves, loads and acts identically; the seed alone decides the weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.build import build_agent, fit_normalization
from agents.config import RolloutConfig, TrainConfig
from agents.errors import ConfigError
from agents.learner import Learner
from agents.loops import interact
from agents.presets.registry import ALGORITHMS, OURS, PRESETS, preset, tiny, with_core
from agents.run import checkpoint
from agents.run.run import Run
from agents.sb3 import zoo_presets
from envs.make import family
from networks.cores import CoreName
from scripts.runner.environments import environments
from tests.agents.helpers import fit
from tests.conftest import CPU

GAMES = {
    "classic": "CartPole-v1",
    "box2d": "LunarLander-v3",
    "atari": "ALE/Pong-v5",
    "atari-100k": "ALE/Pong-v5",
    "atari-fast": "ALE/Pong-v5",
    "fast": "ALE/Pong-v5",
    "minatar": "MinAtar/Breakout-v1",
    "minigrid": "MiniGrid-Empty-5x5-v0",
    "minigrid-missions": "BabyAI-GoToLocalS6N3-v0",
    "toy": "joypad/MemoryChain-v0",
    "zoo-cartpole": "CartPole-v1",
    "zoo-lunarlander": "LunarLander-v3",
    "zoo-atari": "ALE/Pong-v5",
    "zoo-minatar": "MinAtar/Breakout-v1",
}
"""Preset -> a game of its family."""
TWINS: list[tuple[str, str, CoreName]] = [
    *((algorithm, name, "none") for algorithm, name in PRESETS if algorithm in OURS),
    *(
        (algorithm, name, "lstm")
        for algorithm, name in PRESETS
        if algorithm in OURS and name not in ("atari", "atari-100k", "atari-fast", "box2d")
    ),
]
"""Every preset without a memory, and those for small observations with an LSTM too."""


def small(algorithm: str, name: str, core: CoreName) -> TrainConfig:
    """Return the tiny preset; Atari frames are small too."""
    config = replace(with_core(tiny(PRESETS[algorithm, name]), core), env=GAMES[name], total_steps=300, core_size=16)
    if name.startswith("atari"):
        config = replace(config, image_size=44, total_steps=150)
    if isinstance(config, RolloutConfig) and core != "none" and config.sequence_length:
        config = replace(config, sequence_length=8)
    return replace(config, stop_return=None)


def train(algorithm: str, config: TrainConfig, folder: Path) -> tuple[Learner, Run]:
    """Train as `train.py` does, to the last checkpoint."""
    envs = environments(config, config.num_envs, threads=1)
    agent = build_agent(algorithm, config, envs, CPU)
    fit_normalization(agent, envs, config.seed)
    run = fit(agent, envs, folder)
    envs.close()
    return agent, run


def actions(agent: Learner, config: TrainConfig, exploring: bool) -> np.ndarray:
    """Return actions, and the bits of the values, of 20 steps, [20, 2 N]."""
    envs = environments(config, config.num_envs, threads=1)
    rng = torch.Generator().manual_seed(3)
    seeds = list(range(config.num_envs))
    rows = interact(agent, envs, seeds, rng, 100 if exploring else None)
    steps = []
    for row, _ in zip(rows, range(20), strict=False):
        steps.append(np.concatenate([row.action, row.extras["value"].view(np.int32)]))
    envs.close()
    return np.stack(steps)


def test_the_table_of_games_covers_every_preset() -> None:
    assert {name for _, name in PRESETS} == set(GAMES)
    assert {algorithm for algorithm, _ in PRESETS} == set(ALGORITHMS)
    for name, env_id in GAMES.items():
        assert (
            family(env_id) == name.split("-")[0] or name == "fast" or name == zoo_presets.entry(env_id, family(env_id))
        )


@pytest.mark.parametrize(("algorithm", "name", "core"), TWINS)
def test_a_tiny_preset_trains_saves_loads_and_acts_the_same(
    algorithm: str, name: str, core: CoreName, tmp_path: Path
) -> None:
    config = small(algorithm, name, core)
    agent, run = train(algorithm, config, tmp_path)
    assert run.env_steps >= config.total_steps
    assert run.updates == max(int(state["step"]) for state in agent.optimizer.state.values()) > 0
    envs = environments(config, 1, threads=1)
    fresh = build_agent(algorithm, replace(config, seed=99), envs, CPU)
    untrained = checkpoint.weights_sha256(fresh)
    state = checkpoint.load_agent(checkpoint.resolve(tmp_path / "checkpoints"), fresh)
    assert untrained != checkpoint.weights_sha256(agent)
    assert checkpoint.weights_sha256(fresh) == checkpoint.weights_sha256(agent) == state["weights_sha256"]
    assert fresh.updates == agent.updates
    for exploring in (True, False):
        np.testing.assert_array_equal(actions(agent, config, exploring), actions(fresh, config, exploring))
    # the optimizer is restored too: moments and learning rate
    before, after = agent.optimizer_state()["tensors"], fresh.optimizer_state()["tensors"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


@pytest.mark.parametrize(
    ("algorithm", "name", "core"),
    [("dqn", "classic", "none"), ("dqn", "toy", "lstm"), ("dqn", "minatar", "none"), ("ppo", "classic", "none"),
     ("rainbow", "classic", "none"), ("iqn", "minatar", "none"), ("btr", "atari", "none"), ("r2d2", "toy", "lstm"),
     ("pqn", "minatar", "none"), ("ppo", "toy", "lstm"), ("ppo", "minigrid", "none"), ("ppo", "fast", "none"),
     ("dqn", "atari", "none"), ("sac", "minatar", "none"), ("sac", "toy", "lstm")],
)  # fmt: skip
def test_the_seed_decides_the_weights(algorithm: str, name: str, core: CoreName, tmp_path: Path) -> None:
    config = small(algorithm, name, core)
    hashes = []
    for number, seed in enumerate((5, 5, 6)):
        torch.manual_seed(1000 + number)  # earlier random draws of the process have no effect
        agent, _ = train(algorithm, replace(config, seed=seed), tmp_path / str(number))
        hashes.append(checkpoint.weights_sha256(agent))
    assert hashes[0] == hashes[1]
    assert hashes[0] != hashes[2]


@pytest.mark.parametrize(("algorithm", "name"), list(PRESETS))
def test_a_preset_is_valid_with_every_core(algorithm: str, name: str) -> None:
    for core in ("none", "gru", "lstm") if algorithm in OURS else ("none",):
        config = with_core(preset(algorithm, name), core)
        config.validate()
        assert config.core == core
        with_core(tiny(preset(algorithm, name)), core).validate()
        assert type(config).from_json(vars(config) | {"hidden": list(config.hidden)}) == config


def test_unknown_names_list_the_known_ones() -> None:
    with pytest.raises(ConfigError, match="unknown algorithm 'sarsa'; there are dqn, c51"):
        preset("sarsa", "classic")
    with pytest.raises(ConfigError, match="dqn has no preset 'fast'; there are classic"):
        preset("dqn", "fast")
    with pytest.raises(ConfigError, match="--core must be one of none, gru, lstm, not elman"):
        with_core(preset("dqn", "classic"), "elman")  # type: ignore[arg-type]

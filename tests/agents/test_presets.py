"""Every preset at its tiny size builds and acts; it trains, saves, loads and acts identically; the seed alone decides
the weights.

The fast tests train the presets in FAST, which together have every algorithm, torso and switch; the others are slow.
"""

from __future__ import annotations

from dataclasses import MISSING, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.build import build_agent, fit_normalization
from agents.config import ReplayConfig, RolloutConfig, TrainConfig
from agents.errors import ConfigError
from agents.learner import Learner
from agents.loops import interact
from agents.presets.registry import ALGORITHMS, OURS, PRESETS, preset, tiny, with_core
from agents.run import checkpoint
from agents.run.run import Run
from agents.sb3 import zoo_presets
from agents.settings import EnvironmentSettings
from envs.action_replays import RecordEpisodes
from envs.make import family
from networks.cores import CoreName
from scripts.runner.environments import environments
from tests.agents.helpers import fit
from tests.machine import CPU

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
FAST: list[tuple[str, str, CoreName]] = [
    ("dqn", "minigrid", "none"), ("dqn", "atari-100k", "none"), ("dqn", "classic", "lstm"),
    ("c51", "box2d", "none"), ("c51", "minatar", "lstm"),
    ("qr-dqn", "minatar", "none"), ("qr-dqn", "toy", "lstm"),
    ("iqn", "classic", "none"), ("iqn", "classic", "lstm"),
    ("rainbow", "atari-100k", "none"), ("rainbow", "classic", "lstm"),
    ("btr", "atari", "none"), ("btr", "classic", "lstm"),
    ("r2d2", "classic", "none"), ("r2d2", "classic", "lstm"),
    ("pqn", "box2d", "none"), ("pqn", "minatar", "lstm"),
    ("reinforce", "minatar", "none"), ("reinforce", "classic", "lstm"),
    ("a2c", "toy", "none"), ("a2c", "minatar", "lstm"),
    ("ppo", "classic", "none"), ("ppo", "atari-fast", "none"), ("ppo", "fast", "lstm"),
    ("ppo", "minigrid-missions", "lstm"),
    ("rnd", "minigrid", "none"), ("rnd", "toy", "lstm"),
    ("impala", "classic", "none"), ("impala", "minatar", "lstm"),
    ("sac", "toy", "none"), ("sac", "minigrid", "lstm"),
]  # fmt: skip
"""Twins that together have the traits of all (see `traits`): the fast tests train these, the slow ones all others."""


def traits(algorithm: str, name: str, core: CoreName) -> set[tuple[Any, ...]]:
    """Return the parts of the suite that a twin runs through, and its switches and numbers other than the default."""
    config = with_core(PRESETS[algorithm, name], core)
    agent = ALGORITHMS[algorithm][1].__name__
    kind = family(GAMES[name])
    memory = "replay" if isinstance(config, ReplayConfig) else "rollouts"
    observation = "numbers" if kind in ("classic", "box2d", "toy") else "image"
    found: set[tuple[Any, ...]] = {(algorithm, core), (agent, observation), (memory, kind, core)}
    for each in fields(config):
        value, default = getattr(config, each.name), each.default
        if isinstance(value, bool | str | None):
            found.add((memory, each.name, value))
        elif value != (each.default_factory() if each.default_factory is not MISSING else default):
            found.add((memory, each.name, "not the default"))
    return found


def small(algorithm: str, name: str, core: CoreName) -> TrainConfig:
    """Return the tiny preset; Atari frames are small too."""
    config = replace(with_core(tiny(PRESETS[algorithm, name]), core), env=GAMES[name], core_size=16)
    config = replace(config, total_steps=120, checkpoint_steps=80, stop_return=None)
    if family(GAMES[name]) == "atari":
        config = replace(config, image_size=min(config.image_size or 44, 44), checkpoint_steps=120)
    if isinstance(config, RolloutConfig) and core != "none" and config.sequence_length:
        config = replace(config, sequence_length=8)
    return config


def train(algorithm: str, config: TrainConfig, folder: Path, envs: RecordEpisodes | None = None) -> tuple[Learner, Run]:
    """Train as `train.py` does, to the last checkpoint."""
    own = envs is None
    envs = envs or environments(config, config.num_envs, threads=1)
    agent = build_agent(algorithm, config, envs, CPU)
    fit_normalization(agent, envs, config.seed)
    run = fit(agent, envs, folder)
    if own:
        envs.close()
    return agent, run


def assert_they_act_the_same(agent: Learner, copy: Learner, envs: RecordEpisodes) -> None:
    """Compare 20 actions and the bits of their values, in training and in evaluation, on what the first agent sees."""
    for env_steps in (100, None):
        rng, copied_rng = (torch.Generator().manual_seed(3) for _ in range(2))
        carry = copy.initial_carry(envs.num_envs)
        rows = interact(agent, envs, range(envs.num_envs), rng, env_steps)
        for row, _ in zip(rows, range(20), strict=False):
            action, carry, extras = copy.act(row.obs, row.first, carry, env_steps, copied_rng)
            np.testing.assert_array_equal(row.action, action)
            assert row.extras["value"].tobytes() == extras["value"].tobytes()


def test_the_table_of_games_covers_every_preset() -> None:
    assert {name for _, name in PRESETS} == set(GAMES)
    assert {algorithm for algorithm, _ in PRESETS} == set(ALGORITHMS)
    for name, env_id in GAMES.items():
        assert (
            family(env_id) == name.split("-")[0] or name == "fast" or name == zoo_presets.entry(env_id, family(env_id))
        )


def test_the_fast_cases_have_every_trait_of_all() -> None:
    assert set(FAST) <= set(TWINS)
    known = set().union(*(traits(*case) for case in FAST))
    lacking = {case: traits(*case) - known for case in TWINS if not traits(*case) <= known}
    assert not lacking, f"add presets to FAST: {lacking}"


@pytest.mark.parametrize(
    ("algorithm", "name", "core"),
    [*FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in TWINS if case not in FAST)],
)
def test_a_tiny_preset_trains_saves_loads_and_acts_the_same(
    algorithm: str, name: str, core: CoreName, tmp_path: Path
) -> None:
    config = small(algorithm, name, core)
    envs = environments(config, config.num_envs, threads=1)
    agent, run = train(algorithm, config, tmp_path, envs)
    assert run.env_steps >= config.total_steps
    assert run.updates == max(int(state["step"]) for state in agent.optimizer.state.values()) > 0
    fresh = build_agent(algorithm, replace(config, seed=99), envs, CPU)
    untrained = checkpoint.weights_sha256(fresh)
    state = checkpoint.load_agent(checkpoint.resolve(tmp_path / "checkpoints"), fresh)
    assert untrained != checkpoint.weights_sha256(agent)
    assert checkpoint.weights_sha256(fresh) == checkpoint.weights_sha256(agent) == state["weights_sha256"]
    assert fresh.updates == agent.updates
    assert_they_act_the_same(agent, fresh, envs)
    envs.close()
    # the optimizer is restored too: moments and learning rate
    before, after = agent.optimizer_state()["tensors"], fresh.optimizer_state()["tensors"]
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)


STARTS: dict[tuple[str, ...], tuple[RecordEpisodes, Any]] = {}
"""Environments and their first observations, by settings of the environment: presets of a family share them."""


def start_of(config: TrainConfig) -> tuple[RecordEpisodes, Any]:
    """Return the environments of a config and the observations after their reset; nothing steps them."""
    key = tuple(repr(getattr(config, each.name)) for each in fields(EnvironmentSettings))
    if key not in STARTS:
        envs = environments(config, config.num_envs, threads=1)
        STARTS[key] = envs, envs.reset(seed=0)[0]
    return STARTS[key]


@pytest.mark.parametrize(("algorithm", "name", "core"), TWINS)
def test_a_tiny_preset_builds_and_acts(algorithm: str, name: str, core: CoreName) -> None:
    config = small(algorithm, name, core)
    envs, obs = start_of(config)
    agent = build_agent(algorithm, config, envs, CPU)
    first, carry = np.ones(config.num_envs, bool), agent.initial_carry(config.num_envs)
    assert (agent.carry_dim > 0) == (core != "none")
    for env_steps in (0, None):
        action, after, extras = agent.act(obs, first, carry, env_steps, torch.Generator().manual_seed(0))
        assert all(envs.single_action_space.contains(each) for each in action)
        assert after.shape == carry.shape
        assert np.isfinite(extras["value"]).all()


@pytest.mark.parametrize(
    ("algorithm", "name", "core"),
    [("dqn", "classic", "none"), ("dqn", "toy", "lstm"), ("dqn", "minatar", "none"), ("ppo", "classic", "none"),
     ("rainbow", "classic", "none"), ("iqn", "minatar", "none"), ("r2d2", "toy", "lstm"),
     ("pqn", "minatar", "none"), ("ppo", "toy", "lstm"), ("ppo", "minigrid", "none"),
     pytest.param("btr", "atari", "none", marks=pytest.mark.slow),
     pytest.param("ppo", "fast", "none", marks=pytest.mark.slow),
     ("dqn", "atari", "none"), ("sac", "minatar", "none"), ("sac", "toy", "lstm")],
)  # fmt: skip
def test_the_seed_decides_the_weights(algorithm: str, name: str, core: CoreName, tmp_path: Path) -> None:
    config = replace(small(algorithm, name, core), total_steps=80)
    config = replace(config, checkpoint_steps=min(config.checkpoint_steps, 50))
    envs = environments(config, config.num_envs, threads=1)
    hashes = []
    for number, seed in enumerate((5, 5, 6)):
        torch.manual_seed(1000 + number)  # earlier random draws of the process have no effect
        agent, run = train(algorithm, replace(config, seed=seed), tmp_path / str(number), envs)
        assert run.updates > 0
        hashes.append(checkpoint.weights_sha256(agent))
    envs.close()
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

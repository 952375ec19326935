"""The pre-flight: a warning for each known mistake, none for the presets, exact figures, no effect on the training."""

from __future__ import annotations

import io
import re
import shutil
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from rich.console import Console

from agents.build import build_agent, build_replay, replay_layout
from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.presets.registry import PRESETS, tiny, with_core
from agents.run import machine, preflight
from agents.run.checkpoint import weights_sha256
from agents.run.preflight import known_mistakes, plan, warnings_for
from agents.sb3.config import SB3Config
from envs.make import make_envs
from envs.protocols import CLASSIC, MACHADO, NATIVE, GameSpec
from scripts.runner.environments import environments
from tests.agents.helpers import fit
from tests.agents.test_presets import GAMES
from tests.machine import CPU

FRAMES, VECTOR = spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Box(-1, 1, (4,), np.float32)
ATARI = GameSpec("ALE/Pong-v5", {}, CLASSIC, "atari")
CARTPOLE = GameSpec("CartPole-v1", {}, NATIVE, "classic")
DQN, PPO = PRESETS["dqn", "atari"], PRESETS["ppo", "atari"]
CLASSIC_DQN, CLASSIC_PPO = PRESETS["dqn", "classic"], PRESETS["ppo", "classic"]
SB3_DQN, SB3_PPO = PRESETS["sb3-dqn", "classic"], PRESETS["sb3-ppo", "classic"]


@pytest.fixture(autouse=True)
def short_measurements(monkeypatch: Any) -> None:
    monkeypatch.setattr(preflight, "ROW_SECONDS", 0.05)
    monkeypatch.setattr(preflight, "LEARN_SECONDS", 0.05)


MISTAKES: list[tuple[str, str, TrainConfig, spaces.Space, GameSpec]] = [
    ("flat images", "--torso mlp flattens it", replace(DQN, torso="mlp"), FRAMES, ATARI),
    ("flat images", "--torso mlp flattens it", replace(PPO, torso="mlp"), FRAMES, ATARI),
    ("hidden lives", "--life-loss-ends has no effect", PPO, FRAMES, GameSpec("ALE/Pong-v5", {}, MACHADO, "atari")),
    ("frequent checkpoints", "truncate all episodes", replace(CLASSIC_DQN, checkpoint_steps=1_000), VECTOR, CARTPOLE),
    ("frequent checkpoints", "raise --check", replace(PPO, num_envs=512, checkpoint_steps=200_000), FRAMES, ATARI),
    ("memory of stacked frames", "sees each frame several times", with_core(PPO, "lstm"), FRAMES, ATARI),
    ("memory of stacked frames", "sees each frame several times", with_core(DQN, "gru"), FRAMES, ATARI),
    ("unclipped rewards", "rewards are not clipped", replace(DQN, clip_rewards=False), FRAMES, ATARI),
    ("unclipped rewards", "rewards are not clipped", replace(PPO, clip_rewards=False), FRAMES, ATARI),
    ("late learning", "learning starts after", replace(DQN, total_steps=20_000), FRAMES, ATARI),
    ("early exploration", "exploration has ended", replace(DQN, epsilon_steps=10_000), FRAMES, ATARI),
    ("endless exploration", "epsilon is still 0.60 at the last step", replace(DQN, total_steps=100_000), FRAMES, ATARI),
    ("forgetful replay", "the replay forgets", replace(DQN, replay_capacity=10_000), FRAMES, ATARI),
    ("small replay", "fewer than ten minibatches", replace(DQN, replay_capacity=200, batch_size=32), FRAMES, ATARI),
    ("old target", "the target network is never updated", replace(DQN, target_period=10_000_000), FRAMES, ATARI),
    ("repeated steps", "128 times", replace(CLASSIC_DQN, replay_ratio=2.0, batch_size=64), VECTOR, CARTPOLE),
    ("double and soft", "--double has no effect", replace(DQN, double=True, munchausen=True), FRAMES, ATARI),
    ("long rollout", "longer than the whole training", replace(CLASSIC_PPO, total_steps=500), VECTOR, CARTPOLE),
    ("long rollout", "longer than the whole training", replace(PPO, num_envs=1000, total_steps=100_000), FRAMES, ATARI),
    ("long rollout", "lower --n-steps", replace(SB3_PPO, total_steps=100), VECTOR, CARTPOLE),
    ("late learning", "lower --learning-starts", replace(SB3_DQN, total_steps=50), VECTOR, CARTPOLE),
]  # fmt: skip


@pytest.mark.parametrize(("name", "text", "config", "space", "game"), MISTAKES)
def test_a_known_mistake_has_a_warning(
    name: str, text: str, config: TrainConfig, space: spaces.Space, game: GameSpec
) -> None:
    mistake = known_mistakes(config, space, game)[name]
    assert mistake.made
    assert text in mistake.line
    assert "\n" not in mistake.line
    assert mistake.line in warnings_for(config, space, game)


def test_every_warning_is_in_the_table_of_mistakes() -> None:
    """A new warning needs its line in the table above, for our agents and for baselines."""
    for theirs in (False, True):
        configs = [config for (algorithm, _), config in PRESETS.items() if algorithm.startswith("sb3-") == theirs]
        known = {name for config in configs for name in known_mistakes(config, VECTOR, CARTPOLE)}
        of_all = set(known_mistakes(TrainConfig(), VECTOR, CARTPOLE))
        own = {name for name, _, config, *_ in MISTAKES if isinstance(config, SB3Config) == theirs}
        assert known - of_all == own - of_all
    assert of_all <= {name for name, *_ in MISTAKES}


@pytest.mark.parametrize(("algorithm", "name"), list(PRESETS))
def test_a_preset_says_how_it_learns(algorithm: str, name: str) -> None:
    config = PRESETS[algorithm, name]
    assert config.updates_line()
    assert "learning rate" in config.schedule_line()
    assert config.rows_in_memory >= 1


@pytest.mark.parametrize(("algorithm", "name"), list(PRESETS))
def test_a_preset_has_no_warning(algorithm: str, name: str) -> None:
    config = replace(PRESETS[algorithm, name], env=GAMES[name])
    envs = environments(config, 1, threads=1)
    assert warnings_for(config, envs.single_observation_space, envs.game) == []
    envs.close()


def ready(algorithm: str, config: TrainConfig) -> tuple[Any, Any]:
    envs = make_envs(config.env, config.num_envs, threads=1)
    return build_agent(algorithm, config, envs, CPU), envs


@pytest.mark.parametrize(
    ("env_id", "core", "capacity"),
    [("ALE/Pong-v5", "none", 5_000), ("CartPole-v1", "lstm", 30_001), ("MiniGrid-Empty-5x5-v0", "none", 3_000)],
)
def test_the_plan_has_the_bytes_that_the_replay_allocates(
    env_id: str, core: Any, capacity: int, tmp_path: Path
) -> None:
    config = replace(with_core(tiny(CLASSIC_DQN), core), env=env_id, replay_capacity=capacity)
    agent, envs = ready("dqn", config)
    line = plan(agent, envs, envs.game, tmp_path).lines["memory"]
    layout = replay_layout(config, envs, agent.model.carry_dim)
    assert layout is not None
    allocated = sum(array.nbytes for array in build_replay(layout, agent.device).arrays.values())
    assert layout.nbytes == allocated
    assert f"{allocated / 1e9:.3f} GB for replay (exact)" in line
    envs.close()


def test_the_replay_allocates_the_bytes_of_its_layout() -> None:
    config = replace(DQN, replay_capacity=20_000)
    envs = make_envs("ALE/Pong-v5", 8, threads=1)
    layout = replay_layout(config, envs, 0)
    assert layout is not None
    tracemalloc.start()  # NumPy reports its arrays to it; resident memory depends on earlier frees of the process
    replay = build_replay(layout, torch.device("cpu"))
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert replay.next_row == 0
    assert taken == pytest.approx(layout.nbytes, rel=0.01)
    envs.close()


def test_a_replay_beyond_memory_is_an_error_that_names_a_fitting_capacity(monkeypatch: Any) -> None:
    monkeypatch.setattr(machine, "available_memory", lambda: 1_000_000)
    envs = make_envs("CartPole-v1", 4)
    layout = replay_layout(replace(CLASSIC_DQN, env="CartPole-v1"), envs, 0)
    assert layout is not None
    with pytest.raises(ConfigError, match=r"use --replay-capacity \d+ or less") as caught:
        build_replay(layout, torch.device("cpu"))
    fits = int(re.findall(r"--replay-capacity (\d+)", str(caught.value))[0])
    assert 0 < replace(layout, capacity=fits).nbytes <= 1_000_000


def test_too_little_memory_or_disk_has_a_warning(monkeypatch: Any, tmp_path: Path) -> None:
    agent, envs = ready("dqn", replace(tiny(CLASSIC_DQN), env="CartPole-v1"))
    monkeypatch.setattr(machine, "available_memory", lambda: 1_000)
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1_000))
    warnings = plan(agent, envs, envs.game, tmp_path / "not" / "yet").warnings
    assert any("more memory than is free" in line for line in warnings)
    assert any("more disk than is free" in line for line in warnings)
    assert not (tmp_path / "not").exists()


def test_the_plan_describes_the_training(tmp_path: Path) -> None:
    agent, envs = ready("dqn", replace(CLASSIC_DQN, env="CartPole-v1"))
    made = plan(agent, envs, envs.game, tmp_path)
    count = sum(parameter.numel() for parameter in agent.model.parameters())
    assert f"{count:,} parameters" in made.lines["network"]
    assert envs.game.fingerprint in made.lines["game"]
    assert "49,500 updates of 64 samples after 1,000 steps" in made.lines["training"]
    assert "epsilon 1 to 0.04" in made.lines["schedule"]
    assert "done in about" in made.lines["predicted"]
    agent, envs = ready("ppo", replace(CLASSIC_PPO, env="CartPole-v1"))
    made = plan(agent, envs, envs.game, tmp_path)
    assert "at least 586 rollouts of up to 512 steps, 10 x 4 updates each" in made.lines["training"]
    assert "learning rate 0.001 to 0" in made.lines["schedule"]
    made.warnings.append("look [out]")
    made.lines["checkpoints"] = "in runs/[mine]"
    screen = io.StringIO()
    made.show(Console(file=screen, width=300))
    assert "pre-flight" in screen.getvalue()
    assert "warning: look [out]" in screen.getvalue()
    assert all(value in screen.getvalue() for value in made.lines.values())


def test_long_sequences_can_be_measured_on_a_slow_machine(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(preflight, "ROW_SECONDS", 0.0)
    long = {"sequence_length": 80, "n_step": 5, "core_size": 8, "learning_starts": 500, "core": "gru"}
    agent, envs = ready("dqn", replace(tiny(CLASSIC_DQN), env="CartPole-v1", **long))
    for _ in range(3):
        assert plan(agent, envs, envs.game, tmp_path).lines["predicted"]


TRAININGS: list[tuple[str, str, str, Any]] = [
    ("dqn", "classic", "CartPole-v1", "none"), ("dqn", "toy", "joypad/MemoryChain-v0", "lstm"),
    ("ppo", "classic", "CartPole-v1", "none"), ("ppo", "toy", "joypad/MemoryChain-v0", "lstm"),
    ("ppo", "atari", "ALE/Breakout-v5", "none"), ("dqn", "minatar", "MinAtar/Breakout-v1", "none"),
    ("dqn", "minigrid", "MiniGrid-Empty-5x5-v0", "none"),
]  # fmt: skip


@pytest.mark.parametrize(("algorithm", "name", "env_id", "core"), TRAININGS)
def test_measuring_changes_neither_agent_nor_training(
    algorithm: str, name: str, env_id: str, core: Any, tmp_path: Path
) -> None:
    config = replace(with_core(tiny(PRESETS[algorithm, name]), core), env=env_id, total_steps=200, core_size=8)

    def trained(folder: Path, before: Callable[[Any, Any], Any]) -> str:
        agent, envs = ready(algorithm, config)
        before(agent, envs)
        fit(agent, envs, folder)
        envs.close()
        return weights_sha256(agent)

    def measure(agent: Any, envs: Any) -> None:
        weights, optimizer = weights_sha256(agent), agent.optimizer_state()["tensors"].keys()
        torch_rng, numpy_rng = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
        plan(agent, envs, envs.game, tmp_path)
        assert weights_sha256(agent) == weights
        assert torch.equal(torch.get_rng_state(), torch_rng)
        assert np.array_equal(np.random.get_state()[1], numpy_rng)  # noqa: NPY002
        assert agent.updates == 0
        assert agent.optimizer_state()["tensors"].keys() == optimizer
        assert all(parameter.grad is None for parameter in agent.model.parameters())

    assert trained(tmp_path / "a", lambda agent, envs: None) == trained(tmp_path / "b", measure)

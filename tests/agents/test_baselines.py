"""Stable-Baselines3's agents as baselines: training, checkpoints, evaluation, action replays."""

from __future__ import annotations

import inspect
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

pytest.importorskip("sb3_contrib")

from agents.errors import ConfigError
from agents.evaluate import evaluate
from agents.run import checkpoint
from agents.run.run import Run
from agents.sb3 import zoo_presets
from agents.sb3.adapters import CLASSES, Vector
from agents.sb3.agent import StableBaseline
from envs.action_replays import previous_episodes, verify
from envs.episode_record import load_replays
from envs.make import family, make_env, make_envs
from tests.machine import CPU


def trained(name: str, env: str, folder: Path, **changes: Any) -> tuple[StableBaseline, Run]:
    preset = zoo_presets.PRESETS[name, family(env)]
    config = replace(preset, **{**preset.tiny(), "env": env, **changes})
    config.validate()
    envs = make_envs(env, config.num_envs)
    agent = StableBaseline(config, envs.single_observation_space, envs.single_action_space, CPU)
    run = Run(folder, config)
    run.checkpoint(agent)
    agent.train(envs, run)
    run.close()
    envs.close()
    return agent, run


@pytest.mark.parametrize("name", zoo_presets.KINDS)
def test_a_baseline_trains_and_its_checkpoint_acts_the_same(name: str, tmp_path: Path) -> None:
    agent, run = trained(name, "CartPole-v1", tmp_path / "run")
    assert run.env_steps >= 400
    assert run.updates > 0
    assert run.episodes > 5
    text = (tmp_path / "run" / "metrics.jsonl").read_text()
    assert "train/loss" in text
    entropies = [line["train/entropy"] for line in map(json.loads, text.splitlines()) if "train/entropy" in line]
    assert bool(entropies) != ("dqn" in name)
    assert all(0.0 < entropy <= np.log(2) + 1e-6 for entropy in entropies)
    assert "episode/return" in text
    again = StableBaseline(agent.config, agent.observation_space, agent.action_space, CPU)
    state = checkpoint.load_agent(checkpoint.resolve(tmp_path / "run" / "checkpoints"), again)
    assert state["env_steps"] == run.env_steps
    first, carry = np.ones(3, bool), agent.initial_carry(3)
    obs = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
    action, after, extras = agent.act(obs, first, carry, None, torch.Generator())
    restored = again.act(obs, first, carry, None, torch.Generator())
    expected, _ = agent.sb3.predict(obs, episode_start=first, deterministic=True)
    assert np.array_equal(action, expected)
    assert np.array_equal(action, restored[0])
    assert after.shape == (3, agent.carry_dim)
    assert extras["value"].shape == (3,)


@pytest.mark.parametrize("name", zoo_presets.KINDS)
@pytest.mark.parametrize(("env", "torso"), [("MinAtar/Breakout-v1", "minatar"), ("ALE/Pong-v5", "auto")])
def test_a_baseline_on_images_is_saved_completely(name: str, env: str, torso: str, tmp_path: Path) -> None:
    agent, _ = trained(name, env, tmp_path / "run", torso=torso, total_steps=100, checkpoint_steps=50)
    again = StableBaseline(agent.config, agent.observation_space, agent.action_space, CPU)
    assert checkpoint.weights_sha256(again) != checkpoint.weights_sha256(agent)
    checkpoint.load_agent(checkpoint.resolve(tmp_path / "run" / "checkpoints"), again)
    assert checkpoint.weights_sha256(again) == checkpoint.weights_sha256(agent)
    space = agent.observation_space
    space.seed(0)
    obs = np.stack([space.sample() for _ in range(4)])
    first, carry = np.ones(4, bool), agent.initial_carry(4)
    action, _, extras = again.act(obs, first, carry, None, torch.Generator())
    expected, _, expected_extras = agent.act(obs, first, carry, None, torch.Generator())
    assert np.array_equal(action, expected)
    assert np.array_equal(extras["value"], expected_extras["value"])


@pytest.mark.parametrize("name", zoo_presets.KINDS)
def test_a_baseline_trains_on_dict_observations(name: str, tmp_path: Path) -> None:
    _, run = trained(name, "MiniGrid-Empty-5x5-v0", tmp_path / "run", total_steps=64, checkpoint_steps=64)
    assert run.env_steps >= 64
    assert run.updates > 0


def test_a_baseline_is_stored_without_sb3s_pickled_archives(tmp_path: Path) -> None:
    trained("sb3-dqn", "CartPole-v1", tmp_path / "run")
    files = {path.name for path in (tmp_path / "run").rglob("*") if path.is_file()}
    texts = {"best", "latest", ".lock", "state.json", "metrics.jsonl", "train.jsonl", "judged.jsonl"}
    assert files == texts | {"model.safetensors"}


def test_the_seed_decides_the_weights(tmp_path: Path) -> None:
    hashes = {checkpoint.weights_sha256(trained("sb3-ppo", "CartPole-v1", tmp_path / f"{i}")[0]) for i in range(2)}
    assert len(hashes) == 1


def test_training_games_can_be_resimulated(tmp_path: Path) -> None:
    trained("sb3-dqn", "MinAtar/Breakout-v1", tmp_path / "run", torso="minatar")
    records = load_replays(tmp_path / "run" / "replays" / "train.jsonl")
    for index in range(0, len(records), 5):
        verify(records[index], previous_episodes(records, index), make_env)


def test_a_baseline_is_evaluated_as_our_agents_are(tmp_path: Path) -> None:
    agent, _ = trained("sb3-recurrent-ppo", "CartPole-v1", tmp_path / "run")
    assert agent.measure_speed(make_envs("CartPole-v1", 2)) > 0
    result = evaluate(agent, make_envs("CartPole-v1", 2), 4, 7)
    assert result.episodes == 4
    assert result.return_mean >= 8


@pytest.mark.parametrize("name", zoo_presets.KINDS)
def test_defaults_equal_those_of_the_class(name: str) -> None:
    config = zoo_presets.KINDS[name]()
    arguments = inspect.signature(CLASSES[type(config)]).parameters
    for key, value in {**config.hyperparameters(), "learning_rate": config.learning_rate}.items():
        assert arguments[key].default == value, key


def test_lost_lives_end_learning_episodes_but_not_the_game() -> None:
    envs = make_envs("ALE/Breakout-v5", 2)
    config = replace(zoo_presets.PRESETS["sb3-dqn", "atari"], env="ALE/Breakout-v5")
    games: list[Any] = []
    vector = Vector(envs, config, [1, 2], lambda steps, episodes: games.extend(episodes))
    vector.reset()
    ends, steps, rng = 0, 0, np.random.default_rng(0)
    while len(games) < 2:
        steps += 1
        assert steps < 5_000, "no game ends"
        _, reward, done, infos = vector.step(rng.integers(envs.single_action_space.n, size=2))
        assert set(np.unique(reward)) <= {-1.0, 0.0, 1.0}
        assert all("terminal_observation" in infos[env] for env in np.flatnonzero(done))
        ends += int(done.sum())
    assert ends >= 5 * len(games)
    envs.close()


def test_the_last_observation_of_an_episode_is_its_own_and_a_time_limit_is_no_end() -> None:
    envs = make_envs("joypad/Counting-v0", 2)  # observes (episode, step), and truncates odd episodes
    vector, ends = Vector(envs, zoo_presets.PRESETS["sb3-ppo", "toy"], [1, 2]), []
    vector.reset()
    for _ in range(10):
        obs, _, done, infos = vector.step(np.zeros(2, int))
        if done[0]:
            last = infos[0]["terminal_observation"].tolist()
            ends.append((last, infos[0]["TimeLimit.truncated"], obs[0].tolist()))
    assert ends == [([0, 3], False, [1, 0]), ([1, 5], True, [2, 0]), ([2, 2], False, [3, 0])]
    envs.close()


def untrained(name: str, **changes: Any) -> StableBaseline:
    """Return a baseline for CartPole, as it starts."""
    preset = zoo_presets.PRESETS[name, "classic"]
    envs = make_envs("CartPole-v1", 3)
    config = replace(preset, **{**preset.tiny(), "env": "CartPole-v1", **changes})
    return StableBaseline(config, envs.single_observation_space, envs.single_action_space, CPU)


def test_a_linear_schedule_falls_to_zero() -> None:
    agent = untrained("sb3-ppo", schedule="linear", learning_rate=0.2, clip_range=0.4)
    for schedule, start in ((agent.sb3.lr_schedule, 0.2), (agent.sb3.clip_range, 0.4)):
        assert [schedule(left) for left in (1.0, 0.5, 0.0)] == pytest.approx([start, start / 2, 0.0])


def test_the_memory_of_a_recurrent_baseline_is_sb3s() -> None:
    agent = untrained("sb3-recurrent-ppo")
    obs = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    carry, states = agent.initial_carry(3), None
    for step, first in enumerate((np.ones(3, bool), np.zeros(3, bool))):
        action, carry, _ = agent.act(obs[step], first, carry, None, torch.Generator())
        expected, states = agent.sb3.predict(obs[step], states, first, deterministic=True)
        assert np.array_equal(action, expected)
        assert states is not None
        actor = np.concatenate([part[0] for part in states], axis=1)
        np.testing.assert_allclose(carry[:, : actor.shape[1]], actor, atol=1e-6)


def test_spaces_that_sb3_cannot_play_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="Stable-Baselines3's DQN cannot play this"):
        trained("sb3-dqn", "Pendulum-v1", tmp_path / "run")
    with pytest.raises(ConfigError, match="--torso minigrid reads arrays only under Stable-Baselines3"):
        trained("sb3-ppo", "MiniGrid-Empty-5x5-v0", tmp_path / "run", torso="minigrid")


def test_the_optimizer_of_the_zoos_a2c_is_tensorflows_rmsprop(tmp_path: Path) -> None:
    agent, _ = trained("sb3-a2c", "CartPole-v1", tmp_path / "run", rms_prop_tf_like=True)
    assert type(agent.sb3.policy.optimizer).__name__ == "RMSpropTFLike"


def test_the_environments_can_only_be_stepped_and_reset() -> None:
    envs = make_envs("CartPole-v1", 2)
    vector = Vector(envs, zoo_presets.PRESETS["sb3-ppo", "classic"], [1, 2], lambda *_: None, lambda *_: None)
    assert vector.get_attr("render_mode") == [None, None]
    assert vector.env_is_wrapped(gym.Wrapper) == [False, False]
    with pytest.raises(AttributeError):
        vector.get_attr("gravity")
    with pytest.raises(NotImplementedError):
        vector.set_attr("gravity", 1)
    with pytest.raises(NotImplementedError):
        vector.env_method("seed")
    envs.close()


def test_a_baseline_learns_in_train_only(tmp_path: Path) -> None:
    agent, _ = trained("sb3-ppo", "CartPole-v1", tmp_path / "run")
    with pytest.raises(TypeError, match="learn in train"):
        agent.update(None, torch.Generator())


def test_an_undefined_metric_does_not_end_a_training(tmp_path: Path) -> None:
    _, run = trained("sb3-a2c", "MountainCar-v0", tmp_path / "run", total_steps=200)  # all returns are equal
    assert run.env_steps >= 200
    assert "NaN" not in (tmp_path / "run" / "metrics.jsonl").read_text()

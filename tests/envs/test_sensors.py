"""Failing sensors: seeds determine the failures, recordings have none, and repairs get the starts of episodes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from envs.action_replays import verify
from envs.errors import EnvError
from envs.make import make_envs
from envs.sensors import Repaired


def play(env_id: str, kwargs: dict[str, Any], steps: int = 40, seeds: tuple[int, ...] = (1, 2)) -> tuple[Any, ...]:
    envs = make_envs(env_id, len(seeds), env_kwargs=kwargs)
    rows, episodes = [envs.reset(seed=list(seeds))[0]], []
    actions = np.random.default_rng(0).integers(2, size=(steps, len(seeds)))
    for row in actions:
        obs, *_, info = envs.step(row)
        rows.append(obs)
        episodes += info.get("episodes", [])
    envs.close()
    return np.stack(rows), episodes


def test_numbers_are_missing_at_the_given_rate_and_repeat_with_the_seed() -> None:
    whole, _ = play("CartPole-v1", {})
    damaged, episodes = play("CartPole-v1", {"drop": 0.3})
    assert damaged.dtype == whole.dtype
    gone = np.isnan(damaged)
    assert 0.2 < gone.mean() < 0.4
    assert np.array_equal(damaged[~gone], whole[~gone])
    again, _ = play("CartPole-v1", {"drop": 0.3})
    assert np.array_equal(again, damaged, equal_nan=True)
    other, _ = play("CartPole-v1", {"drop": 0.3}, seeds=(1, 3))
    assert not np.array_equal(np.isnan(other), gone)
    assert episodes
    from envs.make import make_env

    for record in [each for each in episodes if each.ordinal == 0]:
        verify(record, (), make_env)  # the recording is the game's own


def test_failures_do_not_follow_from_the_numbers_that_a_game_starts_from() -> None:
    starts = np.concatenate([play("CartPole-v1", {"drop": 0.5}, 0, (seed,))[0].ravel() for seed in range(20)])
    # the game's own generator would drop exactly the negative ones
    assert (starts < 0).any()
    assert (starts > 0).any()


def test_noise_has_the_given_deviation() -> None:
    whole, _ = play("CartPole-v1", {}, 200)
    noisy, _ = play("CartPole-v1", {"noise": 0.5}, 200)
    assert abs((noisy - whole).std() - 0.5) < 0.05


def test_noise_and_salt_on_pixels() -> None:
    whole, _ = play("ALE/Pong-v5", {}, 6)
    noisy, _ = play("ALE/Pong-v5", {"noise": 0.1}, 6)
    salted, _ = play("ALE/Pong-v5", {"salt": 0.2}, 6)
    assert noisy.dtype == salted.dtype == np.uint8
    middle = (whole > 60) & (whole < 190)
    assert abs((noisy.astype(float) - whole)[middle].std() - 25.5) < 2
    changed = salted != whole
    assert set(np.unique(salted[changed])) <= {0, 255}
    assert abs((salted == 255).mean() - 0.1) < 0.02


def test_a_repair_gets_the_first_rows_of_episodes() -> None:
    inner = make_envs("CartPole-v1", 2, env_kwargs={"drop": 0.2})
    received: list[np.ndarray] = []

    def repair(x: np.ndarray, first: np.ndarray) -> np.ndarray:
        received.append(first.copy())
        return np.nan_to_num(x)

    envs = Repaired(inner, repair)
    obs, _ = envs.reset(seed=[1, 2])
    assert not np.isnan(obs).any()
    starts = [np.ones(2, bool)]
    ended = np.zeros(2, bool)
    for _ in range(60):
        obs, _, terminated, truncated, _ = envs.step(np.ones(2, np.int64))
        assert not np.isnan(obs).any()
        assert obs.dtype == np.float32
        starts.append(ended)
        ended = terminated | truncated
    assert np.array_equal(np.stack(received), np.stack(starts))
    assert np.stack(starts)[1:].any()


@pytest.mark.parametrize(("env_id", "kwargs", "words"), [
    ("ALE/Pong-v5", {"drop": 0.5}, "drop needs a vector of real numbers"),
    ("CartPole-v1", {"drop": 1.0}, "drop must be at least 0 and below 1, not 1.0"),
    ("CartPole-v1", {"drop": "often"}, "drop must be at least 0 and below 1, not often"),
    ("CartPole-v1", {"salt": 0.1}, "salt needs pixels"), ("CartPole-v1", {"noise": -1.0}, "noise must be at least 0"),
    ("BabyAI-GoToLocal-v0", {"noise": 0.1}, "its observations are not one array"),
    ("ALE/Pong-v5", {"sugar": 0.5}, "takes sound, flicker, noise and salt for it, not sugar"),
])  # fmt: skip
def test_invalid_failures_are_refused(env_id: str, kwargs: dict, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        make_envs(env_id, 1, env_kwargs=kwargs)


def test_a_restart_changes_and_repairs_the_first_observation_too() -> None:
    received: list[np.ndarray] = []

    def repair(x: np.ndarray, first: np.ndarray) -> np.ndarray:
        received.append(np.concatenate([np.isnan(x).any(axis=1), first]))
        return np.nan_to_num(x)

    envs = Repaired(make_envs("CartPole-v1", 8, env_kwargs={"drop": 0.9}), repair)
    envs.reset(seed=list(range(8)))
    ended = np.zeros(8, bool)
    while not ended.any():
        _, _, terminated, truncated, _ = envs.step(np.ones(8, np.int64))
        ended = terminated | truncated
    obs, _ = envs.restart(ended)
    assert not np.isnan(obs).any()
    assert received[-1][:8].any()  # the sensors fail at the start of an episode too
    assert np.array_equal(received[-1][8:], ended)

"""Flicker blanks a frame in every stack that contains it, determined by the seeds; environments get their arguments."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest

from envs.action_replays import verify
from envs.errors import EnvError
from envs.make import make_env, make_envs
from envs.protocols import CLASSIC
from envs.sensors import Flicker
from envs.toy import CountingEnv

HALF = {"flicker": 0.5}


def play(envs: gym.vector.VectorEnv, steps: int, seed: list[int]) -> tuple[np.ndarray, np.ndarray]:
    """Play at random; return observations [T + 1, N, ...] and whether each row ends an episode [T, N]."""
    rng = np.random.default_rng(0)
    rows, ends = [envs.reset(seed=seed)[0].copy()], []  # type: ignore[arg-type]
    for _ in range(steps):
        obs, _, terminated, truncated, _ = envs.step(rng.integers(2, size=envs.num_envs))
        rows.append(obs.copy())
        ends.append(terminated | truncated)
    return np.stack(rows), np.stack(ends)


def test_a_frame_is_blank_in_all_stacks_or_none(vector: Any) -> None:
    plain, ends = play(vector(CountingEnv, 3, image=True, stack=3), 200, [1, 2, 3])
    obs, _ = play(Flicker(vector(CountingEnv, 3, image=True, stack=3), 0.5, 3), 200, [1, 2, 3])
    visible = obs.any(axis=(-1, -2))  # [T, N, K]
    np.testing.assert_array_equal(obs[visible], plain[visible])
    exists = plain.any(axis=(-1, -2))  # the first stack starts with zeros
    # an episode starts at the first row, and after the row that ends the previous one
    starts = np.vstack([np.ones((1, 3), bool), np.zeros((1, 3), bool), ends[:-1]])
    for step, env in np.argwhere(~starts[1:]):
        older, newer = visible[step, env, 1:], visible[step + 1, env, :-1]
        both = exists[step, env, 1:]
        np.testing.assert_array_equal(newer[both], older[both])
    newest = visible[:, :, -1]
    assert newest.mean() == pytest.approx(0.5, abs=0.06)


def test_seeds_determine_the_blank_frames(vector: Any) -> None:
    def blank(seed: list[int]) -> np.ndarray:
        return play(Flicker(vector(CountingEnv, 2, image=True), 0.3), 60, seed)[0].any(axis=(-1, -2))

    np.testing.assert_array_equal(blank([4, 5]), blank([4, 5]))
    assert (blank([4, 5]) != blank([4, 6])).any()
    assert 1 - blank([4, 5]).mean() == pytest.approx(0.3, abs=0.12)


def test_flickering_pong_only_blanks_frames_and_can_be_replayed() -> None:
    protocol = replace(CLASSIC, image_size=42)
    envs, plain = make_envs("ALE/Pong-v5", 2, protocol, HALF, 1), make_envs("ALE/Pong-v5", 2, protocol, None, 1)
    assert envs.game.env_kwargs == HALF
    assert envs.game.fingerprint != plain.game.fingerprint
    rng = np.random.default_rng(1)
    pair = envs.reset(seed=[7, 8])[0], plain.reset(seed=[7, 8])[0]
    records: list[Any] = []
    share = []
    while not records:
        visible = pair[0].any(axis=(-1, -2))
        share.append(visible[:, -1])
        np.testing.assert_array_equal(pair[0], pair[1] * visible[:, :, None, None])
        actions = rng.integers(6, size=2)
        obs, reward, *_, info = envs.step(actions)
        other = plain.step(actions)
        np.testing.assert_array_equal(reward, other[1])
        pair = obs, other[0]
        records = info.get("episodes", [])
    assert np.mean(share) == pytest.approx(0.5, abs=0.05)
    assert records[0].env_kwargs == HALF
    verify(records[0], [], make_env)
    envs.close()
    plain.close()


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("CartPole-v1", HALF, "flicker needs images"),
        ("ALE/Pong-v5", {"flicker": 1.0}, "flicker must be at least 0 and below 1, not 1.0"),
        ("ALE/Pong-v5", {"flicker": -0.5}, "must be at least 0 and below 1"),
        ("ALE/Pong-v5", {"flicker": "often"}, "must be at least 0 and below 1"),
        ("ALE/Pong-v5", {"difficulty": 1}, "not difficulty"),
        ("CartPole-v1", {"wind": 3}, "does not take these arguments"),
        ("joypad/TMaze-v0", {"horizon": 0}, "horizon must be at least 1"),
        ("LunarLander-v3", {"gravity": -20}, "does not take these arguments"),
    ],
)
def test_invalid_arguments_are_refused(env_id: str, kwargs: dict, words: str) -> None:
    with pytest.raises(EnvError, match=words):
        make_envs(env_id, 1, env_kwargs=kwargs, threads=1)


def test_arguments_reach_the_environment_and_its_fingerprint() -> None:
    long, short = (make_envs("joypad/TMaze-v0", 1, env_kwargs={"horizon": horizon}) for horizon in (9, 2))
    for envs, horizon in ((long, 9), (short, 2)):
        envs.reset(seed=[0])
        flags = [envs.step(np.zeros(1, int))[0][0, 1] for _ in range(horizon)]
        assert flags == [0.0] * (horizon - 1) + [1.0]
    assert long.game.fingerprint != short.game.fingerprint

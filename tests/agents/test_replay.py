"""The ring against a naive memory that stores whole transitions, in every sampled batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.interface import Row
from agents.replay.ring import Replay, ReplayLayout


class Naive:
    """Every row kept for ever, whole stacks and all; answers from first principles."""

    def __init__(self) -> None:
        self.rows: list[dict[str, np.ndarray]] = []

    def add(self, row: Row) -> None:
        self.rows.append({key: np.copy(value) for key, value in row._asdict().items() if isinstance(value, np.ndarray)})
        self.rows[-1]["obs"] = {key: value.copy() for key, value in row.obs.items()}

    def transition(self, row: int, env: int, n_step: int, gamma: float) -> tuple:
        total, discount, at = 0.0, 1.0, row
        for _ in range(n_step):
            total += discount * self.rows[at]["reward"][env]
            discount *= gamma
            at += 1
            if self.rows[at - 1]["terminated"][env]:
                discount = 0.0
                break
            if self.rows[at - 1]["truncated"][env]:
                break
        obs = {key: value[env] for key, value in self.rows[row]["obs"].items()}
        return obs, total, discount, {key: value[env] for key, value in self.rows[at]["obs"].items()}


def play(rng: np.random.Generator, rows: int, envs: int, stack: int, carry_dim: int = 0) -> list[Row]:
    """Random episodes under NEXT_STEP autoreset; every frame has its own number, stacks are black before a game."""
    first, dead = np.ones(envs, bool), np.zeros(envs, bool)
    frames = np.zeros((envs, stack, 3, 3), np.uint8)
    number, out = 1, []
    for _ in range(rows + 1):
        frames[first] = 0
        frames = np.roll(frames, -1, axis=1)
        for env in range(envs):
            frames[env, -1] = number % 251 + 1
            number += 1
        obs = {"frame": frames.copy(), "vector": rng.normal(size=(envs, 2)).astype(np.float32)}
        terminated = (rng.random(envs) < 0.15) & ~dead
        truncated = (rng.random(envs) < 0.15) & ~dead & ~terminated
        reward = np.where(dead, 0.0, rng.normal(size=envs)).astype(np.float32)
        carry = torch.from_numpy(rng.normal(size=(envs, carry_dim)).astype(np.float32))
        action = rng.integers(5, size=envs)
        out.append(Row(obs, {}, first, dead, carry, action, {}, reward, terminated, truncated, None, {}, carry))
        first, dead = dead, terminated | truncated
    return out


def frame_space(stack: int) -> spaces.Dict:
    return spaces.Dict(
        {"frame": spaces.Box(0, 255, (stack, 3, 3), np.uint8), "vector": spaces.Box(-9, 9, (2,), np.float32)}
    )


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    envs=st.integers(1, 4),
    n_step=st.integers(1, 5),
    rows=st.integers(12, 90),
    capacity_rows=st.integers(15, 60),
)
def test_equals_naive_memory(seed: int, envs: int, n_step: int, rows: int, capacity_rows: int) -> None:
    rng = np.random.default_rng(seed)
    layout = ReplayLayout(frame_space(1), envs, capacity_rows * envs, n_step, 0.9, frame_stack=1)
    replay, naive = Replay(layout), Naive()
    for row in play(rng, rows, envs, 1):
        replay.add(row)
        naive.add(row)
    batch = replay.sample(64, rng)
    for k, index in enumerate(batch.indices):
        row, env = divmod(int(index), envs)
        obs, reward, discount, next_obs = naive.transition(row, env, n_step, 0.9)
        assert not naive.rows[row]["dead"][env]
        assert row >= len(naive.rows) - layout.rows
        assert batch.action[k] == naive.rows[row]["action"][env]
        assert batch.reward[k].item() == pytest.approx(reward, abs=1e-5)
        assert batch.discount[k].item() == pytest.approx(discount, abs=1e-6)
        for key in obs:
            np.testing.assert_array_equal(batch.obs[key][k].numpy(), obs[key])
            np.testing.assert_array_equal(batch.next_obs[key][k].numpy(), next_obs[key])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), envs=st.integers(1, 3), n_step=st.integers(1, 4), rows=st.integers(20, 90))
def test_stacks_equal_naive_memory(seed: int, envs: int, n_step: int, rows: int) -> None:
    rng = np.random.default_rng(seed)
    space = spaces.Box(0, 255, (4, 3, 3), np.uint8)
    layout = ReplayLayout(space, envs, 40 * envs, n_step, 0.9, frame_stack=4)
    replay, naive = Replay(layout), Naive()
    for row in play(rng, rows, envs, 4):
        naive.add(row)
        replay.add(row._replace(obs=row.obs["frame"]))
    batch = replay.sample(64, rng)
    for k, index in enumerate(batch.indices):
        row, env = divmod(int(index), envs)
        obs, _, _, next_obs = naive.transition(row, env, n_step, 0.9)
        np.testing.assert_array_equal(batch.obs[k].numpy(), obs["frame"])
        np.testing.assert_array_equal(batch.next_obs[k].numpy(), next_obs["frame"])


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), envs=st.integers(1, 3), n_step=st.integers(1, 3), rows=st.integers(40, 120))
def test_sequences_equal_naive_memory(seed: int, envs: int, n_step: int, rows: int) -> None:
    rng, length = np.random.default_rng(seed), 8
    layout = ReplayLayout(
        spaces.Box(0, 255, (4, 3, 3), np.uint8), envs, 60 * envs, n_step, 0.9, 4, sequence_length=length, carry_dim=3
    )
    replay, naive, carries = Replay(layout), Naive(), []
    for row in play(rng, rows, envs, 4, carry_dim=3):
        naive.add(row)
        carries.append(row.carry.numpy())
        replay.add(row._replace(obs=row.obs["frame"]))
    batch = replay.sample(16, rng)
    for k, index in enumerate(batch.indices):
        start, env = divmod(int(index), envs)
        np.testing.assert_array_equal(batch.carry[k].numpy(), carries[start][env])
        for t in range(length):
            _, reward, discount, next_obs = naive.transition(start + t, env, n_step, 0.9)
            dead = naive.rows[start + t]["dead"][env]
            assert batch.mask[t, k].item() == float(not dead)
            assert batch.first[t, k].item() == bool(naive.rows[start + t]["first"][env])
            if not dead:
                assert batch.reward[t, k].item() == pytest.approx(reward, abs=1e-5)
                assert batch.discount[t, k].item() == pytest.approx(discount, abs=1e-6)
                at = int(batch.bootstrap[t, k])
                np.testing.assert_array_equal(batch.obs[at, k].numpy(), next_obs["frame"])


def test_every_live_row_of_a_finished_episode_is_sampled_and_no_dead_one() -> None:
    rng = np.random.default_rng(0)
    layout = ReplayLayout(spaces.Box(0, 255, (1, 3, 3), np.uint8), 2, 200, n_step=5)
    replay, rows = Replay(layout), play(rng, 60, 2, 1)
    for row in rows:
        replay.add(row._replace(obs=row.obs["frame"]))
    seen = set(np.concatenate([replay.sample(256, rng).indices for _ in range(40)]).tolist())
    wanted = {2 * t + env for t in range(len(rows) - 5) for env in range(2) if not rows[t].dead[env]}
    assert seen == wanted


def test_sampling_is_uniform() -> None:
    rng = np.random.default_rng(1)
    layout = ReplayLayout(spaces.Box(0, 1, (1,), np.float32), 1, 50)
    replay = Replay(layout)
    for t in range(41):
        obs = np.full((1, 1), t, np.float32)
        no = np.zeros(1, bool)
        replay.add(Row(obs, {}, no, no, torch.zeros(1, 0), no, {}, no, no, no, None, {}, torch.zeros(1, 0)))
    counts = np.bincount(np.concatenate([replay.sample(100, rng).indices for _ in range(400)]), minlength=40)
    assert len(counts) == 40
    chi2 = ((counts - 1000) ** 2 / 1000).sum()
    assert chi2 < 80  # 39 degrees of freedom: 99.99 % lie below 83


def test_cut_truncates_running_episodes_and_keeps_their_last_observation() -> None:
    layout = ReplayLayout(spaces.Box(0, 99, (1,), np.float32), 2, 40, n_step=3, gamma=0.5)
    replay, no = Replay(layout), np.zeros(2, bool)
    for t in range(4):
        obs = np.full((2, 1), t, np.float32)
        first, ended = np.array([t == 0] * 2), np.array([False, t == 3])
        row = Row(obs, {}, first, no, torch.zeros(2, 0), no, {}, np.ones(2), ended, no, None, {}, torch.zeros(2, 0))
        replay.add(row)
    replay.cut(np.full((2, 1), 4, np.float32))
    for t in range(5):  # the next leg
        obs = np.full((2, 1), 50 + t, np.float32)
        first = np.array([t == 0] * 2)
        replay.add(Row(obs, {}, first, no, torch.zeros(2, 0), no, {}, no, no, no, None, {}, torch.zeros(2, 0)))
    batch = replay.sample(500, np.random.default_rng(0))
    by_index = {
        int(i): (float(r), float(d), float(o))
        for i, r, d, o in zip(batch.indices, batch.reward, batch.discount, batch.next_obs[:, 0], strict=True)
    }
    assert by_index[2 * 3] == (1.0, 0.5, 4.0)  # cut: bootstraps from the observation after the last step
    assert by_index[2 * 3 + 1] == (1.0, 0.0, 4.0)  # ended by itself: does not
    assert by_index[2 * 2] == (1.5, 0.25, 4.0)
    assert 2 * 4 not in by_index
    assert 2 * 4 + 1 not in by_index


def test_100k_atari_steps_take_less_than_three_quarters_of_a_gigabyte() -> None:
    layout = ReplayLayout(spaces.Box(0, 255, (4, 84, 84), np.uint8), 8, 100_000, frame_stack=4)
    assert 0.70e9 < layout.nbytes <= 0.75e9
    small = ReplayLayout(spaces.Box(0, 255, (4, 84, 84), np.uint8), 8, 1_000, frame_stack=4)
    assert sum(array.nbytes for array in Replay(small).arrays.values()) == small.nbytes


@pytest.mark.parametrize("carry_dim", [0, 3])
def test_saved_pieces_restore_the_same_memory(carry_dim: int) -> None:
    rng = np.random.default_rng(5)
    length = 4 if carry_dim else 1
    layout = ReplayLayout(spaces.Box(0, 255, (4, 3, 3), np.uint8), 2, 60, 2, 0.9, 4, length, carry_dim)
    replay, copy = Replay(layout), Replay(layout)
    rows = play(rng, 75, 2, 4, carry_dim)
    for t, row in enumerate(rows):
        replay.add(row._replace(obs=row.obs["frame"]))
        if t in (7, 21, 50, 75):
            for start, piece in replay.unsaved(max_bytes=200):
                copy.restore(start, piece)
            replay.saved_row = replay.next_row
    assert copy.next_row == replay.next_row
    a, b = (memory.sample(64, np.random.default_rng(9)) for memory in (replay, copy))
    for name, value in a._asdict().items():
        assert np.array_equal(np.asarray(value), np.asarray(getattr(b, name))), name


def test_too_few_rows_is_an_error_in_words() -> None:
    replay = Replay(ReplayLayout(spaces.Box(0, 1, (1,), np.float32), 1, 50))
    with pytest.raises(ValueError, match="too few to sample"):
        replay.sample(2, np.random.default_rng(0))

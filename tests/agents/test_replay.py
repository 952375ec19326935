"""The replay, uniform and prioritized, against a naive memory that stores whole transitions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.interface import Row, Sequences, Transitions
from agents.replay.buffer import Replay, ReplayLayout, ReplaySampling
from agents.replay.prioritized import PrioritizedReplay

VECTOR = spaces.Box(-9, 9, (2,), np.float32)


class Naive:
    """Reference: keeps all rows with whole stacks, and computes samples from first principles."""

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] = []

    def add(self, row: Row) -> None:
        self.rows.append({key: np.copy(value) for key, value in row._asdict().items() if isinstance(value, np.ndarray)})
        self.rows[-1]["obs"] = {key: value.copy() for key, value in row.obs.items()}
        self.rows[-1]["carry"] = row.carry.numpy().copy()

    def truncate_episodes(self, next_obs: dict[str, np.ndarray]) -> None:
        last = self.rows[-1]
        last["truncated"] = last["truncated"] | ~(last["terminated"] | last["dead"])
        no = np.zeros(len(last["dead"]), bool)
        blank = {"first": no, "dead": ~no, "terminated": no, "truncated": no, "reward": no, "action": no}
        self.rows.append({**blank, "obs": {key: value.copy() for key, value in next_obs.items()}, "carry": None})

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

    def drawable(self, layout: ReplayLayout) -> set[int]:
        """Return the starts whose stack and following rows are stored; single rows must not be dead."""
        oldest = max(len(self.rows) - layout.rows, 0)
        end = len(self.rows) - layout.burn_in - layout.sequence_length - layout.n_step + 1
        alone = layout.sequence_length == 1
        return {
            row * layout.num_envs + env
            for row in range(oldest, end)
            for env in range(layout.num_envs)
            if row % layout.stride == 0
            and not (alone and self.rows[row]["dead"][env])
            and self.oldest_frame(row, env, layout.frame_stack) >= oldest
        }

    def oldest_frame(self, row: int, env: int, stack: int) -> int:
        while stack > 1 and not self.rows[row]["first"][env]:
            row, stack = row - 1, stack - 1
        return row


def play(
    rng: np.random.Generator, rows: int, envs: int, stack: int, carry_dim: int = 0, rich: bool = False
) -> list[Row]:
    """Random episodes under NEXT_STEP autoreset; every frame has its own number, stacks are black before a game.

    If `rich`, with token ids (the first is the episode's own), audio, and lives whose loss ends nothing but the return.
    """
    first, dead = np.ones(envs, bool), np.zeros(envs, bool)
    frames = np.zeros((envs, stack, 3, 3), np.uint8)
    number, out = 1, []
    tokens = rng.integers(2**40, size=(envs, 6)) if rich else np.zeros((envs, 6), np.int64)
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
        over = terminated | truncated
        if rich:
            tokens[:, 0] += first
            tokens[:, 1:] = rng.integers(2**40, size=(envs, 5))
            obs |= {"tokens": tokens.copy(), "audio": rng.normal(size=(envs, 64)).astype(np.float32)}
            terminated = terminated | ((rng.random(envs) < 0.1) & ~dead & ~over)
        out.append(Row(obs, {}, first, dead, carry, action, {}, reward, terminated, truncated, None, {}, carry))
        first, dead = dead, over
    return out


def rich_space(stack: int) -> spaces.Dict:
    return spaces.Dict(
        {
            "frame": spaces.Box(0, 255, (stack, 3, 3), np.uint8),
            "vector": VECTOR,
            "tokens": spaces.Box(0, 2**41, (6,), np.int64),
            "audio": spaces.Box(-9, 9, (64,), np.float32),
        }
    )


def memory(layout: ReplayLayout, spill: Path | None = None) -> Replay:
    return (PrioritizedReplay if layout.sampling == "prioritized" else Replay)(layout, spill=spill)


def fill(layout: ReplayLayout, rng: np.random.Generator, rows: int, cut: bool) -> tuple[Replay, Naive]:
    """Fill both memories, in two segments if `cut`; priorities change on the way, by at most a factor of three."""
    replay, naive = memory(layout), Naive()
    for segment in (rows // 2, rows - rows // 2) if cut else (rows,):
        *played, last = play(rng, segment, layout.num_envs, layout.frame_stack, layout.carry_dim, rich=True)
        for row in played:
            replay.add(row)
            naive.add(row)
            if rng.random() < 0.2 and naive.drawable(layout):
                priorities = torch.from_numpy(rng.uniform(0.5, 1.5, 8))
                replay.update_priorities(replay.sample(8, rng).indices, priorities)
        if cut and segment == rows // 2:
            replay.truncate_episodes(last.obs)
            naive.truncate_episodes(last.obs)
    return replay, naive


def draw_all(replay: Replay, wanted: set[int], rng: np.random.Generator) -> tuple[Any, list[tuple[int, int, int]]]:
    """Sample often enough to draw each usable start, and assert that no other is drawn: [(place, row, env)]."""
    batch = replay.sample(20 * len(wanted), rng)
    drawn, places = np.unique(batch.indices, return_index=True)
    assert set(drawn.tolist()) == wanted
    envs = replay.layout.num_envs
    return batch, [(int(k), *divmod(int(index), envs)) for k, index in zip(places, drawn, strict=True)]


def assert_same(got: dict[str, torch.Tensor], expected: dict[str, np.ndarray]) -> None:
    """Assert equal bits and dtypes."""
    assert got.keys() == expected.keys()
    for key, value in got.items():
        assert torch.equal(value, torch.from_numpy(expected[key])), key


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    envs=st.integers(1, 3),
    n_step=st.integers(1, 5),
    rows=st.integers(12, 70),
    capacity_rows=st.integers(10, 40),
    stack=st.integers(1, 4),
    sampling=st.sampled_from(["uniform", "prioritized"]),
    cut=st.booleans(),
)
def test_equals_naive_memory(
    seed: int, envs: int, n_step: int, rows: int, capacity_rows: int, stack: int, sampling: ReplaySampling, cut: bool
) -> None:
    rng = np.random.default_rng(seed)
    layout = ReplayLayout(rich_space(stack), envs, capacity_rows * envs, n_step, 0.9, stack, sampling=sampling)
    replay, naive = fill(layout, rng, rows, cut)
    batch, drawn = draw_all(replay, naive.drawable(layout), rng)
    assert isinstance(batch, Transitions)
    assert torch.equal(batch.obs["tokens"][:, 0], batch.next_obs["tokens"][:, 0])  # never into another episode
    for k, row, env in drawn:
        obs, reward, discount, next_obs = naive.transition(row, env, n_step, 0.9)
        assert batch.action[k] == naive.rows[row]["action"][env]
        assert batch.reward[k].item() == pytest.approx(reward, abs=1e-5)
        assert batch.discount[k].item() == pytest.approx(discount, abs=1e-6)
        assert_same({key: part[k] for key, part in batch.obs.items()}, obs)
        assert_same({key: part[k] for key, part in batch.next_obs.items()}, next_obs)


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
@given(
    seed=st.integers(0, 10_000),
    envs=st.integers(1, 3),
    n_step=st.integers(1, 3),
    rows=st.integers(36, 100),
    stack=st.integers(1, 4),
    length=st.sampled_from([2, 3, 5, 8]),
    burn_in=st.integers(0, 6),
    sampling=st.sampled_from(["uniform", "prioritized"]),
    cut=st.booleans(),
)
def test_sequences_equal_naive_memory(
    seed: int,
    envs: int,
    n_step: int,
    rows: int,
    stack: int,
    length: int,
    burn_in: int,
    sampling: ReplaySampling,
    cut: bool,
) -> None:
    rng = np.random.default_rng(seed)
    layout = ReplayLayout(rich_space(stack), envs, 40 * envs, n_step, 0.9, stack, length, 3, burn_in, sampling=sampling)
    replay, naive = fill(layout, rng, rows, cut)
    batch, drawn = draw_all(replay, naive.drawable(layout), rng)
    assert isinstance(batch, Sequences)
    assert {len(part) for part in (batch.first, *batch.obs.values())} == {burn_in + length + n_step}
    assert batch.action.shape == batch.mask.shape == batch.bootstrap.shape == (length, 20 * len(drawn))
    for k, start, env in drawn:
        window = naive.rows[start : start + burn_in + length + n_step]
        if window[0]["carry"] is not None:  # a cut stores none: its row is dead, and the next one's is cleared
            np.testing.assert_array_equal(batch.carry[k].numpy(), window[0]["carry"][env])
        assert batch.first[:, k].tolist() == [bool(row["first"][env]) for row in window]
        # an episode that begins with the observation of a cut is never played, nor looked at
        ordinary = [
            t for t, row in enumerate(window) if not (row["dead"][env] and naive.rows[start + t - 1]["dead"][env])
        ]
        expected = {key: np.stack([window[t]["obs"][key][env] for t in ordinary]) for key in batch.obs}
        assert_same({key: part[ordinary, k] for key, part in batch.obs.items()}, expected)
        for t, row in enumerate(window[burn_in : burn_in + length]):
            dead = bool(row["dead"][env])
            assert batch.mask[t, k].item() == float(not dead)
            if not dead:
                _, reward, discount, next_obs = naive.transition(start + burn_in + t, env, n_step, 0.9)
                assert batch.action[t, k] == row["action"][env]
                assert batch.reward[t, k].item() == pytest.approx(reward, abs=1e-5)
                assert batch.discount[t, k].item() == pytest.approx(discount, abs=1e-6)
                at = burn_in + int(batch.bootstrap[t, k])
                assert_same({key: part[at, k] for key, part in batch.obs.items()}, next_obs)


@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
def test_every_live_row_of_a_finished_episode_is_sampled_and_no_dead_one(sampling: ReplaySampling) -> None:
    rng = np.random.default_rng(0)
    layout = ReplayLayout(spaces.Box(0, 255, (1, 3, 3), np.uint8), 2, 200, n_step=5, sampling=sampling)
    replay, rows = memory(layout), play(rng, 60, 2, 1)
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


@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
def test_truncate_episodes_ends_running_ones_and_keeps_their_last_observation(sampling: ReplaySampling) -> None:
    layout = ReplayLayout(spaces.Box(0, 99, (1,), np.float32), 2, 40, 3, gamma=0.5, sampling=sampling)
    replay, no = memory(layout), np.zeros(2, bool)
    for t in range(4):
        obs = np.full((2, 1), t, np.float32)
        first, ended = np.array([t == 0] * 2), np.array([False, t == 3])
        row = Row(obs, {}, first, no, torch.zeros(2, 0), no, {}, np.ones(2), ended, no, None, {}, torch.zeros(2, 0))
        replay.add(row)
    replay.truncate_episodes(np.full((2, 1), 4, np.float32))
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
    assert by_index.keys() == {0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12, 13}  # row 4 is that of the cut


def test_100k_atari_steps_take_less_than_three_quarters_of_a_gigabyte() -> None:
    layout = ReplayLayout(spaces.Box(0, 255, (4, 84, 84), np.uint8), 8, 100_000, frame_stack=4)
    assert 0.70e9 < layout.nbytes <= 0.75e9


@pytest.mark.parametrize(("length", "carry_dim"), [(1, 0), (8, 5)])
@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
@pytest.mark.parametrize("capacity", [1, 512, 515, 3_000])
def test_nbytes_is_the_allocated_size(length: int, carry_dim: int, sampling: ReplaySampling, capacity: int) -> None:
    layout = ReplayLayout(
        rich_space(4), 4, capacity, 3, 0.9, 4, length, carry_dim, sampling=sampling, burn_in=carry_dim
    )
    replay = memory(layout)
    allocated = sum(array.nbytes for array in replay.arrays.values())
    if isinstance(replay, PrioritizedReplay):
        allocated += replay.tree.nodes.nbytes
        starts = layout.rows // layout.stride * layout.num_envs
        assert starts <= len(replay.tree.leaves) < 2 * starts
    assert layout.nbytes == allocated


@pytest.mark.parametrize("length", [1, 4])
@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
def test_observations_on_disk_give_the_same_samples_and_leave_no_file(
    length: int, sampling: ReplaySampling, tmp_path: Path
) -> None:
    carry_dim = 3 if length > 1 else 0
    layout = ReplayLayout(rich_space(4), 2, 60, 2, 0.9, 4, length, carry_dim, sampling=sampling)
    memories = [memory(layout), memory(layout, tmp_path)]
    assert list(tmp_path.iterdir()) == []
    for name, array in memories[1].arrays.items():
        assert isinstance(array, np.memmap) == name.startswith("obs"), name
    for row in play(np.random.default_rng(4), 80, 2, 4, carry_dim, rich=True):
        for replay in memories:
            replay.add(row)
    copy = memory(layout, tmp_path)
    for start, piece in memories[1].unsaved(max_bytes=2_000):
        copy.restore(start, piece)
    copy.load_state(memories[1].state())
    expected, *others = (replay.sample(64, np.random.default_rng(9)) for replay in (*memories, copy))
    for batch in others:
        assert_same_batch(batch, expected)
    assert list(tmp_path.iterdir()) == []


def assert_same_batch(a: Any, b: Any) -> None:
    for name, value in a._asdict().items():
        other = getattr(b, name)
        if isinstance(value, dict):
            assert_same(value, {key: part.numpy() for key, part in other.items()})
        else:
            assert np.array_equal(np.asarray(value), np.asarray(other)), name


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
    assert_same_batch(a, b)


@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
def test_too_few_rows_raise_an_error(sampling: ReplaySampling) -> None:
    replay = memory(ReplayLayout(spaces.Box(0, 1, (1,), np.float32), 1, 50, sampling=sampling))
    with pytest.raises(ValueError, match="too few to sample"):
        replay.sample(2, np.random.default_rng(0))


def test_sequences_overlap_by_half() -> None:
    layout = ReplayLayout(VECTOR, 1, 64, sequence_length=8, carry_dim=1)
    replay = Replay(layout)
    for row in play(np.random.default_rng(0), 40, 1, 1, carry_dim=1):
        replay.add(row._replace(obs=row.obs["vector"]))
    batch = replay.sample(200, np.random.default_rng(0))
    assert sorted(set(batch.indices.tolist())) == list(range(0, 33, 4))


@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
def test_a_replay_without_a_complete_row_samples_nothing(sampling: ReplaySampling) -> None:
    layout = ReplayLayout(VECTOR, 1, 64, n_step=3, sampling=sampling)
    replay = memory(layout)
    replay.truncate_episodes(np.zeros((1, *VECTOR.shape), np.float32))  # nothing to end
    assert replay.next_row == 0
    for row in play(np.random.default_rng(0), 8, 1, 1):
        replay.add(row._replace(obs=row.obs["vector"], dead=np.ones(1, bool)))
    with pytest.raises(ValueError, match="no row of the replay can be sampled; raise learning_starts"):
        replay.sample(2, np.random.default_rng(0))


def test_an_error_that_is_no_number_is_no_priority() -> None:
    replay: Any = memory(ReplayLayout(VECTOR, 1, 64, sampling="prioritized"))
    for row in play(np.random.default_rng(0), 20, 1, 1):
        replay.add(row._replace(obs=row.obs["vector"]))
    batch = replay.sample(2, np.random.default_rng(0))
    with pytest.raises(ValueError, match="a sample's error is not a finite number"):
        replay.update_priorities(batch.indices, torch.tensor([1.0, torch.nan]))

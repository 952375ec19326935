"""Prioritized replay: sampling frequencies, importance weights, saving and restoring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from scipy import stats

from agents.build import build_agent, build_replay, replay_layout
from agents.errors import CheckpointError
from agents.learner import Learner
from agents.presets.registry import PRESETS, tiny
from agents.replay.buffer import Replay, ReplayLayout, ReplaySampling
from agents.replay.prioritized import FLOOR, PrioritizedReplay
from agents.run import checkpoint
from agents.run.run import Run
from envs.toy import ChainEnv
from tests.agents.test_replay import VECTOR, Naive, assert_same_batch, fill, play, rich_space
from tests.agents.test_sum_tree import same_tree
from tests.machine import CPU

CPU_DEVICE = torch.device("cpu")


def filled(rng: np.random.Generator, rows: int, layout: ReplayLayout) -> tuple[PrioritizedReplay, np.ndarray]:
    """Fill a replay; return it and all usable samples."""
    replay, naive = PrioritizedReplay(layout), Naive()
    for row in play(rng, rows, layout.num_envs, 1, layout.carry_dim):
        naive.add(row)
        replay.add(row._replace(obs=row.obs["vector"]))
    return replay, np.array(sorted(naive.drawable(layout)))


def simple(envs: int = 3, rows: int = 13, n_step: int = 2, alpha: float = 0.7, **changes: Any) -> ReplayLayout:
    return ReplayLayout(
        VECTOR, envs, rows * envs, n_step, 0.9, sampling="prioritized", priority_exponent=alpha, **changes
    )  # fmt: skip


SEQUENCES = {"sequence_length": 5, "carry_dim": 2, "burn_in": 1}


@pytest.mark.parametrize("changes", [{}, SEQUENCES], ids=["transitions", "sequences"])
@pytest.mark.parametrize(("envs", "alpha"), [(1, 1.0), (3, 0.7), (4, 0.0)])
def test_sampling_is_proportional_to_priority_to_the_alpha(envs: int, alpha: float, changes: dict[str, Any]) -> None:
    rng = np.random.default_rng(3)
    replay, drawable = filled(rng, 60, simple(envs, 29, alpha=alpha, **changes))
    priority = rng.uniform(0.1, 9.0, len(drawable))
    replay.update_priorities(drawable, torch.from_numpy(priority).float())
    wanted = priority**alpha / (priority**alpha).sum()
    counts = np.zeros(replay.next_row * envs)
    for _ in range(2000):
        np.add.at(counts, replay.sample(5, rng).indices, 1)
    assert counts.sum() == counts[drawable].sum() == 10_000
    chi2 = ((counts[drawable] - 10_000 * wanted) ** 2 / (10_000 * wanted)).sum()
    assert chi2 < stats.chi2.ppf(0.9999, len(drawable) - 1)


def test_sampling_is_stratified() -> None:
    rng = np.random.default_rng(4)
    replay, drawable = filled(rng, 60, simple())
    priority = rng.exponential(size=len(drawable)) ** 3
    replay.update_priorities(drawable, torch.from_numpy(priority))
    share = 64 * priority**0.7 / (priority**0.7).sum()
    assert share.max() > 5  # where independent draws would differ by more than one from what is expected
    for _ in range(100):
        counts = np.bincount(replay.sample(64, rng).indices, minlength=replay.next_row * 3)[drawable]
        # a stretch of x parts covers at least floor(x) - 1 of them, and touches at most ceil(x) + 1
        assert (counts >= np.floor(share) - 1).all()
        assert (counts <= np.ceil(share) + 1).all()


@pytest.mark.parametrize("changes", [{}, SEQUENCES], ids=["transitions", "sequences"])
def test_importance_weights_are_those_of_the_paper(changes: dict[str, Any]) -> None:
    rng = np.random.default_rng(5)
    replay, drawable = filled(rng, 70, simple(rows=40, **changes))
    priority = rng.uniform(0.1, 9.0, len(drawable))
    replay.update_priorities(drawable, torch.from_numpy(priority))
    chance = dict(zip(drawable.tolist(), priority**0.7 / (priority**0.7).sum(), strict=True))
    for beta in (0.0, 0.4, 1.0):
        batch = replay.sample(16, rng, beta)
        weight = np.array([(len(drawable) * chance[index]) ** -beta for index in batch.indices.tolist()])
        np.testing.assert_allclose(batch.weight.numpy(), weight / weight.max(), rtol=1e-5)
        assert batch.weight.dtype == torch.float32
        assert batch.weight.max() == 1.0


def test_new_rows_have_the_highest_weight_so_far() -> None:
    rng, layout = np.random.default_rng(6), simple(envs=2, rows=30, alpha=0.5)
    rows = play(rng, 40, 2, 1)
    replay, naive = PrioritizedReplay(layout), Naive()

    def add(count: int) -> list[int]:  # what can be drawn now, but could not before
        before = naive.drawable(layout)
        for _ in range(count):
            row = rows[len(naive.rows)]
            naive.add(row)
            replay.add(row._replace(obs=row.obs["vector"]))
        return sorted(naive.drawable(layout) - before)

    def weight_of(indices: list[int]) -> set[float]:  # from the importance weights, beside a lightest one of 0.1
        batch = replay.sample(5000, rng)
        weights = {index: weight for index, weight in zip(batch.indices.tolist(), batch.weight.tolist(), strict=True)}
        return {round(0.1 / weights[index], 4) for index in indices}

    first = add(12)
    replay.update_priorities(np.array(first[:2]), torch.tensor([0.01, 0.04]))
    assert weight_of(first[2:]) == {1.0}  # nothing had a priority yet
    assert weight_of(first[1:2]) == {0.2}
    assert weight_of(add(3)) == {1.0}
    replay.update_priorities(np.array(first[4:7]), torch.tensor([4.0, 81.0, 9.0]))
    assert weight_of(add(3)) == {9.0}
    replay.update_priorities(np.array(first[4:7]), torch.tensor([0.5, 0.5, 0.5]))
    assert weight_of(add(3)) == {9.0}
    assert weight_of(first[2:4]) == {1.0}


def test_a_priority_of_zero_can_still_be_sampled() -> None:
    rng = np.random.default_rng(7)
    replay, drawable = filled(rng, 60, simple())
    replay.update_priorities(drawable, torch.zeros(len(drawable)))
    batch = replay.sample(20 * len(drawable), rng)
    assert set(batch.indices.tolist()) == set(drawable.tolist())
    assert (batch.weight == 1).all()
    replay.update_priorities(drawable[:-1], torch.full((len(drawable) - 1,), FLOOR / 2))
    replay.update_priorities(drawable[-1:], torch.ones(1))
    batch = replay.sample(64, rng)
    assert batch.weight[batch.indices == drawable[-1]].min() == pytest.approx(
        FLOOR**0.7 if (batch.indices != drawable[-1]).any() else 1.0
    )


@pytest.mark.parametrize("changes", [{}, SEQUENCES], ids=["transitions", "sequences"])
def test_dead_unfinished_and_overwritten_rows_are_never_sampled(changes: dict[str, Any]) -> None:
    rng = np.random.default_rng(8)
    layout = ReplayLayout(rich_space(4), 3, 45, 3, 0.9, 4, sampling="prioritized", priority_exponent=0.9, **changes)
    replay, naive = PrioritizedReplay(layout), Naive()
    for row in play(rng, 120, 3, 4, layout.carry_dim, rich=True):
        replay.add(row)
        naive.add(row)
        drawable = naive.drawable(layout)
        if drawable:
            indices = replay.sample(32, rng).indices
            assert set(indices.tolist()) <= drawable
            replay.update_priorities(indices, torch.from_numpy(10.0 ** rng.uniform(-9, 3, 32)))


@pytest.mark.parametrize("changes", [{}, SEQUENCES], ids=["transitions", "sequences"])
@pytest.mark.parametrize("rows", [11, 60])
def test_rounding_in_the_tree_samples_no_other_rows(rows: int, changes: dict[str, Any]) -> None:
    rng = np.random.default_rng(9)
    replay, drawable = filled(rng, rows, simple(rows=19, **changes))
    find, leaves = replay.tree.find, len(replay.tree.leaves)
    assert leaves > replay.layout.rows // replay.layout.stride * 3 > len(drawable)
    for leaf in range(leaves):
        answers = iter([np.array([leaf])])
        replay.tree.find = lambda value, answers=answers: next(answers, find(value))  # type: ignore[method-assign]
        assert replay.sample(1, rng).indices[0] in drawable


@pytest.mark.parametrize("changes", [{}, SEQUENCES], ids=["transitions", "sequences"])
def test_a_restored_replay_continues_as_the_original(changes: dict[str, Any]) -> None:
    layout = ReplayLayout(rich_space(4), 3, 75, 3, 0.9, 4, sampling="prioritized", **changes)
    memories, pieces = [PrioritizedReplay(layout)], []
    for t, row in enumerate(play(np.random.default_rng(10), 110, 3, 4, layout.carry_dim, rich=True)):
        for replay in memories:
            replay.add(row)
        low, high = memories[0].starts
        if high - low > 3:
            first, *others = (replay.sample(8, np.random.default_rng(t), 0.5) for replay in memories)
            for batch in others:
                assert_same_batch(batch, first)
            priorities = torch.from_numpy(np.random.default_rng(t).exponential(size=8))
            for replay in memories:
                replay.update_priorities(first.indices, priorities)
        if t in (2, 17, 30, 66, 99):
            pieces += list(memories[0].unsaved(max_bytes=5_000))
            memories[0].saved_row = memories[0].next_row
            memories.append(PrioritizedReplay(layout))
            for start, piece in pieces:
                memories[-1].restore(start, piece)
            memories[-1].load_state(memories[0].state())
        for replay in memories[1:]:
            assert same_tree(replay.tree, memories[0].tree)
            assert replay.max_weight == memories[0].max_weight
            assert replay.next_row == memories[0].next_row
    assert memories[0].oldest_row > layout.rows
    assert len(memories) == 6


def test_a_state_is_a_copy() -> None:
    replay, drawable = filled(np.random.default_rng(11), 60, simple())
    state = replay.state()
    before = {key: value.copy() for key, value in state.items()}
    replay.update_priorities(drawable, torch.full((len(drawable),), 50.0))
    for key, value in state.items():
        np.testing.assert_array_equal(value, before[key])


def trained(algorithm: str, vector: Callable[..., Any], folder: Path) -> tuple[Learner, Replay]:
    """Train a tiny agent to its last checkpoint, in a replay that has wrapped around by then."""
    config: Any = replace(tiny(PRESETS[algorithm, "toy"]), replay_capacity=300)
    envs = vector(ChainEnv, config.num_envs)
    agent = build_agent(algorithm, config, envs, CPU)
    layout = replay_layout(config, envs, agent.model.carry_dim)
    assert layout is not None
    replay, run = build_replay(layout, agent.device), Run(folder, config)
    agent.train(envs, run, replay)
    run.close()
    return agent, replay


def loaded(path: Path, like: Replay) -> Replay:
    replay = build_replay(like.layout, CPU_DEVICE)
    checkpoint.load_replay(path, checkpoint.read_state(path), replay)
    return replay


def assert_same_memory(a: Replay, b: Replay) -> None:
    assert a.next_row == b.next_row
    for name, array in a.arrays.items():
        np.testing.assert_array_equal(array, b.arrays[name], err_msg=name)
    if isinstance(a, PrioritizedReplay):
        assert isinstance(b, PrioritizedReplay)
        assert same_tree(a.tree, b.tree)
        assert a.max_weight == b.max_weight


@pytest.mark.parametrize("algorithm", ["rainbow", "r2d2"])
def test_a_checkpointed_replay_continues_bit_for_bit(algorithm: str, vector: Any, tmp_path: Path) -> None:
    agent, replay = trained(algorithm, vector, tmp_path)
    assert isinstance(replay, PrioritizedReplay)
    assert replay.oldest_row > 0
    assert len(set(replay.state()["weights"].tolist())) > 20  # it has learned from many
    path = checkpoint.resolve(tmp_path / "checkpoints")
    copy = loaded(path, replay)
    assert_same_memory(copy, replay)
    twin: Learner = type(agent)(agent.config, agent.observation_space, spaces.Discrete(agent.num_actions), CPU)  # type: ignore[call-arg]
    checkpoint.load_agent(path, twin)
    for number in range(10):
        for learner, held in ((agent, replay), (twin, copy)):
            batch = held.sample(8, np.random.default_rng(number), 0.6)
            _, priorities = learner.update(batch, torch.Generator().manual_seed(number))
            held.update_priorities(batch.indices, priorities)
    assert checkpoint.weights_sha256(agent) == checkpoint.weights_sha256(twin)
    assert_same_memory(copy, replay)


def saved(sampling: ReplaySampling, vector: Any, folder: Path) -> tuple[Learner, Replay, Path]:
    """Save three checkpoints of an agent and a replay that wraps around; return them and the last checkpoint."""
    config = tiny(PRESETS["dqn", "toy"])
    agent = build_agent("dqn", config, vector(ChainEnv, config.num_envs), CPU)
    replay = build_replay(replace(simple(), sampling=sampling), CPU_DEVICE)
    for t, row in enumerate(play(np.random.default_rng(1), 22, 3, 1)):
        replay.add(row._replace(obs=row.obs["vector"]))
        if t in (7, 16, 22):
            replay.update_priorities(replay.sample(8, np.random.default_rng(t)).indices, torch.rand(8))
            checkpoint.save(folder, f"step_{t:012d}", agent, {}, replay, best=False)
    return agent, replay, checkpoint.resolve(folder)


@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
def test_pieces_outside_the_ring_are_not_listed(sampling: ReplaySampling, vector: Any, tmp_path: Path) -> None:
    _, replay, path = saved(sampling, vector, tmp_path)
    assert [piece["first_row"] for piece in checkpoint.read_state(path)["replay"]] == [8, 17]
    assert_same_memory(loaded(path, replay), replay)
    assert (path / "replay.safetensors").exists() is (sampling == "prioritized")


@pytest.mark.parametrize("damage", ["missing", "altered", "short"])
def test_damaged_priorities_are_refused(damage: str, vector: Any, tmp_path: Path) -> None:
    _, replay, path = saved("prioritized", vector, tmp_path)
    file = path / "replay.safetensors"
    content = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(content[:-8] + (bytes(8) if damage == "altered" else b""))
    with pytest.raises(CheckpointError, match=r"replay\.safetensors is missing or not the file that was saved"):
        loaded(path, replay)


@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
def test_a_checkpoint_after_a_resume_holds_earlier_rows(sampling: ReplaySampling, vector: Any, tmp_path: Path) -> None:
    agent, replay, path = saved(sampling, vector, tmp_path)
    copy = loaded(path, replay)
    for row in play(np.random.default_rng(2), 2, 3, 1):
        for held in (copy, replay):
            held.add(row._replace(obs=row.obs["vector"]))
    checkpoint.save(tmp_path, "step_000000000999", agent, {}, copy, best=False)
    assert_same_memory(loaded(checkpoint.resolve(tmp_path), replay), replay)


def test_all_rows_of_a_truncated_episode_can_be_sampled() -> None:
    rng, cut, n_step, envs = np.random.default_rng(12), 30, 4, 6
    layout = ReplayLayout(rich_space(4), envs, 600, n_step, 0.5, 4, sampling="prioritized")
    replay, naive = fill(layout, rng, 2 * cut, cut=True)
    batch = replay.sample(20 * len(naive.drawable(layout)), rng)
    running = np.ones(envs, bool)
    for back in range(1, n_step + 1):
        running &= ~(naive.rows[cut - back]["dead"] | naive.rows[cut - back]["terminated"])
        assert running.any()
        for env in np.flatnonzero(running):
            k = np.flatnonzero(batch.indices == (cut - back) * envs + env)[0]
            assert batch.discount[k].item() == 0.5**back
            for key, part in batch.next_obs.items():
                assert torch.equal(part[k], torch.from_numpy(naive.rows[cut]["obs"][key][env]))
    assert not (batch.indices // envs == cut).any()


def test_the_importance_exponent_rises_to_its_end_over_the_training(
    vector: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: Any = replace(tiny(PRESETS["rainbow", "toy"]), importance_exponent=0.4, importance_exponent_end=0.9)
    envs = vector(ChainEnv, config.num_envs)
    agent = build_agent("rainbow", config, envs, CPU)
    layout = replay_layout(config, envs, agent.model.carry_dim)
    assert layout is not None
    replay, run, drawn = build_replay(layout, agent.device), Run(tmp_path, config), []
    sample = replay.sample

    def recorded(batch_size: int, rng: np.random.Generator, beta: float) -> Any:
        drawn.append((run.env_steps / config.total_steps, beta))
        return sample(batch_size, rng, beta)

    monkeypatch.setattr(replay, "sample", recorded)
    agent.train(envs, run, replay)
    run.close()
    assert len(drawn) > 20
    assert drawn[-1][0] > 0.95
    assert [beta for _, beta in drawn] == pytest.approx([0.4 + 0.5 * min(progress, 1.0) for progress, _ in drawn])

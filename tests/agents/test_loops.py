"""`interact` and the rollout collector on a counting environment, with an agent that checks its inputs."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from agents.interface import Rollout
from agents.loops import RolloutCollector, interact, learning_view
from agents.presets.registry import OURS, PRESETS, tiny, with_core
from envs.toy import CountingEnv
from tests.agents import helpers


class Asserting:
    """Its carry counts rows since `first`, which must equal the step in the observation."""

    device = torch.device("cpu")

    def initial_carry(self, batch: int) -> torch.Tensor:
        return torch.zeros(batch, 1)

    def act(self, obs, first, carry, env_steps, rng):
        carry = torch.where(torch.from_numpy(first)[:, None], 0.0, carry)
        # Counting shows (episode, step): since an episode's first row the memory has counted just as far
        np.testing.assert_array_equal(carry[:, 0].numpy(), obs[:, 1])
        return np.zeros(len(obs), int), carry + 1, {"value": obs[:, 1].copy()}


def rows_of(vector, count: int, envs: int = 3):
    generator = torch.Generator().manual_seed(0)
    return list(itertools.islice(interact(Asserting(), vector(CountingEnv, envs), [1] * envs, generator, 0), count))


def test_rows_connect_and_flags_are_right(vector) -> None:
    rows = rows_of(vector, 40)
    for row, after in itertools.pairwise(rows):
        np.testing.assert_array_equal(row.next_obs, after.obs)
        np.testing.assert_array_equal(after.dead, row.terminated | row.truncated)
        np.testing.assert_array_equal(after.first, row.dead)
        np.testing.assert_array_equal(row.next_carry, after.carry)
    for row in rows:
        np.testing.assert_array_equal(row.first, (row.obs[:, 1] == 0) & ~row.dead)
        assert (row.reward[row.dead] == 0).all()
        # the reward of a live step is its number, so a row that mixed two episodes would be off
        np.testing.assert_array_equal(row.reward[~row.dead], row.obs[~row.dead, 1] + 1)


def test_lengths_and_kinds_of_ends(vector) -> None:
    rows = rows_of(vector, 60, envs=1)
    ends = [(row.next_obs[0].tolist(), bool(row.terminated[0])) for row in rows if (row.terminated | row.truncated)[0]]
    assert ends[:4] == [([0, 3], True), ([1, 5], False), ([2, 2], True), ([3, 3], False)]


def test_two_passes_with_the_same_seeds_are_equal(vector) -> None:
    for a, b in zip(rows_of(vector, 20), rows_of(vector, 20), strict=True):
        np.testing.assert_array_equal(a.obs, b.obs)


def test_learning_view_changes_only_rewards_and_ends(vector) -> None:
    row = rows_of(vector, 3)[2]._replace(
        info={"lives": np.array([3, 3, 0])}, next_info={"lives": np.array([2, 3, 5])}, dead=np.array([0, 0, 0], bool),
        terminated=np.array([0, 0, 1], bool), reward=np.array([7.0, -0.5, 0.0]),
    )  # fmt: skip
    seen = learning_view(row, clip_rewards=True, life_loss_ends=True)
    assert seen.reward.tolist() == [1.0, -1.0, 0.0]
    assert seen.terminated.tolist() == [True, False, True]
    plain = learning_view(row, clip_rewards=False, life_loss_ends=False)
    assert plain.reward.tolist() == [7.0, -0.5, 0.0]
    assert plain.terminated.tolist() == [False, False, True]
    assert row.reward.tolist() == [7.0, -0.5, 0.0]


def test_a_reset_is_not_a_lost_life(vector) -> None:
    # a dead row: lives rise from 0 to 5, or fall from what an unfinished game had left to a new game's number
    row = rows_of(vector, 3)[2]._replace(
        info={"lives": np.array([4, 0, 0])}, next_info={"lives": np.array([3, 5, 5])}, dead=np.array([1, 1, 1], bool),
        terminated=np.zeros(3, bool),
    )  # fmt: skip
    assert not learning_view(row, False, True).terminated.any()


def test_a_rollout_equals_its_rows(vector) -> None:
    rows = rows_of(vector, 21)
    collector = RolloutCollector(7, torch.device("cpu"))
    for start in range(0, 21, 7):
        for row in rows[start : start + 7]:
            collector.add(learning_view(row, False, False))
        rollout = collector.rollout()
        assert isinstance(rollout, Rollout)
        part = rows[start : start + 7]
        np.testing.assert_array_equal(rollout.obs, np.stack([row.obs for row in part]))
        np.testing.assert_array_equal(rollout.extras["value"], np.stack([row.extras["value"] for row in part]))
        np.testing.assert_array_equal(rollout.carry, np.stack([row.carry for row in part]))
        np.testing.assert_array_equal(rollout.next_obs, part[-1].next_obs)
        np.testing.assert_array_equal(rollout.next_carry, part[-1].next_carry)
        np.testing.assert_array_equal(rollout.next_first, part[-1].dead)


def test_a_shorter_rollout_equals_its_rows(vector) -> None:
    rows = rows_of(vector, 10)
    collector = RolloutCollector(7, torch.device("cpu"))
    for part in (rows[:7], rows[7:]):
        for row in part:
            collector.add(row)
        rollout = collector.rollout()
        np.testing.assert_array_equal(rollout.obs, np.stack([row.obs for row in part]))
        np.testing.assert_array_equal(rollout.next_obs, part[-1].next_obs)


@pytest.mark.parametrize("core", ["none", "lstm"])
@pytest.mark.parametrize("algorithm", OURS)
def test_a_training_keeps_its_budget(algorithm: str, core, vector, tmp_path: Path) -> None:
    """It ends in the row that reaches the budget, in the middle of the third rollout of an agent with rollouts."""
    config = replace(with_core(tiny(PRESETS[algorithm, "classic"]), core), total_steps=150, num_envs=2, core_size=8)
    agent, run = helpers.train(algorithm, config, vector(CountingEnv, 2), tmp_path)
    assert 150 <= run.env_steps <= 151
    rollout = getattr(config, "rollout_length", 0) * 2
    assert rollout in (0, 64)
    if rollout:
        assert agent.updates >= 3
        assert run.updates > config.epochs * config.minibatches * 2  # type: ignore[attr-defined]

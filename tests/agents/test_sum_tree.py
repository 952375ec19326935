"""The sum tree against a list of weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from agents.replay.prioritized import SumTree

CPU_DEVICE = torch.device("cpu")


def same_tree(a: SumTree, b: SumTree) -> bool:
    return a.nodes.tobytes() == b.nodes.tobytes()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10_000), depth=st.integers(0, 6), exact=st.booleans(), zeros=st.booleans())
def test_the_tree_equals_a_list_of_weights(seed: int, depth: int, exact: bool, zeros: bool) -> None:
    rng, count = np.random.default_rng(seed), 2**depth
    tree, weights = SumTree(count), np.zeros(count)
    for _ in range(8):
        index = rng.integers(count, size=rng.integers(1, 12))
        given_index = index.copy()
        weight = rng.integers(1, 9, len(index)).astype(float) if exact else rng.exponential(size=len(index)) ** 4
        if zeros:
            weight[rng.random(len(index)) < 0.5] = 0.0
        tree.set(index, weight)
        for k, new in zip(index, weight, strict=True):  # one after the other: the last counts
            weights[k] = new
        np.testing.assert_array_equal(index, given_index)
        np.testing.assert_array_equal(tree.leaves, weights)
        sums = np.cumsum(weights)
        assert tree.total == pytest.approx(sums[-1], rel=1e-12)
        inner = np.arange(1, count)
        np.testing.assert_array_equal(tree.nodes[inner], tree.nodes[2 * inner] + tree.nodes[2 * inner + 1])
        again = SumTree(count)
        again.leaves[:] = weights
        again.rebuild()
        assert same_tree(tree, again)
        if not tree.total:
            continue
        # whole numbers add up without rounding, so that borders can be asked for too; else stay away from them
        value = np.arange(0.0, sums[-1], 0.5) if exact else sums[-1] * rng.random(50)
        value = value if exact else value[np.abs(value[:, None] - sums).min(axis=1) > 1e-9 * sums[-1]]
        asked = value.copy()
        np.testing.assert_array_equal(tree.find(value), np.searchsorted(sums, value, side="right"))
        np.testing.assert_array_equal(value, asked)


def test_one_weight_for_many_leaves() -> None:
    tree = SumTree(8)
    tree.set(np.array([1, 6]), 2.5)
    assert tree.leaves.tolist() == [0, 2.5, 0, 0, 0, 0, 2.5, 0]
    assert tree.total == 5.0
    assert tree.find(np.array([0.0, 2.4, 2.5, 4.9])).tolist() == [1, 1, 6, 6]

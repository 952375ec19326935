"""Prioritized replay (Schaul et al. 2016, proportional variant): the ring of buffer.py, sampled through a sum tree.

Differences from the paper: priorities have a floor of 1e-6 instead of an added constant; weights are divided by the
largest of their minibatch, as in the authors' later code.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from agents.replay.buffer import Replay, ReplayLayout

FLOOR = 1e-6
"""Least priority of a sample."""


class SumTree:
    """Non-negative float64 weights; each node is the float sum of its two children. Vectorised in numpy."""

    def __init__(self, leaves: int):
        assert leaves & (leaves - 1) == 0, "a power of two"
        self.nodes = np.zeros(2 * leaves)
        self.offset = leaves

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self.nodes[1])

    @property
    def leaves(self) -> np.ndarray:
        """All weights, as a view."""
        return self.nodes[self.offset :]

    def set(self, index: np.ndarray, weight: np.ndarray | float) -> None:
        """Set the weights of the leaves `index` [B]; where an index repeats, the last weight counts."""
        node, nodes = index + self.offset, self.nodes
        nodes[node] = weight
        for _ in range(self.offset.bit_length() - 1):
            node >>= 1
            nodes[node] = nodes[2 * node] + nodes[2 * node + 1]

    def rebuild(self) -> None:
        """Recompute every sum from the leaves."""
        begin = self.offset
        while begin > 1:
            pairs = self.nodes[begin : 2 * begin].reshape(-1, 2)
            begin //= 2
            self.nodes[begin : 2 * begin] = pairs[:, 0] + pairs[:, 1]

    def find(self, value: np.ndarray) -> np.ndarray:
        """Return for each value [B] in [0, total) the leaf whose interval of the cumulative sum contains it."""
        node, value, nodes = np.ones(len(value), np.int64), value.copy(), self.nodes
        for _ in range(self.offset.bit_length() - 1):
            node *= 2
            left = nodes[node]
            right = value >= left
            value -= np.where(right, left, 0.0)
            node += right
        return node - self.offset


class PrioritizedReplay(Replay):
    """Samples in proportion to priority ** alpha; new rows have the highest priority so far."""

    def __init__(self, layout: ReplayLayout, device: torch.device | str = "cpu", spill: Path | None = None):
        super().__init__(layout, device, spill)
        self.tree = SumTree(layout.leaves)
        self.max_weight = 1.0
        """Highest priority ** alpha so far."""

    def _leaf(self, start: np.ndarray | int, env: np.ndarray) -> np.ndarray:
        return start % self.layout.slots * self.layout.num_envs + env

    def _advance(self) -> None:
        """Add the sample starts that the new row completes, and remove those that it overwrites."""
        low, high = self.starts
        super()._advance()
        new_low, new_high = self.starts
        env = np.arange(self.layout.num_envs)
        removed = [(self._leaf(start, env), np.zeros(len(env))) for start in range(low, min(new_low, high))]
        added = []
        for start in range(max(high, new_low), new_high):
            usable = self._usable(np.full(len(env), start * self.layout.stride), env)
            added.append((self._leaf(start, env), np.where(usable, self.max_weight, 0.0)))
        if removed or added:  # removed first: an added start may reuse its leaf
            leaves, weights = (np.concatenate(parts) for parts in zip(*removed, *added, strict=True))
            self.tree.set(leaves, weights)

    def _propose(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw one sample from each of `count` equal intervals of the total weight (stratified)."""
        if self.tree.total <= 0.0:
            raise ValueError("no row of the replay can be sampled; raise learning_starts or replay_capacity")
        value = (np.arange(count) + rng.random(count)) / count * self.tree.total
        leaf = self.tree.find(np.minimum(value, np.nextafter(self.tree.total, 0.0)))
        slot, env = np.divmod(leaf, self.layout.num_envs)
        last = self.starts[1] - 1
        return last - (last - slot) % self.layout.slots, env

    def _usable(self, row: np.ndarray, env: np.ndarray) -> np.ndarray:
        """Whether the row can be sampled, [B]; rounding in `find` may end at a leaf of weight 0."""
        low, high = self.starts
        start = row // self.layout.stride
        return super()._usable(row, env) & (start >= low) & (start < high)

    def _weights(self, row: np.ndarray, env: np.ndarray, beta: float) -> np.ndarray:
        """(least weight of the minibatch / weight) ** beta, [B]: the weights of the paper, divided by their largest."""
        weight = np.maximum(self.tree.leaves[self._leaf(row // self.layout.stride, env)], FLOOR**2)
        return ((weight.min() / weight) ** beta).astype(np.float32)

    def update_priorities(self, indices: np.ndarray, priorities: torch.Tensor | None) -> None:
        """Set the priorities [B] of samples that are still in the ring; ValueError if one is not finite."""
        assert priorities is not None
        weight = np.maximum(priorities.double().cpu().numpy(), FLOOR) ** self.layout.priority_exponent
        if not np.isfinite(weight).all():
            raise ValueError("a sample's error is not a finite number")
        row, env = np.divmod(indices, self.layout.num_envs)
        self.tree.set(self._leaf(row // self.layout.stride, env), weight)
        self.max_weight = max(self.max_weight, float(weight.max()))

    def state(self) -> dict[str, np.ndarray]:
        """Return all weights: they change throughout between two checkpoints."""
        used = self.layout.slots * self.layout.num_envs
        return {"weights": self.tree.leaves[:used].copy(), "max_weight": np.array([self.max_weight])}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore the arrays that `state` returned, after all rows."""
        self.tree.leaves[: len(state["weights"])] = state["weights"]
        self.tree.rebuild()
        self.max_weight = float(state["max_weight"][0])

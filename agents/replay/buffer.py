"""Replay: a ring of rows that stores each frame once; stacks, n-step returns and sequences are built when sampled.

About 7 GB per million Atari steps, where two stacks of four frames per transition would take 56 GB. A transition never
spans two episodes, and none is lost at an episode's end: the row after the end (dead under NEXT_STEP autoreset) holds
the final observation, so the last n-1 steps have ordinary, shorter returns.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypedDict

import numpy as np
import torch
from gymnasium import spaces

from agents.interface import Row, Sequences, Transitions
from networks.tensors import to_tensor

ReplaySampling = Literal["uniform", "prioritized"]
FLAGS = {"action": np.int32, "reward": np.float32, "terminated": bool, "truncated": bool, "dead": bool, "age": np.int32}
"""Arrays per row and environment beside the observation; `age` counts rows since the episode's first."""


@dataclass(frozen=True)
class ReplayLayout:
    """Shapes and settings of a replay, from which its size is known before it is allocated."""

    observation_space: spaces.Space
    num_envs: int
    capacity: int
    """Env steps held in the replay."""
    n_step: int = 1
    gamma: float = 0.99
    frame_stack: int = 1
    """Frames along an image's first axis, of which each row stores the last only; other arrays are not stacked."""
    sequence_length: int = 1
    """Rows learned from in a sample: 1 gives Transitions; more gives Sequences, which start where a carry is stored."""
    carry_dim: int = 0
    burn_in: int = 0
    """Rows before those, which only refresh the carry."""
    sampling: ReplaySampling = "uniform"
    priority_exponent: float = 0.5
    """prioritized: samples are drawn in proportion to priority ** this (alpha)."""

    @property
    def window(self) -> int:
        """Rows of a sample, burn-in included."""
        return self.burn_in + self.sequence_length

    @property
    def rows(self) -> int:
        """Rows of `num_envs` steps: whole carry strides, at least enough for one sample."""
        least = self.window + self.n_step + self.frame_stack + self.stride
        rows = max(-(-self.capacity // self.num_envs), least)
        return -(-rows // self.stride) * self.stride

    @property
    def stride(self) -> int:
        """Rows between two sample starts: 1 for transitions; sequences overlap by half."""
        return max(self.sequence_length // 2, 1)

    @property
    def slots(self) -> int:
        """Sample starts of one environment."""
        return self.rows // self.stride

    def stacked(self, space: spaces.Space) -> bool:
        """Whether this part of the observation is a stack of frames."""
        return self.frame_stack > 1 and isinstance(space, spaces.Box) and len(space.shape) == 3

    def shapes(self) -> dict[str, tuple[tuple[int, ...], Any]]:
        """Return name -> (shape, dtype) of every array; observations are named `obs` or `obs.KEY`."""
        lead = (self.rows, self.num_envs)
        shapes: dict[str, tuple[tuple[int, ...], Any]] = {name: (lead, dtype) for name, dtype in FLAGS.items()}
        for name, space in self.observations().items():
            shape = space.shape[1:] if self.stacked(space) else space.shape
            shapes[name] = ((*lead, *shape), space.dtype)
        if self.carry_dim:
            shapes["carry"] = ((self.slots, self.num_envs, self.carry_dim), np.float32)
        return shapes

    def observations(self) -> dict[str, Any]:
        """Return the spaces of the observation's parts by array name."""
        space = self.observation_space
        return {f"obs.{key}": part for key, part in space.items()} if isinstance(space, spaces.Dict) else {"obs": space}

    @property
    def nbytes(self) -> int:
        """Exact size of the replay in bytes."""
        stored = sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in self.shapes().values())
        return stored + (16 * self.leaves if self.sampling == "prioritized" else 0)

    @property
    def leaves(self) -> int:
        """Leaves of the sum tree: one for each sample start, rounded up to a power of two."""
        return 1 << (self.slots * self.num_envs - 1).bit_length()


class Piece(TypedDict):
    """A file with consecutive rows of a saved replay."""

    file: str
    first_row: int
    end_row: int
    sha256: str


class Replay:
    """Uniform replay over `layout.rows` rows; row r of the run is stored at r modulo that.

    Minibatches are tensors on `device`. With a folder `spill`, observations are memory-mapped files on its disk; the
    files have no name, so nothing is left behind however the process ends.
    """

    def __init__(self, layout: ReplayLayout, device: torch.device | str = "cpu", spill: Path | None = None):
        self.layout, self.device, self.spill = layout, torch.device(device), spill
        self.arrays = {name: self._allocate(name, shape, dtype) for name, (shape, dtype) in layout.shapes().items()}
        self.next_row = 0
        """Rows added since the run began."""
        self.saved_row = 0
        """Rows that a checkpoint holds already."""
        self.pieces: list[Piece] = []
        """Files of these rows, as listed in the last checkpoint."""

    def _allocate(self, name: str, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
        if self.spill is None or not name.startswith("obs"):
            return np.zeros(shape, dtype)
        with tempfile.TemporaryFile(dir=self.spill) as file:
            return np.memmap(file, dtype, "w+", shape=shape)

    @property
    def oldest_row(self) -> int:
        """Number of the oldest row still in the ring."""
        return max(self.next_row - self.layout.rows, 0)

    @property
    def starts(self) -> tuple[int, int]:
        """Range (begin, end) of the sample starts whose rows are all stored; start k is row k * stride."""
        stride, last_row = self.layout.stride, self.next_row - self.layout.n_step - self.layout.window
        return -(-self.oldest_row // stride), last_row // stride + 1

    def add(self, row: Row) -> None:
        """Store one row of all environments."""
        at, before = self.next_row % self.layout.rows, (self.next_row - 1) % self.layout.rows
        arrays = self.arrays
        for name in ("action", "reward", "terminated", "truncated", "dead"):
            arrays[name][at] = getattr(row, name)
        arrays["age"][at] = np.where(row.first, 0, arrays["age"][before] + 1)
        self._store_obs(at, row.obs)
        if self.layout.carry_dim and self.next_row % self.layout.stride == 0:
            arrays["carry"][at // self.layout.stride] = row.carry.cpu().numpy()
        self._advance()

    def truncate_episodes(self, next_obs: Any) -> None:
        """Truncate all running episodes after the last row; `next_obs` [N, ...] is stored to bootstrap from."""
        if self.next_row == 0:
            return
        at, before = self.next_row % self.layout.rows, (self.next_row - 1) % self.layout.rows
        arrays = self.arrays
        arrays["truncated"][before] |= ~(arrays["terminated"][before] | arrays["dead"][before])
        for name in ("action", "reward", "terminated", "truncated"):  # an ordinary dead row, with the final observation
            arrays[name][at] = 0
        arrays["dead"][at] = True
        arrays["age"][at] = arrays["age"][before] + 1
        self._store_obs(at, next_obs)
        self._advance()

    def _advance(self) -> None:
        """Count the row just written."""
        self.next_row += 1

    def _store_obs(self, at: int, obs: Any) -> None:
        for name, space in self.layout.observations().items():
            part = obs if name == "obs" else obs[name.removeprefix("obs.")]
            self.arrays[name][at] = part[:, -1] if self.layout.stacked(space) else part

    def sample(self, batch_size: int, rng: np.random.Generator, beta: float = 1.0) -> Transitions | Sequences:
        """Draw a minibatch with replacement; its `indices` go back to `update_priorities`.

        `beta` is the exponent of the importance-sampling weights, which are 1 in uniform replay. ValueError where the
        replay holds too few rows.
        """
        row, env = self._draw(batch_size, rng)
        index = row * self.layout.num_envs + env
        weight = self._weights(row, env, beta)
        if self.layout.sequence_length > 1:
            return self._sequences(row, env, index, weight)
        reward, discount, steps = self._n_step(row, env)
        return Transitions(
            obs=self._obs(row, env),
            action=self._tensor(self._at("action", row, env), torch.int64),
            reward=self._tensor(reward),
            discount=self._tensor(discount),
            next_obs=self._obs(row + steps, env),
            weight=self._tensor(weight),
            indices=index,
        )

    def update_priorities(self, indices: np.ndarray, priorities: torch.Tensor | None) -> None:
        """Set the priorities [B] of a minibatch's samples; uniform replay has none."""

    def _weights(self, row: np.ndarray, env: np.ndarray, beta: float) -> np.ndarray:
        """Return importance-sampling weights [B], float32."""
        return np.ones(len(row), np.float32)

    def _propose(self, count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw sample starts and environments, [count] each."""
        low, high = self.starts
        return rng.integers(low, high, count), rng.integers(self.layout.num_envs, size=count)

    def _draw(self, batch_size: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw rows of the run and environments, [B] each, again until all are usable."""
        low, high = self.starts
        if high <= low:
            raise ValueError(f"the replay holds {self.next_row} rows, too few to sample; raise learning_starts")
        row, env = np.empty(batch_size, np.int64), np.empty(batch_size, np.int64)
        missing = np.arange(batch_size)
        for _ in range(1000):
            start, env[missing] = self._propose(len(missing), rng)
            row[missing] = start * self.layout.stride
            missing = missing[~self._usable(row[missing], env[missing])]
            if not len(missing):
                return row, env
        raise ValueError("no row of the replay can be sampled; raise learning_starts or replay_capacity")

    def _usable(self, row: np.ndarray, env: np.ndarray) -> np.ndarray:
        """Whether the row is alive and its frame stack complete, [B] bool; sequences may start dead, and mask it."""
        needed = np.minimum(self._at("age", row, env), self.layout.frame_stack - 1)
        complete = row - needed >= self.oldest_row
        return complete & (~self._at("dead", row, env) if self.layout.sequence_length == 1 else True)

    def _n_step(self, row: np.ndarray, env: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the sum of m <= n rewards, up to an end; gamma^m, 0 if terminated; and m. Arrays like `row`."""
        total = np.zeros(row.shape, np.float32)
        discount = np.ones(row.shape, np.float32)
        steps = np.zeros(row.shape, np.int64)
        running = np.ones(row.shape, bool)
        for k in range(self.layout.n_step):
            total += np.where(running, discount * self._at("reward", row + k, env), 0.0)
            discount = np.where(running, discount * np.float32(self.layout.gamma), discount)
            steps += running
            terminated = self._at("terminated", row + k, env)
            discount = np.where(running & terminated, np.float32(0.0), discount)
            running &= ~(terminated | self._at("truncated", row + k, env))
        return total, discount, steps

    def _sequences(self, row: np.ndarray, env: np.ndarray, index: np.ndarray, weight: np.ndarray) -> Sequences:
        """Return the sequences that start at rows `row` [B] of environments `env` [B]."""
        length, n_step, burn_in = self.layout.sequence_length, self.layout.n_step, self.layout.burn_in
        rows = row + np.arange(burn_in + length + n_step)[:, None]  # [K + L + n, B]
        envs = np.broadcast_to(env, rows.shape)
        learned, learned_envs = rows[burn_in : burn_in + length], envs[burn_in : burn_in + length]  # [L, B]
        reward, discount, steps = self._n_step(learned, learned_envs)
        slot = (row % self.layout.rows) // self.layout.stride
        return Sequences(
            obs=self._obs(rows, envs),
            first=self._tensor(self._at("age", rows, envs) == 0),
            carry=self._tensor(self.arrays["carry"][slot, env]),
            action=self._tensor(self._at("action", learned, learned_envs), torch.int64),
            reward=self._tensor(reward),
            discount=self._tensor(discount),
            bootstrap=self._tensor(steps + np.arange(length)[:, None]),
            mask=self._tensor(~self._at("dead", learned, learned_envs), torch.float32),
            weight=self._tensor(weight),
            indices=index,
        )

    def _at(self, name: str, row: np.ndarray, env: np.ndarray) -> np.ndarray:
        """Return the values of the array `name` at rows of the run: [*row.shape, ...]."""
        return self.arrays[name][row % self.layout.rows, env]

    def _obs(self, row: np.ndarray, env: np.ndarray) -> Any:
        """Return the observations at rows of the run as tensors [*row.shape, ...], with stacked frames."""
        parts = {name: self._tensor(self._stack(name, row, env)) for name in self.layout.observations()}
        return parts["obs"] if "obs" in parts else {name.removeprefix("obs."): part for name, part in parts.items()}

    def _stack(self, name: str, row: np.ndarray, env: np.ndarray) -> np.ndarray:
        """Return one part of the observations; frames from before the episode are black, as in the environment."""
        array = self.arrays[name]
        frames = array.reshape(-1, *array.shape[2:])
        stack = self.layout.frame_stack
        if not self.layout.stacked(self.layout.observations()[name]):
            return frames[(row % self.layout.rows) * self.layout.num_envs + env]
        back = np.arange(stack - 1, -1, -1)
        flat = ((row[..., None] - back) % self.layout.rows) * self.layout.num_envs + env[..., None]
        stacked = frames[flat]  # [*row.shape, stack, ...]
        stacked[back > self._at("age", row, env)[..., None]] = 0
        return stacked

    def _tensor(self, array: np.ndarray, dtype: torch.dtype | None = None) -> torch.Tensor:
        return to_tensor(array, self.device, dtype)

    def unsaved(self, max_bytes: int = 64 << 20) -> Iterator[tuple[int, dict[str, np.ndarray]]]:
        """Yield (first row, arrays) of the rows that no checkpoint holds yet, in pieces of about `max_bytes`."""
        begin = max(self.saved_row, self.oldest_row)
        per_row = max(self.layout.nbytes // self.layout.rows, 1)
        # whole strides of rows, so that each stored carry belongs to exactly one piece
        size = max(max_bytes // per_row // self.layout.stride, 1) * self.layout.stride
        for start in range(begin, self.next_row, size):
            yield start, self._piece(np.arange(start, min(start + size, self.next_row)))

    def _piece(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Return a copy of consecutive rows [R]; carries are stored once per stride."""
        at = rows % self.layout.rows
        piece = {name: array[at] for name, array in self.arrays.items() if name != "carry"}
        if self.layout.carry_dim:
            stored = at[rows % self.layout.stride == 0] // self.layout.stride
            piece["carry"] = self.arrays["carry"][stored]
        return piece

    def restore(self, first_row: int, piece: dict[str, np.ndarray]) -> None:
        """Restore a piece from `unsaved`; pieces come in order."""
        rows = np.arange(first_row, first_row + len(piece["action"]))
        at = rows % self.layout.rows
        for name, array in self.arrays.items():
            if name != "carry":
                array[at] = piece[name]
        if self.layout.carry_dim:
            stored = at[rows % self.layout.stride == 0] // self.layout.stride
            self.arrays["carry"][stored] = piece["carry"]
        self.next_row = self.saved_row = int(rows[-1]) + 1

    def state(self) -> dict[str, np.ndarray]:
        """Return arrays that change throughout, and are saved whole at each checkpoint: none in uniform replay."""
        return {}

    def load_state(self, state: dict[str, np.ndarray]) -> None:
        """Restore the arrays that `state` returned, after all rows."""

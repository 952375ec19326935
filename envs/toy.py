"""Tiny environments with known optimal returns, on which a broken agent or loop fails within seconds."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class CountingEnv(gym.Env):
    """Observe (episode number, step in the episode); actions have no effect.

    Episode k lasts `lengths[k % len(lengths)]` steps; it is truncated if k is odd and terminates otherwise. The reward
    is the step number, so a test can check every row of a rollout or a replay. With `image`, observations are stacks of
    `stack` frames, uint8 [stack, 6, 6], whose brightness encodes episode and step.
    """

    def __init__(self, lengths: tuple[int, ...] = (3, 5, 2), image: bool = False, stack: int = 1):
        self.lengths, self.image, self.stack = lengths, image, stack
        self.observation_space: spaces.Space = (
            spaces.Box(0, 255, (stack, 6, 6), np.uint8) if image else spaces.Box(0, 1e6, (2,), np.float32)
        )
        self.action_space = spaces.Discrete(2)
        self.episode, self.count = -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the next episode, or with a seed, the first."""
        super().reset(seed=seed)
        self.episode, self.count = (0 if seed is not None else self.episode + 1), 0
        self.frames = [np.zeros((6, 6), np.uint8)] * self.stack
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Advance the step count."""
        self.count += 1
        over = self.count >= self.lengths[self.episode % len(self.lengths)]
        odd = self.episode % 2 == 1
        return self._observe(), float(self.count), over and not odd, over and odd, {}

    def _observe(self) -> Any:
        if not self.image:
            return np.array([self.episode, self.count], np.float32)
        frame = np.full((6, 6), 1 + (16 * self.episode + self.count) % 255, np.uint8)
        self.frames = [*self.frames[1:], frame]
        return np.stack(self.frames)


class ChainEnv(gym.Env):
    """A corridor of `length` cells: walking right for `length` steps pays 1, leaving on the left pays 0.1 at once.

    The optimal return is 1 for discounts above 0.1^(1 / (length - 1)), else 0.1. Similar to the NChain problem of
    Strens 2000. Actions: 0 leaves on the left, 1 walks right. Observations: the cell as a one-hot vector [length].
    """

    def __init__(self, length: int = 4):
        self.length, self.cell = length, 0
        self.observation_space = spaces.Box(0.0, 1.0, (length,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start in the leftmost cell."""
        super().reset(seed=seed)
        self.cell = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Leave (0) or walk right (1)."""
        if action == 0:
            return self._observe(), 0.1, True, False, {}
        self.cell += 1
        won = self.cell == self.length
        self.cell = min(self.cell, self.length - 1)
        return self._observe(), float(won), won, False, {}

    def _observe(self) -> np.ndarray:
        return np.eye(self.length, dtype=np.float32)[self.cell]


def check_horizon(horizon: int) -> int:
    """Return the horizon of a memory task; raise ValueError if it is below 1."""
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, not {horizon}")
    return int(horizon)


class MemoryChainEnv(gym.Env):
    """Show a cue at the first step; after `horizon` blank steps, the action must name it: 1 if it does, else -1.

    The optimal return is 1, or 0 in expectation without memory. Observations: (cue as -1 or 1, whether to answer now).
    """

    def __init__(self, horizon: int = 4):
        self.horizon, self.cue, self.count = check_horizon(horizon), 0, 0
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Sample a cue and show it."""
        super().reset(seed=seed)
        self.cue, self.count = int(self.np_random.integers(2)), 0
        return np.array([2 * self.cue - 1, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Wait, or answer if the last observation asked for it."""
        if self.count == self.horizon:
            return np.zeros(2, np.float32), 1.0 if action == self.cue else -1.0, True, False, {}
        self.count += 1
        return np.array([0, self.count == self.horizon], np.float32), 0.0, False, False, {}


class TMazeEnv(gym.Env):
    """A sign at the start shows which way to turn at the end of a corridor of `horizon` steps; the right turn pays 1.

    Actions: walk, turn left, turn right; an impossible action only takes a step. The optimal return is 1, or 1/2 in
    expectation without memory. After Bakker 2002, "Reinforcement learning with long short-term memory", section 4.
    Observations: (sign as -1 or 1 at the start and 0 later, whether this is the junction).
    """

    def __init__(self, horizon: int = 8):
        self.horizon, self.sign, self.cell, self.count = check_horizon(horizon), 0, 0, 0
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Sample a sign and show it."""
        super().reset(seed=seed)
        self.sign, self.cell, self.count = 2 * int(self.np_random.integers(2)) - 1, 0, 0
        return np.array([self.sign, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Walk or turn; the episode is truncated after 8 (horizon + 1) steps."""
        self.count += 1
        junction = self.cell == self.horizon
        if junction and action != 0:
            return np.zeros(2, np.float32), float(2 * action - 3 == self.sign), True, False, {}
        self.cell += not junction and action == 0
        late = self.count >= 8 * (self.horizon + 1)
        return np.array([0, self.cell == self.horizon], np.float32), 0.0, False, late, {}


class RepeatPreviousEnv(gym.Env):
    """Show one of four symbols at each step; the action must name the symbol of `horizon` steps ago, for 1/24 each.

    An episode has horizon + 24 steps, of which the first `horizon` pay nothing. The optimal return is 1, or 1/4 in
    expectation without memory. From POPGym (Morad et al. 2023), without its penalty for wrong answers.
    """

    SYMBOLS, ANSWERS = 4, 24

    def __init__(self, horizon: int = 4):
        self.horizon, self.shown = check_horizon(horizon), [0]
        self.observation_space = spaces.Discrete(self.SYMBOLS)
        self.action_space = spaces.Discrete(self.SYMBOLS)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Show the first symbol."""
        super().reset(seed=seed)
        self.shown = [int(self.np_random.integers(self.SYMBOLS))]
        return self.shown[-1], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Score the answer and show the next symbol."""
        answered = len(self.shown) - self.horizon  # number of this answer; counts from 1
        right = answered >= 1 and action == self.shown[-1 - self.horizon]
        self.shown.append(int(self.np_random.integers(self.SYMBOLS)))
        return self.shown[-1], right / self.ANSWERS, answered == self.ANSWERS, False, {}


class EndlessRewardEnv(gym.Env):
    """Pay 1 at every step, truncated after `limit` steps: the value of the only state is 1 / (1 - gamma)."""

    def __init__(self, limit: int = 10):
        self.limit, self.count = limit, 0
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; the observation is constant, so it does not reveal the step."""
        super().reset(seed=seed)
        self.count = 0
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Pay 1."""
        self.count += 1
        return np.ones(1, np.float32), 1.0, False, self.count >= self.limit, {}


class DeepSeaEnv(gym.Env):
    """A diver sinks one row per step, to the left or right; only `size` moves to the right reach the treasure, worth 1.

    Each move to the right costs 0.01 / size, so the early rewards favour the left. Which action moves right is drawn
    for each cell, from a fixed seed. Random play finds the treasure once in 2 ** size games; the optimal return is
    0.99. From bsuite (Osband et al. 2020, "Behaviour suite for reinforcement learning", deep sea). Observations: the
    cell as a one-hot vector [size * size].
    """

    def __init__(self, size: int = 10):
        self.size, self.row, self.column = size, 0, 0
        self.rights = np.random.default_rng(size).integers(2, size=(size, size))
        self.observation_space = spaces.Box(0.0, 1.0, (size * size,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start in the upper left corner."""
        super().reset(seed=seed)
        self.row, self.column = 0, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Sink one row, to the left or right."""
        right = action == self.rights[self.row, self.column]
        treasure = right and self.row == self.column == self.size - 1
        self.column = min(self.column + 1, self.size - 1) if right else max(self.column - 1, 0)
        self.row += 1
        return self._observe(), float(treasure) - 0.01 / self.size * right, self.row == self.size, False, {}

    def _observe(self) -> np.ndarray:
        obs = np.zeros(self.size * self.size, np.float32)
        if self.row < self.size:
            obs[self.row * self.size + self.column] = 1.0
        return obs


TOYS: dict[str, Any] = {
    "joypad/Counting-v0": CountingEnv,
    "joypad/Chain-v0": ChainEnv,
    "joypad/MemoryChain-v0": MemoryChainEnv,
    "joypad/TMaze-v0": TMazeEnv,
    "joypad/RepeatPrevious-v0": RepeatPreviousEnv,
    "joypad/EndlessReward-v0": EndlessRewardEnv,
    "joypad/DeepSea-v0": DeepSeaEnv,
}


def register() -> None:
    """Register the toys with Gymnasium; a second call has no effect."""
    for env_id, entry_point in TOYS.items():
        if env_id not in gym.registry:
            gym.register(env_id, entry_point, disable_env_checker=True, order_enforce=False)

"""Tiny environments with known answers: what an agent or a loop gets wrong shows here within seconds."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class CountingEnv(gym.Env):
    """Observes (episode number, step in the episode); nothing the agent does matters.

    Episode k lasts `lengths[k % len(lengths)]` steps, and ends by truncation where k is odd. Reward is the step's
    number. With it every row that a loop or a replay hands out can be told to be right or wrong.
    """

    def __init__(self, lengths: tuple[int, ...] = (3, 5, 2), image: bool = False, stack: int = 1):
        self.lengths, self.image, self.stack = lengths, image, stack
        self.observation_space: spaces.Space = (
            spaces.Box(0, 255, (stack, 6, 6), np.uint8) if image else spaces.Box(0, 1e6, (2,), np.float32)
        )
        self.action_space = spaces.Discrete(2)
        self.episode, self.count = -1, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start the next episode; a seed starts over from the first."""
        super().reset(seed=seed)
        self.episode, self.count = (0 if seed is not None else self.episode + 1), 0
        self.frames = [np.zeros((6, 6), np.uint8)] * self.stack
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Count on."""
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

    The optimal return is 1 for any discount above 0.1^(1 / (length - 1)); an impatient agent gets 0.1. In the manner of
    the NChain problem of Strens 2000.
    """

    def __init__(self, length: int = 4):
        self.length, self.at = length, 0
        self.observation_space = spaces.Box(0.0, 1.0, (length,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start in the leftmost cell."""
        super().reset(seed=seed)
        self.at = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """0 leaves on the left, 1 walks right."""
        if action == 0:
            return self._observe(), 0.1, True, False, {}
        self.at += 1
        won = self.at == self.length
        self.at = min(self.at, self.length - 1)
        return self._observe(), float(won), won, False, {}

    def _observe(self) -> np.ndarray:
        return np.eye(self.length, dtype=np.float32)[self.at]


def checked(horizon: int) -> int:
    """Return the steps that a task of memory asks for, or raise ValueError where there are none."""
    if horizon < 1:
        raise ValueError(f"horizon must be at least 1, not {horizon}")
    return int(horizon)


class MemoryChainEnv(gym.Env):
    """A cue is shown once; naming it `horizon` steps later, after blank ones, pays 1, naming the other -1.

    Without memory the expected return is 0, with it 1.
    """

    def __init__(self, horizon: int = 4):
        self.horizon, self.cue, self.count = checked(horizon), 0, 0
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw and show a cue."""
        super().reset(seed=seed)
        self.cue, self.count = int(self.np_random.integers(2)), 0
        return np.array([2 * self.cue - 1, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Wait, then answer; the second number is 1 when the answer is due."""
        if self.count == self.horizon:
            return np.zeros(2, np.float32), 1.0 if action == self.cue else -1.0, True, False, {}
        self.count += 1
        return np.array([0, self.count == self.horizon], np.float32), 0.0, False, False, {}


class TMazeEnv(gym.Env):
    """A sign at the start says which way to turn at the end of a corridor `horizon` steps long; the right turn pays 1.

    Actions: walk on, turn left, turn right; what cannot be done takes a step all the same. Without memory the expected
    return is 1/2 at best. After Bakker 2002, "Reinforcement learning with long short-term memory", section 4.
    """

    def __init__(self, horizon: int = 8):
        self.horizon, self.sign, self.at, self.count = checked(horizon), 0, 0, 0
        self.observation_space = spaces.Box(-1.0, 1.0, (2,), np.float32)
        self.action_space = spaces.Discrete(3)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Draw a sign, and show it."""
        super().reset(seed=seed)
        self.sign, self.at, self.count = 2 * int(self.np_random.integers(2)) - 1, 0, 0
        return np.array([self.sign, 0], np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Walk, or turn; whoever dawdles for eight times the way is sent home."""
        self.count += 1
        junction = self.at == self.horizon
        if junction and action != 0:
            return np.zeros(2, np.float32), float(2 * action - 3 == self.sign), True, False, {}
        self.at += not junction and action == 0
        late = self.count >= 8 * (self.horizon + 1)
        return np.array([0, self.at == self.horizon], np.float32), 0.0, False, late, {}


class RepeatPreviousEnv(gym.Env):
    """One of four symbols is shown at every step; name the one of `horizon` steps ago, for a share of 1.

    The first `horizon` of its horizon + 24 answers do not count. Without memory the expected return is 1/4. From POPGym
    (Morad et al. 2023), without its punishment for wrong answers.
    """

    SYMBOLS, ANSWERS = 4, 24

    def __init__(self, horizon: int = 4):
        self.horizon, self.shown = checked(horizon), [0]
        self.observation_space = spaces.Discrete(self.SYMBOLS)
        self.action_space = spaces.Discrete(self.SYMBOLS)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Show the first symbol."""
        super().reset(seed=seed)
        self.shown = [int(self.np_random.integers(self.SYMBOLS))]
        return self.shown[-1], {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Compare, and show the next symbol."""
        answered = len(self.shown) - self.horizon  # the number of this answer, from 1 on
        right = answered >= 1 and action == self.shown[-1 - self.horizon]
        self.shown.append(int(self.np_random.integers(self.SYMBOLS)))
        return self.shown[-1], right / self.ANSWERS, answered == self.ANSWERS, False, {}


class EndlessRewardEnv(gym.Env):
    """Pays 1 for ever, but is truncated every `limit` steps: the true value of its state is 1 / (1 - gamma)."""

    def __init__(self, limit: int = 10):
        self.limit, self.count = limit, 0
        self.observation_space = spaces.Box(0.0, 1.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start anew; the observation never tells the time."""
        super().reset(seed=seed)
        self.count = 0
        return np.ones(1, np.float32), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Pay 1."""
        self.count += 1
        return np.ones(1, np.float32), 1.0, False, self.count >= self.limit, {}


class DeepSeaEnv(gym.Env):
    """A diver sinks one row a step, to the left or to the right; only `size` times to the right finds the treasure, 1.

    Each step to the right costs 0.01 / size, so that what is known at first says to go left; which number goes right
    differs from cell to cell, as a seed has it. Random play finds the treasure in one game of 2 ** size; the optimal
    return is 0.99. From bsuite (Osband et al. 2020, "Behaviour suite for reinforcement learning", deep sea).
    """

    def __init__(self, size: int = 10):
        self.size, self.row, self.column = size, 0, 0
        self.rights = np.random.default_rng(size).integers(2, size=(size, size))
        self.observation_space = spaces.Box(0.0, 1.0, (size * size,), np.float32)
        self.action_space = spaces.Discrete(2)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start at the surface, on the left."""
        super().reset(seed=seed)
        self.row, self.column = 0, 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Sink."""
        right = action == self.rights[self.row, self.column]
        found = right and self.row == self.column == self.size - 1
        self.column = min(self.column + 1, self.size - 1) if right else max(self.column - 1, 0)
        self.row += 1
        return self._observe(), float(found) - 0.01 / self.size * right, self.row == self.size, False, {}

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
    """Make the toys known to Gymnasium; a second call does nothing."""
    for env_id, entry_point in TOYS.items():
        if env_id not in gym.registry:
            gym.register(env_id, entry_point, disable_env_checker=True, order_enforce=False)

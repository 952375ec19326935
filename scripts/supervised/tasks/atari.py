"""Tasks on Atari games: what the machine's memory says of a frame.

The bytes are those of the Atari Annotated RAM Interface (Anand et al. 2019, table 5). They are privileged information:
an agent that is helped by them has seen more than one that only plays.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import count
from typing import Any, ClassVar, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from envs.make import check_id, family, make_env, resolve_protocol
from networks.supervised import metrics
from networks.supervised.data import IGNORE, Data, DataError, Splits, split
from networks.supervised.fit import FitConfig
from networks.supervised.models import Supervised
from scripts.supervised.tasks.base import ClassTask, Collected, DataOptions, Goal

RAM: dict[str, dict[str, int]] = {
    "ALE/Pong-v5": {"player_y": 51, "enemy_y": 50, "ball_x": 49, "ball_y": 54},
    "ALE/Breakout-v5": {"player_x": 72, "ball_x": 99, "ball_y": 101},
    "ALE/Freeway-v5": {"player_y": 14, **{f"car_{number}_x": 108 + number for number in range(10)}},
    "ALE/MsPacman-v5": {"player_x": 10, "player_y": 16, "sue_x": 6, "inky_x": 7, "pinky_x": 8, "blinky_x": 9,
                        "sue_y": 12, "inky_y": 13, "pinky_y": 14, "blinky_y": 15},
}  # fmt: skip
"""Game -> what a byte of its memory means."""
HIDDEN = {"ALE/Pong-v5": ("ball_x", "ball_y"), "ALE/Breakout-v5": ("ball_x", "ball_y")}
"""Bytes that are 0 while what they are of cannot be seen; both of a game's are then unknown."""
BINS = 64
EVERY = 8
"""Steps of a game between two examples: neighbouring frames are almost the same."""


class AtariRAM(ClassTask):
    """Where is everything? Each byte in 64 bins; judged by the expected value, in units of the byte."""

    name = "atari-ram"
    summary = "read positions from the frames of an Atari game, as its memory has them (--env)"
    arch = "nature"
    examples = 4_000
    config = FitConfig(epochs=12, batch_size=64, learning_rate=1e-3)
    goals: ClassVar[tuple[Goal, ...]] = (Goal("r2_least", 0.90, 60.0), Goal("mae_most", 4.0, 60.0, most=True))
    games = ("ALE/Pong-v5",)
    hard: ClassVar[tuple[Goal, ...]] = (Goal("r2", 0.85, 240.0),)
    """Of games with more to see, given 20,000 examples."""
    headline = ("r2", "mae", "r2_least", "mae_most")
    logistic = False

    def collect(self, options: DataOptions) -> Collected:
        """Play at random, with actions that last, and take every 8th observation and the memory beside it."""
        if options.path is not None:
            raise DataError("atari-ram takes no --data: it plays the game")
        self.env = options.env or "ALE/Pong-v5"
        if self.env not in RAM:
            raise DataError(f"the memory of {self.env} is not known here; known are {', '.join(RAM)}")
        rng = np.random.default_rng(options.seed)
        env = Remembering(atari_game(self.env, options.image_size))
        self.observed = env.observation_space
        frames, before, now, games, steps = play(env, options.examples, rng, memories)
        data = Data(frames, self.wanted(before, now), games)
        facts = {"source": f"random play of {self.env}", "env_frames": 4 * steps, "privileged": "the game's memory"}
        return Collected(split(data, rng, (0.7, 0.1, 0.2)), facts)

    def goals_for(self, env: str | None) -> tuple[Goal, ...]:
        """Return those of Pong, or of every other game."""
        return super().goals_for(env) or self.hard

    def space(self) -> spaces.Space:
        """Return that of the game's observations."""
        return self.observed

    def meaning(self) -> dict[str, Any]:
        """Return the game."""
        return {"env": self.env}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Bins of four values."""
        return {name: [str(4 * number) for number in range(BINS)] for name in RAM[self.env]}

    def wanted(self, before: np.ndarray, now: np.ndarray) -> dict[str, np.ndarray]:
        """Return what is to be found, of memories [N, 128] a step before and now."""
        return targets(self.env, now)

    def report(self, model: Supervised, data: Data) -> dict[str, Any]:
        """Return R2 and mean absolute error of each byte, their means, and the worst of each."""
        return judged(model.predictions(data.x), data.y)

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        """Return what the mean of the training examples is worth."""
        chances = {}
        for name, target in splits.train.y.items():
            share = np.bincount(target[target != IGNORE], minlength=BINS) / max((target != IGNORE).sum(), 1)
            chances[name] = np.tile(share, (len(splits.test), 1))
        found = judged(chances, splits.test.y)
        return {"the mean": {key: found[key] for key in self.headline}}


class AtariMotion(AtariRAM):
    """Where is everything, and where was it a step ago?

    Who plays has to know where things go: features of where they are alone may leave out the earlier frames.
    """

    name = "atari-motion"
    summary = "the same, and where everything was a step before"
    goals = ()
    hard = ()

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Bins of four values, of both moments."""
        now = super().labels
        return {**now, **{f"{name}_before": bins for name, bins in now.items()}}

    def wanted(self, before: np.ndarray, now: np.ndarray) -> dict[str, np.ndarray]:
        """Return bins of both moments."""
        earlier = super().wanted(before, before)
        return super().wanted(before, now) | {f"{name}_before": bins for name, bins in earlier.items()}


def atari_game(env_id: str, image_size: int | None, env_kwargs: dict[str, Any] | None = None) -> gym.Env:
    """Make a game as an agent sees it; raise DataError for what is none of Atari's."""
    check_id(env_id)
    if family(env_id) != "atari":
        raise DataError(f"this task looks at frames of Atari games, and {env_id} is none")
    return make_env(env_id, resolve_protocol(env_id, "auto", image_size), env_kwargs)


class Step(NamedTuple):
    """One step of random play."""

    before: Any
    action: int
    after: Any
    reward: float
    over: bool
    game: int
    number: int
    """Of the step in its game, from 1 on."""


def wander(env: gym.Env, rng: np.random.Generator) -> Iterator[Step]:
    """Play at random for ever, with actions that last 1 to 8 steps."""
    assert isinstance(env.action_space, spaces.Discrete)
    for game in count():
        obs, _ = env.reset(seed=int(rng.integers(2**31)))
        over, number, action, left = False, 0, 0, 0
        while not over:
            if not left:
                action, left = int(rng.integers(env.action_space.n)), int(rng.integers(1, 9))
            before = obs
            obs, reward, terminated, truncated, _ = env.step(action)
            over, left, number = terminated or truncated, left - 1, number + 1
            yield Step(before, action, obs, float(reward), over, game, number)


def play(
    env: gym.Env, examples: int, rng: np.random.Generator, note: Callable[[gym.Env, Any, int, Any], tuple[Any, ...]]
) -> list[Any]:
    """Play at random, and note every 8th step: `note(env, before, action, after)`.

    Returns the columns of what was noted, each [N, ...], then the game of each, and the steps that were played.
    """
    rows: list[tuple[Any, ...]] = []
    games: list[int] = []
    steps = 0
    for step in wander(env, rng):
        steps += 1
        if step.number % EVERY == 0 and not step.over:
            rows.append(note(env, step.before, step.action, step.after))
            games.append(step.game)
            if len(rows) >= examples:
                break
    return [*(np.stack(column) for column in zip(*rows, strict=True)), np.array(games), steps]


class Remembering(gym.Wrapper):
    """Keep the machine's memory, uint8 [128], as it is `now` and as it was a step `before`."""

    now: np.ndarray
    before: np.ndarray

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game, before which there is nothing: both are the same."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.now = self.before = self._memory()
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        found = self.env.step(action)
        self.before, self.now = self.now, self._memory()
        return found

    def _memory(self) -> np.ndarray:
        game: Any = self.unwrapped
        return game.ale.getRAM().copy()


def memories(env: Any, before: Any, action: int, after: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Note what is seen, and the machine's memory a step before and now."""
    return after.copy(), env.before, env.now


def targets(env_id: str, memories: np.ndarray) -> dict[str, np.ndarray]:
    """Return the bin of each byte [N], IGNORE where what it is of cannot be seen."""
    found = {name: (memories[:, byte] // 4).astype(np.int64) for name, byte in RAM[env_id].items()}
    hidden = np.zeros(len(memories), bool)
    for name in HIDDEN.get(env_id, ()):
        hidden |= memories[:, RAM[env_id][name]] == 0
    for name in HIDDEN.get(env_id, ()):
        found[name] = np.where(hidden, IGNORE, found[name])
    return found


def judged(chances: dict[str, np.ndarray], target: dict[str, np.ndarray]) -> dict[str, Any]:
    """Return R2 and error of the expected values; the middle of a bin stands for it."""
    middles = 4.0 * np.arange(BINS) + 1.5
    each = {}
    for name, bins in target.items():
        known = bins != IGNORE
        each[name] = metrics.regression((chances[name] @ middles)[known], middles[bins[known]])
    r2, mae = ([found[key] for found in each.values()] for key in ("r2", "mae"))
    return {
        "r2": float(np.nanmean(r2)), "mae": float(np.mean(mae)), "r2_least": float(np.nanmin(r2)),
        "mae_most": float(np.max(mae)), "examples": len(next(iter(target.values()))), "heads": each,
    }  # fmt: skip

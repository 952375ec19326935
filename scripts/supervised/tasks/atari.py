"""Tasks on the RAM of Atari games: predict object positions from frames.

RAM addresses follow the Atari Annotated RAM Interface (Anand et al. 2019, table 5). They are privileged information:
compare an agent that uses such an encoder accordingly.
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
from networks.supervised.models import SupervisedModel
from scripts.supervised.tasks.base import ClassificationTask, Collected, DataOptions, Goal, Report

RAM: dict[str, dict[str, int]] = {
    "ALE/Pong-v5": {"player_y": 51, "enemy_y": 50, "ball_x": 49, "ball_y": 54},
    "ALE/Breakout-v5": {"player_x": 72, "ball_x": 99, "ball_y": 101},
    "ALE/Freeway-v5": {"player_y": 14, **{f"car_{number}_x": 108 + number for number in range(10)}},
    "ALE/MsPacman-v5": {"player_x": 10, "player_y": 16, "sue_x": 6, "inky_x": 7, "pinky_x": 8, "blinky_x": 9,
                        "sue_y": 12, "inky_y": 13, "pinky_y": 14, "blinky_y": 15},
}  # fmt: skip
"""Environment -> name and address of each RAM byte."""
HIDDEN = {"ALE/Pong-v5": ("ball_x", "ball_y"), "ALE/Breakout-v5": ("ball_x", "ball_y")}
"""Bytes that are 0 while the object is invisible; all of a game's are unknown if one is 0."""
BINS = 64
EVERY = 8
"""Env steps between two examples, since neighbouring frames are almost equal."""


class AtariRAM(ClassificationTask):
    """Predict each byte in 64 bins; metrics use the expected value, in units of the byte."""

    name = "atari-ram"
    summary = "predict object positions (RAM) from the frames of an Atari game (--env)"
    arch = "nature"
    examples = 4_000
    config = FitConfig(epochs=12, batch_size=64, learning_rate=1e-3)
    goals: ClassVar[tuple[Goal, ...]] = (Goal("r2_least", 0.90, 60.0), Goal("mae_most", 4.0, 60.0, at_most=True))
    goal_envs = ("ALE/Pong-v5",)
    other_goals: ClassVar[tuple[Goal, ...]] = (Goal("r2", 0.85, 240.0),)
    """Goals of the other games, for 20,000 examples."""
    headline = ("r2", "mae", "r2_least", "mae_most")
    sources = ("env", "image_size")
    logistic = False

    def collect(self, options: DataOptions) -> Collected:
        """Play at random and record every 8th observation with the RAM."""
        self.env = options.env or "ALE/Pong-v5"
        if self.env not in RAM:
            raise DataError(f"no RAM annotations for {self.env}; there are {', '.join(RAM)}")
        rng = np.random.default_rng(options.seed)
        env = RAMRecorder(make_atari(self.env, options.image_size))
        self.obs_space = env.observation_space
        frames, before, now, games, steps = random_play(env, options.examples, rng, frame_and_ram)
        data = Data(frames, self.targets(before, now), games)
        facts = {"source": f"random play of {self.env}", "env_frames": 4 * steps, "privileged": "the game's memory"}
        return Collected(split(data, rng, (0.7, 0.1, 0.2)), facts)

    def goals_for(self, env: str | None) -> tuple[Goal, ...]:
        """Return the goals of Pong, or of the other games."""
        return super().goals_for(env) or self.other_goals

    def space(self) -> spaces.Space:
        """Return the space of the game's observations."""
        return self.obs_space

    def input_meaning(self) -> dict[str, Any]:
        """Return the environment id."""
        return {"env": self.env}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Bins of four values each."""
        return {name: [str(4 * number) for number in range(BINS)] for name in RAM[self.env]}

    def targets(self, before: np.ndarray, now: np.ndarray) -> dict[str, np.ndarray]:
        """Return the targets [N] of RAM [N, 128] one step before and now."""
        return ram_bins(self.env, now)

    def report(self, model: SupervisedModel, data: Data) -> Report:
        """Return R2 and mean absolute error: mean and worst over all bytes, and by byte."""
        return regression_report(model.predictions(data.x), data.y)

    def baselines(self, splits: Splits) -> dict[str, dict[str, float]]:
        """Return the metrics of predicting the training distribution, whose expected value is the mean."""
        probabilities = {}
        for name, target in splits.train.y.items():
            share = np.bincount(target[target != IGNORE], minlength=BINS) / max((target != IGNORE).sum(), 1)
            probabilities[name] = np.tile(share, (len(splits.test), 1))
        report = regression_report(probabilities, splits.test.y)
        return {"the mean": {key: report.metrics[key] for key in self.headline}}


class AtariMotion(AtariRAM):
    """Predict each byte now and one step before, so that the features encode motion."""

    name = "atari-motion"
    summary = "as atari-ram, with the positions one step before"
    goals = ()
    other_goals = ()

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Bins of four values each, for both steps."""
        now = super().labels
        return {**now, **{f"{name}_before": bins for name, bins in now.items()}}

    def targets(self, before: np.ndarray, now: np.ndarray) -> dict[str, np.ndarray]:
        """Return the bins of both steps."""
        earlier = super().targets(before, before)
        return super().targets(before, now) | {f"{name}_before": bins for name, bins in earlier.items()}


def make_atari(env_id: str, image_size: int | None, env_kwargs: dict[str, Any] | None = None) -> gym.Env:
    """Make an Atari game with an agent's preprocessing; raise DataError for any other environment."""
    check_id(env_id)
    if family(env_id) != "atari":
        raise DataError(f"this task needs an Atari game, not {env_id}")
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
    """Of the step in its game, from 1."""


def random_steps(env: gym.Env, rng: np.random.Generator) -> Iterator[Step]:
    """Play at random without end; each action is repeated for 1 to 8 steps."""
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


def random_play(
    env: gym.Env, examples: int, rng: np.random.Generator, record: Callable[[gym.Env, Any, int, Any], tuple[Any, ...]]
) -> list[Any]:
    """Play at random and call `record(env, obs_before, action, obs_after)` at every 8th step.

    Returns the recorded columns, each [N, ...], then the game number of each row [N], and the number of env steps.
    """
    rows: list[tuple[Any, ...]] = []
    games: list[int] = []
    steps = 0
    for step in random_steps(env, rng):
        steps += 1
        if step.number % EVERY == 0 and not step.over:
            rows.append(record(env, step.before, step.action, step.after))
            games.append(step.game)
            if len(rows) >= examples:
                break
    return [*(np.stack(column) for column in zip(*rows, strict=True)), np.array(games), steps]


class RAMRecorder(gym.Wrapper):
    """Keeps the RAM, uint8 [128], of the current step (`now`) and of the step `before`."""

    now: np.ndarray
    before: np.ndarray

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start a game; `before` equals `now`."""
        obs, info = self.env.reset(seed=seed, options=options)
        self.now = self.before = self._ram()
        return obs, info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step."""
        transition = self.env.step(action)
        self.before, self.now = self.now, self._ram()
        return transition

    def _ram(self) -> np.ndarray:
        env: Any = self.unwrapped
        return env.ale.getRAM().copy()


def frame_and_ram(env: Any, before: Any, action: int, after: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Record the observation, and the RAM one step before and now."""
    return after.copy(), env.before, env.now


def ram_bins(env_id: str, ram: np.ndarray) -> dict[str, np.ndarray]:
    """Return the bin of each annotated byte [N] of ram [N, 128], IGNORE where its object is invisible."""
    bins = {name: (ram[:, address] // 4).astype(np.int64) for name, address in RAM[env_id].items()}
    hidden = np.zeros(len(ram), bool)
    for name in HIDDEN.get(env_id, ()):
        hidden |= ram[:, RAM[env_id][name]] == 0
    for name in HIDDEN.get(env_id, ()):
        bins[name] = np.where(hidden, IGNORE, bins[name])
    return bins


def regression_report(probabilities: dict[str, np.ndarray], target: dict[str, np.ndarray]) -> Report:
    """Return R2 and mean absolute error of the expected values, with the center of each bin as its value."""
    centers = 4.0 * np.arange(BINS) + 1.5
    heads: dict[str, dict[str, Any]] = {}
    for name, bins in target.items():
        known = bins != IGNORE
        heads[name] = metrics.regression((probabilities[name] @ centers)[known], centers[bins[known]])
    r2, mae = ([head[key] for head in heads.values()] for key in ("r2", "mae"))
    means = {
        "r2": float(np.nanmean(r2)), "mae": float(np.mean(mae)), "r2_least": float(np.nanmin(r2)),
        "mae_most": float(np.max(mae)), "examples": len(next(iter(target.values()))),
    }  # fmt: skip
    return Report(means, heads)

"""Detect rewards in an Atari game from its sound alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.make import SOUND
from networks.supervised.data import Data, split
from networks.supervised.fit import FitConfig
from networks.supervised.models import SupervisedModel
from scripts.supervised.tasks.atari import make_atari, random_steps
from scripts.supervised.tasks.base import ClassificationTask, Collected, DataOptions, Goal, Report

EVENTS = ("nothing", "points")
KEEP = 0.2
"""Share of the steps without points that are kept."""


class GameSounds(ClassificationTask):
    """Classify whether a step scored points, from the step's sound."""

    name = "game-sounds"
    summary = "detect from the sound whether a step of an Atari game scored (--env)"
    arch = "console"
    examples = 4_000
    config = FitConfig(epochs=10, batch_size=64, learning_rate=1e-3, class_weights="balanced")
    headline = ("f1", "accuracy", "points_f1")
    goals = (Goal("points_f1", 0.7, 120.0),)
    sources = ("env", "image_size")

    def collect(self, options: DataOptions) -> Collected:
        """Play at random with repeated actions; keep every step with points and a fifth of the others."""
        self.env = options.env or "ALE/SpaceInvaders-v5"
        rng, env = np.random.default_rng(options.seed), make_atari(self.env, options.image_size, {SOUND: True})
        assert isinstance(env.observation_space, spaces.Dict)
        self.sound_space = env.observation_space["sound"]
        waves: list[np.ndarray] = []
        events: list[int] = []
        games: list[int] = []
        steps = 0
        for step in random_steps(env, rng):
            steps += 1
            if step.reward > 0 or rng.random() < KEEP:
                waves.append(step.after["sound"])
                events.append(int(step.reward > 0))
                games.append(step.game)
            if step.over and len(waves) >= options.examples and step.game >= 9:
                break
        data = Data(np.stack(waves), {"event": np.array(events)}, np.array(games))
        facts = {"source": f"random play of {self.env}", "env_frames": 4 * steps, "kept_of_nothing": KEEP}
        return Collected(split(data, rng, (0.7, 0.1, 0.2)), facts)

    def space(self) -> spaces.Space:
        """Return the space of a step's sound."""
        return self.sound_space

    def input_meaning(self) -> dict[str, Any]:
        """Return the environment id."""
        return {"env": self.env}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Whether the step scored."""
        return {"event": EVENTS}

    def report(self, model: SupervisedModel, data: Data) -> Report:
        """Return classification metrics with the F1 of the rarer class, points."""
        report = super().report(model, data)
        points = report.heads["event"]["per_class"]["points"]
        return Report({**report.metrics, "points_f1": points["f1"]}, report.heads)

    def features(self, data: Data) -> Any:
        """Return log energies in 64 frequency bands over the whole step."""
        waves = (data.x.astype(np.float32) - 128.0).reshape(len(data), 4, -1)
        bands = np.abs(np.fft.rfft(waves, axis=2))[:, :, 1:257].reshape(len(data), 4, 64, 4).mean(axis=(1, 3))
        return np.log1p(bands)

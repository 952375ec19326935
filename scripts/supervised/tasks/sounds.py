"""What happens in an Atari game, by its sound alone: did it pay?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from envs.make import SOUND
from networks.supervised.data import Data, DataError, split
from networks.supervised.fit import FitConfig
from networks.supervised.models import Supervised
from scripts.supervised.tasks.atari import atari_game, wander
from scripts.supervised.tasks.base import ClassTask, Collected, DataOptions, Goal

EVENTS = ("nothing", "points")
KEEP = 0.2
"""Share of the moments at which nothing happens that are kept."""


class GameSounds(ClassTask):
    """Did this step pay? Heard, not seen."""

    name = "game-sounds"
    summary = "hear whether a step of an Atari game has paid (--env)"
    arch = "console"
    examples = 4_000
    config = FitConfig(epochs=10, batch_size=64, learning_rate=1e-3, class_weights="balanced")
    headline = ("f1", "accuracy", "points_f1")
    goals = (Goal("points_f1", 0.7, 120.0),)

    def collect(self, options: DataOptions) -> Collected:
        """Play at random with actions that last; every step with points is kept, and a fifth of the others."""
        if options.path is not None:
            raise DataError("game-sounds takes no --data: it plays the game")
        self.env = options.env or "ALE/SpaceInvaders-v5"
        rng, env = np.random.default_rng(options.seed), atari_game(self.env, options.image_size, {SOUND: True})
        assert isinstance(env.observation_space, spaces.Dict)
        self.heard = env.observation_space["sound"]
        waves: list[np.ndarray] = []
        events: list[int] = []
        games: list[int] = []
        steps = 0
        for step in wander(env, rng):
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
        """Return that of a step's sound."""
        return self.heard

    def meaning(self) -> dict[str, Any]:
        """Return the game."""
        return {"env": self.env}

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Whether it paid."""
        return {"event": EVENTS}

    def report(self, model: Supervised, data: Data) -> dict[str, Any]:
        """Add the F1 of points, the rarer class."""
        found = super().report(model, data)
        return {**found, "points_f1": found["heads"]["event"]["per_class"]["points"]["f1"]}

    def features(self, data: Data) -> Any:
        """Return energies in 64 bands over the whole step."""
        waves = (data.x.astype(np.float32) - 128.0).reshape(len(data), 4, -1)
        bands = np.abs(np.fft.rfft(waves, axis=2))[:, :, 1:257].reshape(len(data), 4, 64, 4).mean(axis=(1, 3))
        return np.log1p(bands)

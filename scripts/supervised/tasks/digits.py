"""Handwritten digits of 8x8 pixels from scikit-learn (UCI Optical Recognition of Handwritten Digits)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from gymnasium import spaces

from networks.supervised.data import Data, split
from networks.supervised.fit import FitConfig
from scripts.supervised.tasks.base import ClassificationTask, Collected, DataOptions, Goal


class Digits(ClassificationTask):
    """Classify a digit."""

    name = "digits"
    summary = "classify handwritten digits (8x8 pixels, from scikit-learn)"
    arch = "small-cnn"
    examples = 1_797
    config = FitConfig(epochs=18, batch_size=32, learning_rate=2e-3)
    goals = (Goal("accuracy", 0.98, 30.0),)

    def collect(self, options: DataOptions) -> Collected:
        """Load the images as uint8, 0 to 255."""
        from sklearn.datasets import load_digits

        images, target = load_digits(return_X_y=True)
        count = min(options.examples, len(images))
        x = np.round(images[:count].reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
        data = Data(x, {"digit": target[:count].astype(np.int64)}, np.arange(count))
        return Collected(split(data, np.random.default_rng(options.seed), (0.7, 0.1, 0.2)), {"source": "scikit-learn"})

    def space(self) -> spaces.Space:
        """Return the space of the images."""
        return spaces.Box(0, 255, (1, 8, 8), np.uint8)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """0 to 9."""
        return {"digit": [str(number) for number in range(10)]}

"""Tasks on data that lies on disk: pictures of any classes, texts with labels, and rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from networks.encoders.vocabulary import Vocabulary
from networks.supervised.data import Data, DataError, Splits, split
from networks.supervised.files import read_images, read_rows, read_texts
from networks.supervised.fit import FitConfig
from scripts.supervised.tasks.base import ClassTask, Collected, DataOptions
from scripts.supervised.tasks.texts import TextTask

MOST_WORDS = 20_000


class ImageClasses(ClassTask):
    """Which class is a picture of?"""

    name = "images"
    summary = "classify pictures on disk: MNIST, CIFAR-10, or a folder for each class (--data)"
    arch = "small-cnn"
    examples = 1_000_000
    config = FitConfig(epochs=10, batch_size=64, learning_rate=1e-3, schedule="onecycle")
    augment = ("shift",)
    headline = ("accuracy", "f1", "ece")
    logistic = True

    def collect(self, options: DataOptions) -> Collected:
        """Read the data set; its own test pictures are the test, where it has some."""
        if options.path is None:
            raise DataError("images reads a data set: --data PATH of MNIST, CIFAR-10, or a folder for each class")
        found, rng = read_images(options.path), np.random.default_rng(options.seed)
        self.names = found.names
        order = rng.permutation(len(found.train))[: options.examples]
        self.shape = found.train.shape[1:]
        data = Data(found.train[order], {"class": found.train_class[order]}, order)
        if not len(found.test):
            return Collected(split(data, rng), {"source": "disk", "classes": len(self.names)})
        few = max(len(data) // 10, 1)
        every = np.arange(len(data))
        test = Data(found.test, {"class": found.test_class}, -1 - np.arange(len(found.test)))
        parts = Splits(data.take(every[few:]), data.take(every[:few]), test)
        return Collected(parts, {"source": "disk", "classes": len(self.names)})

    def space(self) -> spaces.Space:
        """Return that of the pictures."""
        return spaces.Box(0, 255, self.shape, np.uint8)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Names of the classes."""
        return {"class": self.names}

    def features(self, data: Data) -> Any:
        """Return the pixels of at most 16x16 places."""
        step = max(1, data.x.shape[-1] // 16)
        return data.x[:, :, ::step, ::step].reshape(len(data), -1).astype(np.float32)


class TextClasses(TextTask):
    """What is a text labelled with, such as its sentiment?"""

    name = "texts"
    summary = "classify texts on disk, such as by sentiment: CSV, TSV or JSON lines with text and label (--data)"
    longest = 128
    arch = "textcnn"
    examples = 1_000_000
    config = FitConfig(epochs=10, batch_size=64, learning_rate=1e-3, early_stop=3)
    augment = ("words",)
    headline = ("accuracy", "f1", "ece")

    def collect(self, options: DataOptions) -> Collected:
        """Read the table; the words are those of the training texts."""
        if options.path is None:
            raise DataError("texts reads a table: --data FILE.csv with the columns text and label")
        written, labelled = read_texts(options.path)
        rng = np.random.default_rng(options.seed)
        self.names = tuple(sorted(set(labelled)))
        target = np.array([self.names.index(label) for label in labelled])
        index = np.arange(len(written))
        # the same text is on one side only
        same = {text: number for number, text in reversed(list(enumerate(written)))}
        rough = Data(index, {"label": target}, np.array([same[text] for text in written]))
        parts = split(rough, rng)
        learned = Vocabulary.of(written[number] for number in parts.train.x)
        self.words = Vocabulary(learned.words[:MOST_WORDS])

        def ready(part: Data) -> Data:
            return Data(self.ids([written[number] for number in part.x]), part.y, part.group)

        return Collected(Splits(*(ready(part) for part in parts)), {"source": "disk", "classes": len(self.names)})

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """The labels that occur."""
        return {"label": self.names}


class RowClasses(ClassTask):
    """Which class do some numbers belong to, of which some may be missing?"""

    name = "rows"
    summary = "classify rows of numbers on disk, of which some are missing: CSV or TSV with a column label (--data)"
    arch = "mlp"
    examples = 1_000_000
    config = FitConfig(epochs=60, batch_size=32, learning_rate=3e-3, early_stop=15)
    headline = ("accuracy", "f1", "ece")

    def collect(self, options: DataOptions) -> Collected:
        """Read the table; an empty cell is a missing number."""
        if options.path is None:
            raise DataError("rows reads a table: --data FILE.csv with numbers and a column label")
        numbers, labelled, self.columns = read_rows(options.path)
        rng = np.random.default_rng(options.seed)
        self.names = tuple(sorted(set(labelled)))
        target = np.array([self.names.index(label) for label in labelled])
        order = rng.permutation(len(numbers))[: options.examples]
        data = Data(numbers[order], {"class": target[order]}, order)
        facts = {"source": "disk", "columns": list(self.columns), "missing": float(np.isnan(numbers).mean())}
        return Collected(split(data, rng), facts)

    def space(self) -> spaces.Space:
        """Return that of the numbers."""
        return spaces.Box(-np.inf, np.inf, (len(self.columns),), np.float32)

    def seen(self, data: Data) -> np.ndarray:
        """Return the rows with the column's mean for what is missing."""
        missing = np.isnan(data.x)
        count = np.maximum((~missing).sum(axis=0), 1)
        means = np.where(missing, 0.0, data.x).sum(axis=0) / count
        return np.where(missing, means, data.x).astype(np.float32)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """The labels that occur."""
        return {"class": self.names}

    def features(self, data: Data) -> Any:
        """Return the numbers, 0 for what is missing."""
        return np.nan_to_num(data.x)

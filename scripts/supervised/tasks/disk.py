"""Classification of data on disk: images, texts and rows of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces

from networks.encoders.vocabulary import Vocabulary
from networks.supervised.data import Data, DataError, Splits, split
from networks.supervised.files import read_images, read_rows, read_texts
from networks.supervised.fit import FitConfig
from scripts.supervised.tasks.base import ClassificationTask, Collected, DataOptions
from scripts.supervised.tasks.texts import TextClassificationTask

MAX_WORDS = 20_000
"""Maximum vocabulary of texts."""


class ImageClasses(ClassificationTask):
    """Classify images."""

    name = "images"
    summary = "classify images on disk: MNIST, CIFAR, or one folder per class (--data)"
    arch = "small-cnn"
    examples = 1_000_000
    config = FitConfig(epochs=10, batch_size=64, learning_rate=1e-3, schedule="onecycle")
    augment = ("shift",)
    headline = ("accuracy", "f1", "ece")
    sources = ("path",)
    logistic = True

    def collect(self, options: DataOptions) -> Collected:
        """Read the data set; its own test split is used where it has one."""
        if options.path is None:
            raise DataError("images needs a data set: --data PATH of MNIST, CIFAR, or one folder per class")
        images, rng = read_images(options.path), np.random.default_rng(options.seed)
        self.names = images.names
        order = rng.permutation(len(images.train))[: options.examples]
        self.shape = images.train.shape[1:]
        data = Data(images.train[order], {"class": images.train_class[order]}, order)
        if not len(images.test):
            return Collected(split(data, rng), {"source": "disk", "classes": len(self.names)})
        valid_size = max(len(data) // 10, 1)
        index = np.arange(len(data))
        test = Data(images.test, {"class": images.test_class}, -1 - np.arange(len(images.test)))
        parts = Splits(data.take(index[valid_size:]), data.take(index[:valid_size]), test)
        return Collected(parts, {"source": "disk", "classes": len(self.names)})

    def space(self) -> spaces.Space:
        """Return the space of the images."""
        return spaces.Box(0, 255, self.shape, np.uint8)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """Class names of the data set."""
        return {"class": self.names}

    def features(self, data: Data) -> Any:
        """Return the pixels of the images, subsampled to at most 16x16."""
        step = max(1, data.x.shape[-1] // 16)
        return data.x[:, :, ::step, ::step].reshape(len(data), -1).astype(np.float32)


class TextClasses(TextClassificationTask):
    """Classify texts, for example by sentiment."""

    name = "texts"
    summary = "classify texts on disk, such as by sentiment: CSV, TSV or JSON lines with text and label (--data)"
    longest = 128
    arch = "textcnn"
    examples = 1_000_000
    config = FitConfig(epochs=10, batch_size=64, learning_rate=1e-3, early_stop=3)
    augment = ("words",)
    headline = ("accuracy", "f1", "ece")
    sources = ("path",)

    def collect(self, options: DataOptions) -> Collected:
        """Read the table; the vocabulary is taken from the training texts."""
        if options.path is None:
            raise DataError("texts needs a table: --data FILE.csv with the columns text and label")
        texts, labels = read_texts(options.path)
        rng = np.random.default_rng(options.seed)
        self.names = tuple(sorted(set(labels)))
        target = np.array([self.names.index(label) for label in labels])
        index = np.arange(len(texts))
        first_row = {text: row for row, text in reversed(list(enumerate(texts)))}  # equal texts form a group
        parts = split(Data(index, {"label": target}, np.array([first_row[text] for text in texts])), rng)
        self.words = Vocabulary(Vocabulary.of(texts[row] for row in parts.train.x).words[:MAX_WORDS])

        def encode(part: Data) -> Data:
            return Data(self.ids([texts[row] for row in part.x]), part.y, part.group)

        return Collected(Splits(*(encode(part) for part in parts)), {"source": "disk", "classes": len(self.names)})

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """The labels that occur in the table."""
        return {"label": self.names}


class RowClasses(ClassificationTask):
    """Classify rows of numbers with missing values."""

    name = "rows"
    summary = "classify rows of numbers on disk, with missing values: CSV or TSV with a column label (--data)"
    arch = "mlp"
    examples = 1_000_000
    config = FitConfig(epochs=60, batch_size=32, learning_rate=3e-3, early_stop=15)
    headline = ("accuracy", "f1", "ece")
    sources = ("path",)

    def collect(self, options: DataOptions) -> Collected:
        """Read the table; an empty cell is a missing value."""
        if options.path is None:
            raise DataError("rows needs a table: --data FILE.csv with numbers and a column label")
        numbers, labels, self.columns = read_rows(options.path)
        rng = np.random.default_rng(options.seed)
        self.names = tuple(sorted(set(labels)))
        target = np.array([self.names.index(label) for label in labels])
        order = rng.permutation(len(numbers))[: options.examples]
        data = Data(numbers[order], {"class": target[order]}, order)
        facts = {"source": "disk", "columns": list(self.columns), "missing": float(np.isnan(numbers).mean())}
        return Collected(split(data, rng), facts)

    def space(self) -> spaces.Space:
        """Return the space of the rows."""
        return spaces.Box(-np.inf, np.inf, (len(self.columns),), np.float32)

    def observations(self, data: Data) -> np.ndarray:
        """Return the rows with missing values replaced by the column mean."""
        missing = np.isnan(data.x)
        count = np.maximum((~missing).sum(axis=0), 1)
        means = np.where(missing, 0.0, data.x).sum(axis=0) / count
        return np.where(missing, means, data.x).astype(np.float32)

    @property
    def labels(self) -> Mapping[str, Sequence[str]]:
        """The labels that occur in the table."""
        return {"class": self.names}

    def features(self, data: Data) -> Any:
        """Return the rows with missing values replaced by 0."""
        return np.nan_to_num(data.x)

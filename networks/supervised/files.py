"""Read published data sets from disk: MNIST, CIFAR, folders of images, tables of texts or numbers.

Formats: IDX files (LeCun et al. 1998), the binary version of CIFAR-10 and CIFAR-100 (Krizhevsky 2009), one folder of
images per class (as in ImageNet), and CSV, TSV or JSON lines. Nothing is downloaded or executed. Every reader raises
DataError and names the expected format.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from networks.supervised.data import DataError

MAX_BYTES = 4_000_000_000
"""Larger files are refused before they are read."""
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
CIFAR10_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Images(NamedTuple):
    """Labelled images; `test` is empty if the data set has no test split of its own."""

    train: np.ndarray
    """uint8 [N, C, H, W]"""
    train_class: np.ndarray
    """int64 [N]"""
    test: np.ndarray
    test_class: np.ndarray
    names: tuple[str, ...]


def read_images(path: Path, size: int = 64) -> Images:
    """Read an image data set in any supported format; images in class folders are resized to `size` x `size`."""
    if not path.is_dir():
        raise DataError(
            f"{path} is not a folder; give MNIST, CIFAR's binary version, or one folder of images per class"
        )
    if any(path.glob("*idx3-ubyte*")):
        return read_mnist(path)
    if any(path.rglob("data_batch_1*")):
        return read_cifar10(path)
    if any(path.rglob("fine_label_names.txt")) or any(path.rglob("train.bin")):
        return read_cifar100(path)
    return read_image_folders(path, size)


def read_mnist(path: Path) -> Images:
    """Read train-images-idx3-ubyte, train-labels-idx1-ubyte and the two t10k files, gzipped or not."""
    arrays = []
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        candidates = (path / f"{name}-ubyte{suffix}" for suffix in ("", ".gz"))
        file = next((candidate for candidate in candidates if candidate.exists()), None)
        if file is None:
            raise DataError(f"{path} has no {name}-ubyte or {name}-ubyte.gz; MNIST consists of four such files")
        arrays.append(read_idx(file))
    x, y, test_x, test_y = arrays
    for images, labels in ((x, y), (test_x, test_y)):
        if images.ndim != 3 or labels.ndim != 1 or len(images) != len(labels):
            raise DataError(f"{path}: images {images.shape} and labels {labels.shape} do not match")
    names = tuple(str(number) for number in range(int(max(y.max(), test_y.max())) + 1))
    return Images(x[:, None], y.astype(np.int64), test_x[:, None], test_y.astype(np.int64), names)


def read_idx(path: Path) -> np.ndarray:
    """Read one IDX file of unsigned bytes."""
    data = _read_bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != 8 or not 1 <= data[3] <= 4:
        raise DataError(f"{path} is not an IDX file of unsigned bytes")
    dimensions = data[3]
    if len(data) < 4 + 4 * dimensions:
        raise DataError(f"{path} ends within its header")
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) - 4 - 4 * dimensions != count:
        raise DataError(f"{path} should hold {count:,} bytes, but holds {len(data) - 4 - 4 * dimensions:,}")
    return np.frombuffer(data, np.uint8, count, 4 + 4 * dimensions).reshape(shape).copy()


def read_cifar10(path: Path) -> Images:
    """Read data_batch_1.bin to data_batch_5.bin and test_batch.bin: records of a label and 3,072 pixels."""
    batches, tests = sorted(path.rglob("data_batch_[1-5].bin")), sorted(path.rglob("test_batch.bin"))
    if not batches and any(path.rglob("data_batch_1")):
        raise DataError(f"{path} is CIFAR-10's Python version, which is pickled; give the binary version (.bin files)")
    if not batches or not tests:
        raise DataError(f"{path} lacks data_batch_1.bin ... or test_batch.bin; CIFAR-10's binary version has both")
    parts = [_read_cifar(file, 1, len(CIFAR10_NAMES)) for file in (*batches, tests[0])]
    x, y = (np.concatenate([part[index] for part in parts[:-1]]) for index in (0, 1))
    return Images(x, y, *parts[-1], CIFAR10_NAMES)


def read_cifar100(path: Path) -> Images:
    """Read train.bin and test.bin: records of a coarse label, a fine label (the class) and 3,072 pixels."""
    train, test, names = (sorted(path.rglob(name)) for name in ("train.bin", "test.bin", "fine_label_names.txt"))
    if not train or not test or not names:
        raise DataError(f"{path} lacks train.bin, test.bin or fine_label_names.txt; CIFAR-100's binary version has all")
    classes = tuple(_read_text(names[0]).split())
    return Images(*_read_cifar(train[0], 2, len(classes)), *_read_cifar(test[0], 2, len(classes)), classes)


def _read_cifar(path: Path, label_bytes: int, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return images uint8 [N, 3, 32, 32] and the last label byte of each record, int64 [N]."""
    data, size = _read_bytes(path), label_bytes + 3072
    if not data or len(data) % size:
        raise DataError(f"{path} is not a CIFAR batch: {len(data):,} bytes are not a multiple of {size:,}")
    records = np.frombuffer(data, np.uint8).reshape(-1, size)
    labels = records[:, label_bytes - 1].astype(np.int64)
    if labels.max() >= classes:
        raise DataError(f"{path} has a class {labels.max()}; expected 0 to {classes - 1}")
    return records[:, label_bytes:].reshape(-1, 3, 32, 32), labels


def read_image_folders(path: Path, size: int) -> Images:
    """Read one folder of images per class, below `train` and `test` or `val` where these exist."""
    splits = {name: path / name for name in ("train", "val", "test") if (path / name).is_dir()}
    train = splits.get("train", path)
    names = tuple(sorted(folder.name for folder in train.iterdir() if folder.is_dir() and _image_files(folder)))
    if len(names) < 2:
        raise DataError(f"{train} has fewer than two folders with images; expected {train}/CLASS/IMAGE.png")
    test = splits.get("test", splits.get("val")) if "train" in splits else None
    x, y = _read_class_folders(train, names, size)
    test_x, test_y = _read_class_folders(test, names, size) if test is not None else (x[:0], y[:0])
    return Images(x, y, test_x, test_y, names)


def _image_files(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES)


def _read_class_folders(path: Path, names: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    images, labels = [], []
    for label, name in enumerate(names):
        files = _image_files(path / name) if (path / name).is_dir() else []
        if not files:
            raise DataError(f"class {name} has no image in {path}")
        for file in files:
            pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if pixels is None:
                raise DataError(f"{file} is not a readable image")
            images.append(_center_square(pixels, size))
            labels.append(label)
    return np.stack(images), np.array(labels, np.int64)


def _center_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Crop the central square of a BGR image [H, W, 3], resize it, and return RGB [3, size, size]."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = cv2.resize(pixels[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.moveaxis(square[:, :, ::-1], 2, 0))


def read_texts(path: Path, text: str = "text", label: str = "label") -> tuple[list[str], list[str]]:
    """Read texts and labels from the columns `text` and `label` of a CSV, TSV or JSON lines file."""
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a .csv, .tsv or .jsonl with the columns {text} and {label}")
    rows: list[dict[str, Any]]
    try:
        if path.suffix.lower() == ".jsonl":
            rows = [json.loads(line) for line in _read_text(path).split("\n") if line.strip()]
        else:
            rows = _read_table(path)
    except json.JSONDecodeError as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    texts, labels = [], []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or row.get(text) is None or row.get(label) is None:
            raise DataError(f"{path}: row {number} has no {text} and {label}")
        texts.append(str(row[text]))
        labels.append(str(row[label]))
    _check_labels(path, labels)
    return texts, labels


def read_rows(path: Path, label: str = "label") -> tuple[np.ndarray, list[str], tuple[str, ...]]:
    """Read a CSV or TSV of numbers with a column `label`.

    Returns numbers float32 [N, D] (NaN for an empty cell), labels [N] and the names of the D columns.
    """
    if not path.is_file():
        raise DataError(f"{path} is not a file; give a .csv or .tsv of numbers with the column {label}")
    table = _read_table(path)
    columns = tuple(name for name in (table[0] if table else {}) if name not in (label, None))
    if not columns or label not in table[0]:
        raise DataError(f"{path} has no rows of numbers with the column {label}")
    numbers = np.full((len(table), len(columns)), np.nan, np.float32)
    for index, row in enumerate(table):
        if None in row or not row.get(label):
            raise DataError(f"{path}: row {index + 1} has no {label}, or more cells than there are columns")
        for column, name in enumerate(columns):
            cell = (row[name] or "").strip()
            try:
                numbers[index, column] = float(cell) if cell else np.nan
            except ValueError as error:
                raise DataError(f"{path}: row {index + 1} has '{cell}' in the number column {name}") from error
    labels = [row[label] for row in table]
    _check_labels(path, labels)
    return numbers, labels, columns


def _check_labels(path: Path, labels: Sequence[str]) -> None:
    if len(set(labels)) < 2:
        raise DataError(f"{path} has {len(set(labels))} different labels; a classifier needs at least two")


def _read_table(path: Path) -> list[dict[str, Any]]:
    try:
        return list(
            csv.DictReader(io.StringIO(_read_text(path)), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        )
    except csv.Error as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error


def _read_text(path: Path) -> str:
    try:
        return _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error


def _read_bytes(path: Path) -> bytes:
    """Return a file's content, decompressed if gzipped; raise DataError if it is damaged or too large."""
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataError(f"{path} is larger than {MAX_BYTES / 1e9:g} GB")
        if path.suffix.lower() != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            raise DataError(f"{path} decompresses to more than {MAX_BYTES / 1e9:g} GB")
        return data
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error

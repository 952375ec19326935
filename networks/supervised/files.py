"""Data sets on disk, in the formats that they are published in. Nothing is downloaded, and nothing in a file is run.

MNIST's IDX files (LeCun et al. 1998), CIFAR-10's binary and Python batches (Krizhevsky 2009), folders of images by
class (as of ImageNet), and tables of texts (CSV, TSV, JSON lines). Each raises DataError with what was expected.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import pickle
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np

from networks.supervised.data import DataError

LIMIT_BYTES = 4_000_000_000
"""What is larger than this is refused before it is read."""
PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".webp")
CIFAR_NAMES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


class Images(NamedTuple):
    """Pictures to learn from and to be judged by; both may be one set, when `test` is empty."""

    train: np.ndarray
    """uint8 [N, C, H, W]"""
    train_class: np.ndarray
    """int64 [N]"""
    test: np.ndarray
    test_class: np.ndarray
    names: tuple[str, ...]


def images(path: Path, size: int = 64) -> Images:
    """Read a data set of images, whatever its format; pictures in folders are brought to `size` x `size`."""
    if not path.is_dir():
        raise DataError(f"{path} is no folder; give one of MNIST, of CIFAR-10, or with a folder of pictures per class")
    if any(path.glob("*idx3-ubyte*")):
        return mnist(path)
    if any(path.rglob("data_batch_1*")):
        return cifar10(path)
    return image_folder(path, size)


def mnist(path: Path) -> Images:
    """Read train-images-idx3-ubyte, train-labels-idx1-ubyte and their t10k twins, gzipped or not."""
    found = []
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        matches = [
            path / f"{name}-ubyte{ending}" for ending in ("", ".gz") if (path / f"{name}-ubyte{ending}").exists()
        ]
        if not matches:
            raise DataError(f"{path} has no {name}-ubyte or {name}-ubyte.gz; MNIST is four such files")
        found.append(idx(matches[0]))
    x, y, test_x, test_y = found
    for pictures, classes in ((x, y), (test_x, test_y)):
        if pictures.ndim != 3 or classes.ndim != 1 or len(pictures) != len(classes):
            raise DataError(f"{path}: {pictures.shape} images and {classes.shape} labels do not belong together")
    names = tuple(str(number) for number in range(int(max(y.max(), test_y.max())) + 1))
    return Images(x[:, None], y.astype(np.int64), test_x[:, None], test_y.astype(np.int64), names)


def idx(path: Path) -> np.ndarray:
    """Read one IDX file of unsigned bytes."""
    data = _bytes(path)
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != 8 or not 1 <= data[3] <= 4:
        raise DataError(f"{path} is no IDX file of unsigned bytes")
    dimensions = data[3]
    if len(data) < 4 + 4 * dimensions:
        raise DataError(f"{path} ends within its header")
    shape = struct.unpack(f">{dimensions}I", data[4 : 4 + 4 * dimensions])
    count = int(np.prod(shape, dtype=np.int64))
    if len(data) - 4 - 4 * dimensions != count:
        raise DataError(f"{path} should hold {count:,} bytes, and holds {len(data) - 4 - 4 * dimensions:,}")
    return np.frombuffer(data, np.uint8, count, 4 + 4 * dimensions).reshape(shape).copy()


def cifar10(path: Path) -> Images:
    """Read data_batch_1 to 5 and test_batch, as .bin files or as Python's."""
    batches = sorted(path.rglob("data_batch_[1-5]*"))
    tests = sorted(path.rglob("test_batch*"))
    if not batches or not tests:
        raise DataError(f"{path} has no data_batch_1 ... and test_batch; CIFAR-10 is six such files")
    parts = [_cifar_batch(batch) for batch in (*batches, tests[0])]
    x, y = (np.concatenate([part[index] for part in parts[:-1]]) for index in (0, 1))
    return Images(x, y, *parts[-1], CIFAR_NAMES)


def _cifar_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    data = _bytes(path)
    if path.suffix == ".bin":
        if not data or len(data) % 3073:
            raise DataError(f"{path} is no CIFAR-10 batch: {len(data):,} bytes are no multiple of 3,073")
        rows = np.frombuffer(data, np.uint8).reshape(-1, 3073)
        x, y = rows[:, 1:], rows[:, 0]
    else:
        batch = _unpickled(data, path)
        if not isinstance(batch, dict) or not {b"data", b"labels"} <= set(batch):
            raise DataError(f"{path} is no CIFAR-10 batch: it has no data and labels")
        x, y = np.asarray(batch[b"data"]), np.asarray(batch[b"labels"])
        if x.dtype != np.uint8 or x.shape != (len(y), 3072):
            raise DataError(f"{path} is no CIFAR-10 batch: its data is {x.dtype} {x.shape}")
    if y.max(initial=0) > 9:
        raise DataError(f"{path} has a class {y.max()}, and CIFAR-10 has 0 to 9")
    return x.reshape(-1, 3, 32, 32), y.astype(np.int64)


class _Arrays(pickle.Unpickler):
    """Builds numpy arrays and nothing else: a pickle can ask for any function to be called."""

    ALLOWED = (
        ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"), ("numpy", "ndarray"),
        ("numpy", "dtype"), ("_codecs", "encode"),
    )  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        """Return what is allowed; raise for the rest."""
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants to use {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _unpickled(data: bytes, path: Path) -> Any:
    try:
        return _Arrays(io.BytesIO(data), encoding="bytes").load()
    except (pickle.UnpicklingError, EOFError, ValueError, TypeError, AttributeError, IndexError, KeyError) as error:
        raise DataError(f"{path} is not read: {error}") from error


def image_folder(path: Path, size: int) -> Images:
    """Read a folder of pictures for each class; `train` and `val` or `test` above them, where there are such."""
    sides = {name: path / name for name in ("train", "val", "test") if (path / name).is_dir()}
    first = sides.get("train", path)
    names = tuple(sorted(folder.name for folder in first.iterdir() if folder.is_dir() and _pictures(folder)))
    if len(names) < 2:
        raise DataError(f"{first} has no two folders with pictures; expected {first}/CLASS/PICTURE.png")
    other = sides.get("test", sides.get("val")) if "train" in sides else None
    x, y = _read_folders(first, names, size)
    test_x, test_y = _read_folders(other, names, size) if other is not None else (x[:0], y[:0])
    return Images(x, y, test_x, test_y, names)


def _pictures(folder: Path) -> list[Path]:
    return sorted(file for file in folder.rglob("*") if file.suffix.lower() in PICTURES)


def _read_folders(path: Path, names: Sequence[str], size: int) -> tuple[np.ndarray, np.ndarray]:
    pictures, classes = [], []
    for number, name in enumerate(names):
        found = _pictures(path / name) if (path / name).is_dir() else []
        if not found:
            raise DataError(f"the class {name} has no picture in {path}")
        for file in found:
            pixels = cv2.imread(str(file), cv2.IMREAD_COLOR)
            if pixels is None:
                raise DataError(f"{file} is no picture that can be read")
            pictures.append(_square(pixels, size))
            classes.append(number)
    return np.stack(pictures), np.array(classes, np.int64)


def _square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Cut the middle square out, bring it to size, and return it as RGB [3, size, size]."""
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = cv2.resize(pixels[top : top + side, left : left + side], (size, size), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(np.moveaxis(square[:, :, ::-1], 2, 0))


def texts(path: Path, text: str = "text", label: str = "label") -> tuple[list[str], list[str]]:
    """Read texts and their labels from a CSV, TSV or JSON lines file with these columns."""
    if not path.is_file():
        raise DataError(f"{path} is no file; give a .csv, .tsv or .jsonl with the columns {text} and {label}")
    rows: list[dict[str, Any]] = []
    try:
        content = _bytes(path).decode("utf-8-sig")
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in content.splitlines() if line.strip()]
        else:
            rows = list(csv.DictReader(io.StringIO(content), delimiter="\t" if path.suffix == ".tsv" else ","))
    except (UnicodeDecodeError, json.JSONDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    found: tuple[list[str], list[str]] = [], []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or row.get(text) is None or row.get(label) is None:
            raise DataError(f"{path}: row {number} has no {text} and {label}")
        found[0].append(str(row[text]))
        found[1].append(str(row[label]))
    if len(set(found[1])) < 2:
        raise DataError(f"{path} has {len(set(found[1]))} different labels; it takes two to learn a difference")
    return found


def rows(path: Path, label: str = "label") -> tuple[np.ndarray, list[str], tuple[str, ...]]:
    """Read a CSV or TSV of numbers and a column of labels; return float32 [N, D] (NaN: empty), labels, column names."""
    if not path.is_file():
        raise DataError(f"{path} is no file; give a .csv or .tsv of numbers with the column {label}")
    try:
        content = _bytes(path).decode("utf-8-sig")
        table = list(csv.DictReader(io.StringIO(content), delimiter="\t" if path.suffix == ".tsv" else ","))
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table: {error}") from error
    names = tuple(name for name in (table[0] if table else {}) if name not in (label, None))
    if not names or label not in table[0]:
        raise DataError(f"{path} has no rows of numbers with the column {label}")
    found = np.full((len(table), len(names)), np.nan, np.float32)
    for number, row in enumerate(table):
        if None in row or not row.get(label):
            raise DataError(f"{path}: row {number + 1} has no {label}, or more cells than there are columns")
        for column, name in enumerate(names):
            cell = (row[name] or "").strip()
            try:
                found[number, column] = float(cell) if cell else np.nan
            except ValueError as error:
                raise DataError(f"{path}: row {number + 1} has '{cell}' for a number in {name}") from error
    labelled = [row[label] for row in table]
    if len(set(labelled)) < 2:
        raise DataError(f"{path} has {len(set(labelled))} different labels; it takes two to learn a difference")
    return found, labelled, names


def _bytes(path: Path) -> bytes:
    """Return the content of a file, unpacked if it is gzipped; raise DataError where it is damaged or too large."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise DataError(f"{path} is larger than {LIMIT_BYTES / 1e9:g} GB")
        if path.suffix != ".gz":
            return path.read_bytes()
        with gzip.open(path) as file:
            data = file.read(LIMIT_BYTES + 1)
        if len(data) > LIMIT_BYTES:
            raise DataError(f"{path} holds more than {LIMIT_BYTES / 1e9:g} GB")
        return data
    except (OSError, EOFError) as error:
        raise DataError(f"{path} cannot be read: {error}") from error

"""Data sets on disk: small ones of each format are learned from, damaged ones refused with a reason."""

from __future__ import annotations

import csv
import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from networks.supervised import files
from networks.supervised.data import DataError, check_disjoint
from networks.supervised.files import read_images, read_texts
from scripts.supervised.tasks.base import DataOptions
from scripts.supervised.tasks.disk import TextClasses
from tests.scripts.inside import assert_one_line, call


def pictures(count: int, shape: tuple[int, ...], classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Images whose brightness is their class."""
    rng = np.random.default_rng(seed)
    target = np.arange(count) % classes
    noise = rng.integers(0, 30, size=(count, *shape))
    level = (200 * target // (classes - 1)).reshape(-1, *(1 for _ in shape))
    return (noise + level).astype(np.uint8), target


def idx(data: np.ndarray) -> bytes:
    return bytes([0, 0, 8, data.ndim]) + struct.pack(f">{data.ndim}I", *data.shape) + data.astype(np.uint8).tobytes()


def write_mnist(folder: Path, packed: bool = False) -> None:
    folder.mkdir()
    for name, count, seed in (("train", 120, 0), ("t10k", 30, 1)):
        x, y = pictures(count, (28, 28), 3, seed)
        for what, data in ((f"{name}-images-idx3-ubyte", x), (f"{name}-labels-idx1-ubyte", y)):
            content = idx(data)
            (folder / (what + (".gz" if packed else ""))).write_bytes(gzip.compress(content) if packed else content)


def records(x: np.ndarray, *labels: np.ndarray) -> bytes:
    """CIFAR's binary records: label bytes, then 3,072 pixels."""
    return np.concatenate([*(label[:, None].astype(np.uint8) for label in labels), x], axis=1).tobytes()


def write_cifar10(folder: Path) -> None:
    folder.mkdir()
    for number, name in enumerate([*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"]):
        x, y = pictures(20, (3072,), 10, number)
        (folder / f"{name}.bin").write_bytes(records(x, y))


def write_cifar100(folder: Path) -> None:
    folder.mkdir()
    for number, (name, count) in enumerate((("train", 100), ("test", 20))):
        x, y = pictures(count, (3072,), 10, number)
        (folder / f"{name}.bin").write_bytes(records(x, y // 5, y))
    (folder / "fine_label_names.txt").write_text("".join(f"class {k}\n".replace(" ", "_") for k in range(10)))


def write_folders(folder: Path, sides: tuple[str, ...] = ("train", "val")) -> None:
    for side in sides:
        for number, name in enumerate(("cat", "dog")):
            (folder / side / name).mkdir(parents=True)
            for k in range(24):
                pixels = np.full((40 + k, 30, 3), 200 * number, np.uint8)
                pixels[:, :, 2] = 90  # BGR: red
                cv2.imwrite(str(folder / side / name / f"{k}.png"), pixels)


WRITERS: dict[str, Callable[[Path], None]] = {
    "mnist": write_mnist,
    "mnist, gzipped": lambda folder: write_mnist(folder, True),
    "cifar-10": write_cifar10,
    "cifar-100": write_cifar100,
    "folders": write_folders,
}
SHAPES = {"mnist": (1, 28, 28), "cifar": (3, 32, 32), "folde": (3, 64, 64)}


@pytest.mark.parametrize("name", WRITERS)
def test_an_image_data_set_is_read_and_trained_on(name: str, tmp_path: Path) -> None:
    WRITERS[name](tmp_path / "data")
    result = read_images(tmp_path / "data")
    assert result.train.shape[1:] == result.test.shape[1:] == SHAPES[name[:5]]
    assert result.train.dtype == np.uint8
    assert len(result.train) == len(result.train_class) > len(result.test) > 0 or name == "folders"
    words = ("--data", tmp_path / "data", "--epochs", 2, "--threads", 1, "--run-dir", tmp_path / "run")
    done = call("pretrain", "images", *words)
    assert done.code == 0, done.err
    assert "logistic regression" in done.out
    done = call("pretrain", "evaluate", tmp_path / "run")
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["same_examples"]


def test_pixels_keep_their_place(tmp_path: Path) -> None:
    write_mnist(tmp_path / "mnist")
    x, y = pictures(120, (28, 28), 3)
    result = read_images(tmp_path / "mnist")
    assert np.array_equal(result.train[:, 0], x)
    assert np.array_equal(result.train_class, y)
    for write, name in ((write_cifar10, "airplane"), (write_cifar100, "class_0")):
        folder = tmp_path / write.__name__
        write(folder)
        result = read_images(folder)
        x, y = pictures(20, (3072,), 10, 5 if write is write_cifar10 else 1)
        assert np.array_equal(result.test.reshape(20, -1), x)
        assert np.array_equal(result.test_class, y)
        assert len(result.train) == 100
        assert result.names[0] == name
    write_folders(tmp_path / "folders")
    result = read_images(tmp_path / "folders", 16)
    assert result.names == ("cat", "dog")
    assert (result.train[:, 0] == 90).all()  # red is first
    assert (result.train[result.train_class == 1][:, 2] == 200).all()
    assert result.test_class.tolist() == [0] * 24 + [1] * 24


def test_the_pickled_version_of_cifar_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        (tmp_path / "data" / name).write_bytes(b"\x80\x02}q\x00.")
    done = call("pretrain", "images", "--data", tmp_path / "data", "--run-dir", tmp_path / "run")
    assert_one_line(done, 2, "Python version, which is pickled; give the binary version")
    assert not (tmp_path / "run").exists()


def cut(path: Path, keep: int) -> None:
    path.write_bytes(path.read_bytes()[:keep])


DAMAGE: dict[str, tuple[str, Callable[[Path], Any], str]] = {
    "short images": ("mnist", lambda d: cut(d / "train-images-idx3-ubyte", 5000), "should hold 94,080 bytes"),
    "short header": ("mnist", lambda d: cut(d / "train-images-idx3-ubyte", 9), "ends within its header"),
    "no idx": ("mnist", lambda d: (d / "train-labels-idx1-ubyte").write_bytes(b"hello there"), "is not an IDX file"),
    "one missing": ("mnist", lambda d: (d / "t10k-labels-idx1-ubyte").unlink(), "has no t10k-labels-idx1-ubyte"),
    "labels of another": ("mnist", lambda d: (d / "train-labels-idx1-ubyte").write_bytes(idx(np.zeros(5))),
                          "do not match"),
    "bad gzip": ("mnist, gzipped", lambda d: cut(d / "train-images-idx3-ubyte.gz", 300), "cannot be read"),
    "cut batch": ("cifar-10", lambda d: cut(d / "data_batch_2.bin", 5000), "not a multiple of 3,073"),
    "odd class": ("cifar-10", lambda d: (d / "test_batch.bin").write_bytes(b"M" + bytes(3072)), "a class 77"),
    "no names": ("cifar-100", lambda d: (d / "fine_label_names.txt").unlink(), "lacks train.bin"),
    "cut records": ("cifar-100", lambda d: cut(d / "train.bin", 5000), "not a multiple of 3,074"),
    "no test": ("cifar-10", lambda d: (d / "test_batch.bin").unlink(), "test_batch"),
    "no picture": ("folders", lambda d: (d / "train" / "cat" / "0.png").write_text("no"), "is not a readable image"),
    "empty class": ("folders", lambda d: [p.unlink() for p in (d / "val" / "dog").iterdir()], "dog has no image"),
    "one class": ("folders", lambda d: [p.unlink() for p in (d / "train" / "dog").iterdir()], "fewer than two folders"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGE)
def test_damaged_data_is_refused_in_one_line(name: str, tmp_path: Path) -> None:
    kind, spoil, words = DAMAGE[name]
    WRITERS[kind](tmp_path / "data")
    spoil(tmp_path / "data")
    done = call("pretrain", "images", "--data", tmp_path / "data", "--run-dir", tmp_path / "run")
    assert_one_line(done, 2, words)
    assert not (tmp_path / "run").exists()


def test_missing_data_is_refused_in_one_line(tmp_path: Path) -> None:
    assert_one_line(call("pretrain", "images"), 2, "--data PATH")
    assert_one_line(call("pretrain", "images", "--data", tmp_path / "none"), 2, "is not a folder")
    assert_one_line(call("pretrain", "texts"), 2, "--data FILE.csv")
    assert_one_line(call("pretrain", "texts", "--data", tmp_path / "none.csv"), 2, "is not a file")


LINES = [
    (f"{'well done' if k % 2 else 'wrong one'}, {k % 37} of them, go on", "good" if k % 2 else "bad")
    for k in range(200)
]


def write_table(path: Path) -> None:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps({"text": text, "label": label}) + "\n" for text, label in LINES))
        return
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",")
        writer.writerows([("text", "label"), *LINES])


@pytest.mark.parametrize("ending", [".csv", ".tsv", ".jsonl"])
def test_a_table_of_texts_is_trained_on(ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"data{ending}"
    write_table(path)
    assert read_texts(path) == ([text for text, _ in LINES], [label for _, label in LINES])
    collected = TextClasses().collect(DataOptions(1000, path=path))
    check_disjoint(collected.splits)  # equal texts are in one split
    words = ("--epochs", 6, "--threads", 1, "--batch-size", 16, "--run-dir", tmp_path / "run")
    done = call("pretrain", "texts", "--data", path, *words)
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "run" / "encoder" / "report.json").read_text())
    assert report["test"]["accuracy"] > 0.95


TABLES = {
    "no column": ("a.csv", "txt,label\nhi,1\n", "row 1 has no text and label"),
    "one label": ("a.csv", "text,label\nhi,1\nho,1\n", "1 different labels"),
    "no json": ("a.jsonl", "{hi\n", "cannot be read as a table"),
    "not text": ("a.csv", None, "cannot be read as a table"),
}


@pytest.mark.parametrize("name", TABLES)
def test_unreadable_tables_are_refused(name: str, tmp_path: Path) -> None:
    file, content, words = TABLES[name]
    (tmp_path / file).write_bytes(content.encode() if content is not None else b"\xff\xfe\x00text")
    with pytest.raises(DataError, match=words):
        read_texts(tmp_path / file)


def write_rows(path: Path, count: int = 300, missing: float = 0.2) -> None:
    """Rows of three classes along a line; all columns are equally informative."""
    rng = np.random.default_rng(0)
    target = rng.integers(3, size=count)
    numbers = target[:, None] * np.array([1.0, -20.0, 300.0]) + rng.normal(size=(count, 3)) * [0.1, 2.0, 30.0]
    cells = [["" if rng.random() < missing else f"{value:.4f}" for value in row] for row in numbers]
    lines = [",".join(["a", "b", "label", "c"])]
    lines += [",".join([row[0], row[1], "xyz"[label], row[2]]) for row, label in zip(cells, target, strict=True)]
    path.write_text("\n".join(lines) + "\n")


@pytest.mark.parametrize("repair", [None, "mean", "knn"])
def test_rows_with_missing_values_are_classified(repair: str | None, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv")
    run = tmp_path / "run"
    more = ("--repair", repair) if repair else ()
    done = call("pretrain", "rows", "--data", tmp_path / "rows.csv", "--threads", 1, *more, "--run-dir", run)
    assert done.code == 0, done.err
    assert "logistic regression" in done.out
    report = json.loads((run / "encoder/report.json").read_text())["test"]
    assert report["accuracy"] > 0.9
    config = json.loads((run / "encoder/config.json").read_text())
    assert config["spec"]["preprocess"] == ({"repair": repair} if repair else {})
    assert config["data"]["columns"] == ["a", "b", "c"]
    assert 0.15 < config["data"]["missing"] < 0.25
    again = json.loads(call("pretrain", "evaluate", run).out.splitlines()[-1])
    assert again["same_examples"]
    assert again["accuracy"] == pytest.approx(report["accuracy"], abs=1e-6)


@pytest.mark.parametrize(("text", "words"), [
    ("a,label\n1,x\ntwo,y\n", "row 2 has 'two' in the number column a"), ("a,b\n1,2\n", "with the column label"),
    ("a,label\n1,x\n2,\n", "row 2 has no label"), ("a,label\n1,x\n2,y,3\n", "more cells than there are columns"),
    ("a,label\n1,x\n2,x\n", "1 different labels"), ("", "has no rows of numbers"),
    ("label\nx\n", "has no rows of numbers"), ("a,label\n" + "1" * 200_000 + ",x\n", "cannot be read as a table"),
])  # fmt: skip
def test_malformed_tables_are_refused(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(text)
    done = call("pretrain", "rows", "--data", tmp_path / "rows.csv", "--run-dir", tmp_path / "run")
    assert_one_line(done, 2, words)


def test_repair_and_normalisation_must_fit_the_input(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", 60)
    words = ("pretrain", "rows", "--data", tmp_path / "rows.csv", "--run-dir", tmp_path / "run")
    assert_one_line(call(*words, "--repair", "wiener"), 2, "is repaired by zero, last, mean")
    assert_one_line(call(*words, "--normalize", "per-channel"), 2, "per-channel is for images, not for 3")


def test_images_are_filtered_and_normalised_per_channel(tmp_path: Path) -> None:
    write_folders(tmp_path / "data")
    run = tmp_path / "run"
    done = call("pretrain", "images", "--data", tmp_path / "data", "--repair", "median", "--normalize", "per-channel",
                "--epochs", 1, "--threads", 1, "--no-baselines", "--run-dir", run)  # fmt: skip
    assert done.code == 0, done.err
    from networks.encoders import store

    encoder = store.load(run).encoder
    mean = encoder.state_dict()["normalize.mean"]
    assert len(mean.flatten(1).unique(dim=1)[0]) == 1
    assert encoder.spec.preprocess == {"repair": "median"}


@pytest.mark.parametrize("name", ["rows.csv", "rows.csv.gz"])
def test_a_file_that_does_not_fit_in_memory_is_refused(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = b"text,label\n" + b"hello,x\n" * 100
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith(".gz") else text)
    monkeypatch.setattr(files, "MAX_BYTES", 500)
    with pytest.raises(DataError, match="decompresses to more than" if name.endswith(".gz") else "is larger than"):
        files.read_texts(tmp_path / name)


def test_only_a_newline_ends_a_line_of_json(tmp_path: Path) -> None:
    texts = ["a\u2028b", "c\x85d"]
    lines = [json.dumps({"text": text, "label": str(number)}, ensure_ascii=False) for number, text in enumerate(texts)]
    (tmp_path / "texts.JSONL").write_text("\n".join(lines) + "\r\n", encoding="utf-8")
    assert read_texts(tmp_path / "texts.JSONL")[0] == texts

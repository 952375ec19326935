"""The supervised loop: splits that leak nothing, losses worked out by hand, and options that do what they say."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from networks.encoders.base import Encoder, build
from networks.supervised import metrics, preprocess
from networks.supervised.data import IGNORE, Data, DataError, Splits, check_apart, split
from networks.supervised.fit import Epoch, FitConfig, balanced_weights, batches, find_learning_rate, fit, rate
from networks.supervised.models import Classifier, SlotFiller, Transcriber, Translator, as_text

NUMBERS = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def blobs(count: int = 300, seed: int = 0, classes: int = 3) -> Data:
    """Points around the corners of a triangle."""
    rng = np.random.default_rng(seed)
    target = rng.integers(classes, size=count)
    corners = np.array([[0, 3], [3, 0], [-3, -3]], np.float32)
    x = (corners[target] + rng.normal(size=(count, 2))).astype(np.float32)
    return Data(x, {"corner": target}, np.arange(count))


def module(seed: int = 0, **options: Any) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(build("mlp", NUMBERS), {"corner": 3}, **options)


def accuracy(model: Any, data: Data) -> float:
    return float(np.mean(model.predictions(data.x)["corner"].argmax(axis=1) == data.y["corner"]))


def splits() -> Splits:
    return split(blobs(), np.random.default_rng(0))


def test_groups_are_on_one_side_only() -> None:
    data = blobs(200)
    data = Data(data.x, data.y, np.arange(200) // 10)
    parts = split(data, np.random.default_rng(3))
    check_apart(parts)
    assert sum(len(part) for part in parts) == 200
    assert [len(set(part.group)) for part in parts] == [16, 2, 2]
    with pytest.raises(DataError, match="1 groups, such as 0, are on two sides"):
        check_apart(Splits(parts.train, parts.valid, data.take(np.isin(data.group, [0, *parts.test.group]))))
    with pytest.raises(DataError, match="2 groups cannot be split"):
        split(Data(data.x, data.y, np.arange(200) % 2), np.random.default_rng(0))
    with pytest.raises(DataError, match="200 inputs and 3 of 'corner'"):
        Data(data.x, {"corner": np.zeros(3)}, data.group)


def test_a_fingerprint_is_that_of_every_number() -> None:
    data = blobs(50)
    assert data.fingerprint == blobs(50).fingerprint
    x = data.x.copy()
    x[7, 1] += 1e-3
    assert Data(x, data.y, data.group).fingerprint != data.fingerprint
    assert data.take(np.arange(49)).fingerprint != data.fingerprint


def test_unknown_targets_cost_nothing() -> None:
    model = module()
    x, y = torch.from_numpy(blobs(4).x), torch.tensor([0, IGNORE, 2, IGNORE])
    logits = model.logits(x)["corner"]
    expected = -(logits.log_softmax(dim=1)[0, 0] + logits.log_softmax(dim=1)[2, 2]) / 2
    assert model.loss(x, {"corner": y}).item() == pytest.approx(expected.item())
    assert float(model.loss(x, {"corner": torch.full((4,), IGNORE)})) == 0.0


def test_rare_classes_weigh_more() -> None:
    data = Data(np.zeros((6, 2), np.float32), {"corner": np.array([0, 0, 0, 1, 0, IGNORE])}, np.arange(6))
    weights = balanced_weights(data, {"corner": 3})["corner"]
    assert weights.tolist() == pytest.approx([5 / 4 / 2, 5 / 1 / 2, 0.0])
    drawn = np.concatenate(list(batches(data, FitConfig(sampler="balanced"), np.random.default_rng(0))) * 1)
    assert 5 not in drawn
    many = np.concatenate([b for s in range(200) for b in batches(data, FitConfig(sampler="balanced"),
                                                                  np.random.default_rng(s))])  # fmt: skip
    assert np.mean(many == 3) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "onecycle", "plateau"])
def test_every_schedule_learns(schedule: Any) -> None:
    model, parts = module(), splits()
    epochs = fit(model, parts, FitConfig(epochs=8, schedule=schedule, learning_rate=0.01, batch_size=32), accuracy)
    assert accuracy(model, parts.test) > 0.9
    assert epochs[-1].loss < epochs[0].loss / 2


def test_schedules_by_hand() -> None:
    plain = FitConfig(warmup=0.0)
    assert rate(0.5, replace(plain, schedule="constant")) == 1.0
    assert [rate(p, replace(plain, schedule="step")) for p in (0.0, 0.59, 0.6, 0.84, 0.9)] == [1, 1, 0.1, 0.1, 0.01]
    assert rate(0.5, replace(plain, schedule="cosine")) == pytest.approx(0.5)
    assert rate(1.0, replace(plain, schedule="cosine")) == pytest.approx(0.0)
    one = replace(plain, schedule="onecycle")
    assert [rate(p, one) for p in (0.0, 0.3, 1.0)] == pytest.approx([0.04, 1.0, 0.0])
    assert rate(0.05, FitConfig(schedule="constant", warmup=0.1)) == pytest.approx(0.5)
    twice = replace(plain, schedule="cosine", cycles=2)
    assert [rate(p, twice) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx([1.0, 0.5, 1.0, 0.5, 0.0])


@pytest.mark.parametrize(
    ("epochs", "cycles", "ends"), [(6, 3, [2, 4, 6]), (7, 3, [3, 5, 7]), (4, 1, [4]), (3, 3, [1, 2, 3])]
)
def test_each_cycle_ends_once_when_its_rate_has_fallen(epochs: int, cycles: int, ends: list[int]) -> None:
    model, over, passed = module(), [], []
    config = FitConfig(epochs=epochs, cycles=cycles, batch_size=8)
    fit(model, splits(), config, accuracy, None, lambda epoch, _: passed.append(epoch), None,
        lambda: over.append(len(passed)))  # fmt: skip
    assert over == ends


@pytest.mark.parametrize(("changes", "words"), [
    ({"cycles": 0}, "--cycles must be 1 to --epochs"), ({"cycles": 9}, "--cycles must be 1 to --epochs"),
    ({"cycles": 2, "schedule": "plateau"}, "takes a --schedule that falls"),
    ({"cycles": 2, "early_stop": 3}, "no --early-stop"),
])  # fmt: skip
def test_cycles_that_cannot_be_are_refused(changes: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        FitConfig(**{"epochs": 8, **changes}).validate()


def test_the_best_epoch_is_kept_and_a_stale_run_stops() -> None:
    model, parts = module(), splits()
    scores = iter([0.1, 0.9, 0.3, 0.2, 0.1, 0.8])
    states: list[Tensor] = []

    def score(model: Any, data: Data) -> float:
        states.append(model.heads["corner"].weight.detach().clone())
        return next(scores)

    epochs = fit(model, parts, FitConfig(epochs=6, early_stop=3), score)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5]
    assert torch.equal(model.heads["corner"].weight, states[1])


def test_one_seed_gives_one_module() -> None:
    found = []
    for seed in (0, 0, 1):
        model = module()
        fit(model, splits(), FitConfig(epochs=2, seed=seed), accuracy, preprocess.word_dropout)
        found.append(model.heads["corner"].weight.detach())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_averaged_weights_are_the_mean_of_the_last_epochs() -> None:
    model, parts = module(), splits()
    seen: list[Tensor] = []

    def watch(epoch: Epoch, total: int) -> None:
        seen.append(model.heads["corner"].bias.detach().clone())

    fit(model, parts, FitConfig(epochs=8, average="swa", learning_rate=0.01), lambda *_: 0.0, None, watch)
    assert torch.allclose(model.heads["corner"].bias, torch.stack(seen[5:]).mean(dim=0), atol=1e-6)


def test_a_loss_that_is_no_number_stops_at_once() -> None:
    data = blobs(100)
    data.x[3] = np.inf
    with pytest.raises(DataError, match="the loss is nan in epoch 1"):
        fit(module(), Splits(data, data, data), FitConfig(epochs=2), accuracy)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("learning_rate", 0.0), ("warmup", 1.0), ("seed", -1)])
def test_impossible_values_are_told(name: str, value: Any) -> None:
    with pytest.raises(DataError, match=f"--{name.replace('_', '-')} cannot be {value}"):
        replace(FitConfig(), **{name: value}).validate()


def test_a_good_learning_rate_is_found() -> None:
    found = find_learning_rate(module(), blobs(500), FitConfig(batch_size=32))
    assert 1e-4 < found < 0.3


def test_metrics_by_hand() -> None:
    chances = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
    target = np.array([0, 1, 1, IGNORE])
    found = metrics.classification(chances, target, ["a", "b", "c"])
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["examples"] == 3
    assert found["per_class"]["a"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "count": 1}
    assert found["per_class"]["b"]["recall"] == 0.5
    assert found["f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert found["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    expected = (abs(0.9 - 1) + abs(0.7 - 1) + abs(0.6 - 0)) / 3  # each alone in its bin
    assert found["ece"] == pytest.approx(expected)
    assert metrics.majority(np.array([1, 1, 0]), np.array([1, 0, 0, IGNORE]))["accuracy"] == pytest.approx(1 / 3)
    assert metrics.regression(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == {
        "r2": pytest.approx(1 - 4 / 4.5), "mae": 1.0, "examples": 2,
    }  # fmt: skip
    words = metrics.words(["go to the ball", "a"], ["go to a ball", "a"])
    assert words["wer"] == pytest.approx(1 / 5)
    assert words["exact"] == 0.5
    assert metrics.translation(["the red ball is here"], ["the red ball is here"])["bleu"] == pytest.approx(100.0)


class Heard(Encoder):
    """Tokens that are given."""

    modality = "audio"

    def __init__(self, tokens: Tensor, kept: Tensor):
        super().__init__()
        self.given = tokens, kept
        self.out_dim = tokens.shape[2]
        from networks.encoders.base import EncoderSpec

        self.spec = EncoderSpec("audio", "given", {}, {}, self.out_dim, self.out_dim)

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.given


def test_repeats_and_blanks_are_taken_out() -> None:
    path = torch.tensor([[0, 2, 2, 0, 2, 3, 3, 1], [3, 0, 0, 3, 2, 2, 2, 2]])
    kept = torch.ones(2, 8, dtype=torch.bool)
    kept[1, 5:] = False
    model = Transcriber(Heard(torch.nn.functional.one_hot(path, 4).float(), kept), 4)
    model.heads["text"].weight.data = torch.eye(4) * 9
    model.heads["text"].bias.data.zero_()
    found = model.predict(torch.zeros(2, 1))["text"]
    assert as_text(found[0]) == [2, 2, 3, 1]
    assert as_text(found[1]) == [3, 3, 2]


def test_ctc_is_the_sum_over_all_ways_to_say_it() -> None:
    torch.manual_seed(0)
    model = Transcriber(Heard(torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)), 3)
    chances = model.scores(torch.zeros(1, 1))[0][0].exp()
    ways = [way for way in np.ndindex(3, 3, 3) if collapse(way) == [1, 2]]
    total = sum(math.prod(float(chances[t, letter]) for t, letter in enumerate(way)) for way in ways)
    loss = model.loss(torch.zeros(1, 1), {"text": torch.tensor([[1, 2, 0]])})
    assert float(loss) == pytest.approx(-math.log(total) / 2, rel=1e-5)  # per letter


def collapse(way: tuple[int, ...]) -> list[int]:
    return [letter for index, letter in enumerate(way) if letter and (not index or way[index - 1] != letter)]


def test_a_translator_learns_to_turn_a_text_around() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(2, 8, size=(400, 5))
    y = np.concatenate([np.full((400, 1), 2), x[:, ::-1] + 2, np.full((400, 1), 3), np.zeros((400, 3), int)], axis=1)
    data = Data(x, {"text": y}, np.arange(400))
    torch.manual_seed(0)
    model = Translator(build("bigru-attention", spaces.MultiDiscrete([8] * 5)), 10, 8)

    def exact(model: Any, data: Data) -> float:
        found = model.predictions(data.x)["text"]
        return float(np.mean((found[:, :6] == data.y["text"][:, 1:7]).all(axis=1)))

    fit(model, split(data, rng), FitConfig(epochs=25, learning_rate=5e-3, batch_size=32), exact)
    assert exact(model, data) > 0.9


def test_slots_find_their_words_wherever_they_are() -> None:
    rng = np.random.default_rng(0)
    x = np.full((600, 8), 9)
    a, b = rng.integers(0, 3, 600), rng.integers(0, 3, 600)
    places = np.stack([rng.permutation(8)[:2] for _ in range(600)])
    x[np.arange(600), places[:, 0]], x[np.arange(600), places[:, 1]] = a + 2, b + 5
    data = Data(x, {"a": a, "b": b}, np.arange(600))
    torch.manual_seed(0)
    model = SlotFiller(build("bigru-attention", spaces.MultiDiscrete([10] * 8)), {"a": 3, "b": 3})

    def exact(model: Any, data: Data) -> float:
        found = model.predictions(data.x)
        return float(np.mean([(found[name].argmax(axis=1) == data.y[name]) for name in ("a", "b")]))

    fit(model, split(data, rng), FitConfig(epochs=8, learning_rate=5e-3, batch_size=32), exact)
    assert exact(model, data) > 0.98


def test_augmentations_change_what_they_should() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(50, 1, 1, 1)
    moved = preprocess.shift(image, generator)
    assert moved.shape == image.shape
    assert moved.dtype == torch.uint8
    assert any(torch.equal(each, image[0]) for each in moved)  # a shift of nothing is among nine
    assert any(torch.equal(each[:, :, 1:], image[0, :, :, :-1]) for each in moved)
    holes = preprocess.cutout(torch.full((5, 1, 8, 8), 7, dtype=torch.uint8), generator)
    assert ((holes == 0).sum(dim=(1, 2, 3)) == 4).all()
    wave = torch.zeros(20, 1000, dtype=torch.int16)
    wave[:, :600] = 5000
    noisy = preprocess.noise(wave, generator)
    assert (noisy[:, 600:] == 0).all()
    level = (noisy[:, :600].float() - 5000).std(dim=1) / 5000
    assert level.min() > 10 ** (-31 / 20)
    assert level.max() < 10 ** (-4 / 20)
    words = preprocess.word_dropout(torch.full((10, 100), 5), generator)
    assert 0.05 < float((words == 1).float().mean()) < 0.15
    audio = build("crnn", spaces.Box(-32768, 32767, (8000,), np.int16), sample_rate=8000)
    assert preprocess.augmentation(["specaug"], "audio", audio) is None
    torch.manual_seed(0)
    assert not torch.equal(audio.train().log_mel(wave.repeat(1, 8))[0], audio.eval().log_mel(wave.repeat(1, 8))[0])
    with pytest.raises(DataError, match="no augmentation 'shift' of text; there is words"):
        preprocess.augmentation(["shift"], "text", audio)

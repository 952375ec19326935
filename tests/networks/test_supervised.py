"""Supervised training: disjoint splits, losses and metrics against hand-computed values, training options."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor

from networks.encoders.base import Encoder, EncoderError, build
from networks.supervised import augment, metrics
from networks.supervised.data import IGNORE, Data, DataError, Splits, check_disjoint, split
from networks.supervised.fit import (
    Epoch,
    FitConfig,
    balanced_weights,
    batches,
    find_learning_rate,
    fit,
    learning_rate_factor,
    schedulers,
)
from networks.supervised.models import Classifier, SlotFiller, Transcriber, Translator, load_heads, strip_padding

NUMBERS = spaces.Box(-np.inf, np.inf, (2,), np.float32)


def blobs(count: int = 300, seed: int = 0, classes: int = 3) -> Data:
    """Points around the corners of a triangle."""
    rng = np.random.default_rng(seed)
    target = rng.integers(classes, size=count)
    corners = np.array([[0, 3], [3, 0], [-3, -3]], np.float32)
    x = (corners[target] + rng.normal(size=(count, 2))).astype(np.float32)
    return Data(x, {"corner": target}, np.arange(count))


def classifier(seed: int = 0, **options: Any) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(build("mlp", NUMBERS), {"corner": 3}, **options)


def accuracy(model: Any, data: Data) -> float:
    return float(np.mean(model.predictions(data.x)["corner"].argmax(axis=1) == data.y["corner"]))


def splits() -> Splits:
    return split(blobs(), np.random.default_rng(0))


def test_groups_are_in_one_split_only() -> None:
    data = blobs(200)
    data = Data(data.x, data.y, np.arange(200) // 10)
    parts = split(data, np.random.default_rng(3))
    check_disjoint(parts)
    assert sum(len(part) for part in parts) == 200
    assert [len(set(part.group)) for part in parts] == [16, 2, 2]
    with pytest.raises(DataError, match="1 groups, such as 0, are in two splits"):
        check_disjoint(Splits(parts.train, parts.valid, data.take(np.isin(data.group, [0, *parts.test.group]))))
    with pytest.raises(DataError, match="2 groups cannot be split"):
        split(Data(data.x, data.y, np.arange(200) % 2), np.random.default_rng(0))
    with pytest.raises(DataError, match="200 inputs do not match 3 values of 'corner'"):
        Data(data.x, {"corner": np.zeros(3)}, data.group)


def test_a_fingerprint_depends_on_every_value() -> None:
    data = blobs(50)
    assert data.fingerprint == blobs(50).fingerprint
    x = data.x.copy()
    x[7, 1] += 1e-3
    assert Data(x, data.y, data.group).fingerprint != data.fingerprint
    assert data.take(np.arange(49)).fingerprint != data.fingerprint


def test_unknown_targets_have_no_loss() -> None:
    model = classifier()
    x, y = torch.from_numpy(blobs(4).x), torch.tensor([0, IGNORE, 2, IGNORE])
    logits = model.logits(x)["corner"]
    expected = -(logits.log_softmax(dim=1)[0, 0] + logits.log_softmax(dim=1)[2, 2]) / 2
    assert model.loss(x, {"corner": y}).item() == pytest.approx(expected.item())
    assert float(model.loss(x, {"corner": torch.full((4,), IGNORE)})) == 0.0


def test_label_smoothing_spreads_a_share_over_all_classes() -> None:
    model, data = classifier(smoothing=0.3), blobs(5)
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y["corner"])
    logs = model.logits(x)["corner"].log_softmax(dim=1)
    expected = -(0.7 * logs[torch.arange(5), y] + 0.3 * logs.mean(dim=1)).mean()
    assert model.loss(x, {"corner": y}).item() == pytest.approx(expected.item())


def test_balanced_weights_and_sampling_favour_rare_classes() -> None:
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
    model, parts = classifier(), splits()
    epochs = fit(model, parts, FitConfig(epochs=8, schedule=schedule, learning_rate=0.01, batch_size=32), accuracy)
    assert accuracy(model, parts.test) > 0.9
    assert epochs[-1].loss < epochs[0].loss / 2


def test_schedules_by_hand() -> None:
    plain = FitConfig(warmup=0.0)
    assert learning_rate_factor(0.5, replace(plain, schedule="constant")) == 1.0
    assert [learning_rate_factor(p, replace(plain, schedule="step")) for p in (0.0, 0.59, 0.6, 0.84, 0.9)] == [
        1,
        1,
        0.1,
        0.1,
        0.01,
    ]
    assert learning_rate_factor(0.5, replace(plain, schedule="cosine")) == pytest.approx(0.5)
    assert learning_rate_factor(1.0, replace(plain, schedule="cosine")) == pytest.approx(0.0)
    one = replace(plain, schedule="onecycle")
    assert [learning_rate_factor(p, one) for p in (0.0, 0.3, 1.0)] == pytest.approx([0.04, 1.0, 0.0])
    assert learning_rate_factor(0.05, FitConfig(schedule="constant", warmup=0.1)) == pytest.approx(0.5)
    rising = FitConfig(schedule="cosine", warmup=0.1)
    assert learning_rate_factor(0.05, rising) == pytest.approx(0.5 * 0.5 * (1 + math.cos(0.05 * math.pi)))
    twice = replace(plain, schedule="cosine", cycles=2)
    assert [learning_rate_factor(p, twice) for p in (0.0, 0.25, 0.5, 0.75, 1.0)] == pytest.approx(
        [1.0, 0.5, 1.0, 0.5, 0.0]
    )


def test_plateau_halves_the_rate_after_every_second_stale_epoch_and_warms_up() -> None:
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], 0.8)
    warmup, plateau = schedulers(optimizer, FitConfig(schedule="plateau", warmup=0.5), 4)
    assert plateau is not None
    rates = [optimizer.param_groups[0]["lr"]]
    for score in (0.5, 0.7, 0.7, 0.6, 0.7, 0.7, 0.9, 0.8):
        optimizer.step()
        warmup.step()
        plateau.step(score)
        rates.append(optimizer.param_groups[0]["lr"])
    assert rates == pytest.approx([8e-4, 0.4004, 0.8, 0.8, 0.4, 0.4, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("epochs", "cycles", "ends"), [(6, 3, [2, 4, 6]), (7, 3, [3, 5, 7]), (4, 1, [4]), (3, 3, [1, 2, 3])]
)
def test_each_cycle_ends_once(epochs: int, cycles: int, ends: list[int]) -> None:
    model, cycle_ends, passed = classifier(), [], []
    config = FitConfig(epochs=epochs, cycles=cycles, batch_size=8)
    fit(model, splits(), config, accuracy, None, passed.append, None,
        lambda: cycle_ends.append(len(passed)))  # fmt: skip
    assert cycle_ends == ends


@pytest.mark.parametrize(("changes", "words"), [
    ({"cycles": 0}, "--cycles must be 1 to --epochs"), ({"cycles": 9}, "--cycles must be 1 to --epochs"),
    ({"cycles": 2, "schedule": "plateau"}, "needs a falling --schedule"),
    ({"cycles": 2, "early_stop": 3}, "no --early-stop"),
])  # fmt: skip
def test_impossible_cycles_are_refused(changes: Any, words: str) -> None:
    with pytest.raises(DataError, match=words):
        FitConfig(**{"epochs": 8, **changes}).validate()


def test_the_best_epoch_is_restored_and_training_stops_early() -> None:
    model, parts = classifier(), splits()
    scores = iter([0.1, 0.9, 0.3, 0.2, 0.1, 0.8])
    states: list[Tensor] = []

    def score(model: Any, data: Data) -> float:
        states.append(model.heads["corner"].weight.detach().clone())
        return next(scores)

    epochs = fit(model, parts, FitConfig(epochs=6, early_stop=3), score)
    assert [epoch.number for epoch in epochs] == [1, 2, 3, 4, 5]
    assert torch.equal(model.heads["corner"].weight, states[1])


def test_training_is_deterministic() -> None:
    weights = []
    for seed in (0, 0, 1):
        model = classifier()
        fit(model, splits(), FitConfig(epochs=2, seed=seed), accuracy, augment.word_dropout)
        weights.append(model.heads["corner"].weight.detach())
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_averaged_weights_are_the_mean_of_the_last_epochs() -> None:
    model, parts = classifier(), splits()
    biases: list[Tensor] = []

    def on_epoch(epoch: Epoch) -> None:
        biases.append(model.heads["corner"].bias.detach().clone())

    fit(model, parts, FitConfig(epochs=8, average="swa", learning_rate=0.01), lambda *_: 0.0, None, on_epoch)
    assert torch.allclose(model.heads["corner"].bias, torch.stack(biases[5:]).mean(dim=0), atol=1e-6)


def test_a_loss_that_is_not_finite_stops_training() -> None:
    data = blobs(100)
    data.x[3] = np.inf
    with pytest.raises(DataError, match="the loss is nan in epoch 1"):
        fit(classifier(), Splits(data, data, data), FitConfig(epochs=2), accuracy)


@pytest.mark.parametrize(("name", "value"), [("epochs", 0), ("learning_rate", 0.0), ("warmup", 1.0), ("seed", -1)])
def test_impossible_settings_are_refused(name: str, value: Any) -> None:
    with pytest.raises(DataError, match=f"--{name.replace('_', '-')} cannot be {value}"):
        replace(FitConfig(), **{name: value}).validate()


def test_a_good_learning_rate_is_found() -> None:
    result = find_learning_rate(classifier(), blobs(500), FitConfig(batch_size=32))
    assert 1e-4 < result < 0.3


def test_metrics_by_hand() -> None:
    chances = np.array([[0.9, 0.1, 0.0], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1], [0.1, 0.1, 0.8]])
    target = np.array([0, 1, 1, IGNORE])
    result = metrics.classification(chances, target, ["a", "b", "c"])
    assert result["accuracy"] == pytest.approx(2 / 3)
    assert result["examples"] == 3
    assert result["per_class"]["a"] == {"precision": 0.5, "recall": 1.0, "f1": pytest.approx(2 / 3), "count": 1}
    assert result["per_class"]["b"]["recall"] == 0.5
    assert result["f1"] == pytest.approx((2 / 3 + 2 / 3) / 2)
    assert result["confusion"] == [[1, 0, 0], [1, 1, 0], [0, 0, 0]]
    expected = (abs(0.9 - 1) + abs(0.7 - 1) + abs(0.6 - 0)) / 3  # each alone in its bin
    assert result["ece"] == pytest.approx(expected)
    assert metrics.majority_baseline(np.array([1, 1, 0]), np.array([1, 0, 0, IGNORE]))["accuracy"] == pytest.approx(
        1 / 3
    )
    assert metrics.regression(np.array([1.0, 2.0]), np.array([1.0, 4.0])) == {
        "r2": pytest.approx(1 - 4 / 4.5), "mae": 1.0, "examples": 2,
    }  # fmt: skip
    words = metrics.error_rates(["go to the ball", "a"], ["go to a ball", "a"])
    assert words["wer"] == pytest.approx(1 / 5)
    assert words["exact"] == 0.5
    assert metrics.translation(["the red ball is here"], ["the red ball is here"])["bleu"] == pytest.approx(100.0)
    short = metrics.translation(["go to the red ball"], ["go to the red ball right now"])
    assert short["bleu"] == pytest.approx(100 * math.exp(1 - 7 / 5))  # all words are right; two are missing


class FixedTokens(Encoder):
    """Returns given tokens and mask."""

    modality = "audio"

    def __init__(self, tokens: Tensor, mask: Tensor):
        super().__init__()
        self.given = tokens, mask
        self.out_dim = tokens.shape[2]
        from networks.encoders.base import EncoderSpec

        self.spec = EncoderSpec("audio", "given", {}, {}, self.out_dim, self.out_dim)

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return self.given


def test_greedy_decoding_removes_repeats_and_blanks() -> None:
    path = torch.tensor([[0, 2, 2, 0, 2, 3, 3, 1], [3, 0, 0, 3, 2, 2, 2, 2]])
    mask = torch.ones(2, 8, dtype=torch.bool)
    mask[1, 5:] = False
    model = Transcriber(FixedTokens(torch.nn.functional.one_hot(path, 4).float(), mask), 4)
    model.heads["text"].weight.data = torch.eye(4) * 9
    model.heads["text"].bias.data.zero_()
    result = model.predict(torch.zeros(2, 1))["text"]
    assert strip_padding(result[0]) == [2, 2, 3, 1]
    assert strip_padding(result[1]) == [3, 3, 2]


def test_ctc_sums_over_all_alignments() -> None:
    torch.manual_seed(0)
    model = Transcriber(FixedTokens(torch.randn(1, 3, 4), torch.ones(1, 3, dtype=torch.bool)), 3)
    chances = model.log_probabilities(torch.zeros(1, 1))[0][0].exp()
    ways = [way for way in np.ndindex(3, 3, 3) if collapse(way) == [1, 2]]
    total = sum(math.prod(float(chances[t, letter]) for t, letter in enumerate(way)) for way in ways)
    loss = model.loss(torch.zeros(1, 1), {"text": torch.tensor([[1, 2, 0]])})
    assert float(loss) == pytest.approx(-math.log(total) / 2, rel=1e-5)  # per letter


def collapse(way: tuple[int, ...]) -> list[int]:
    return [letter for index, letter in enumerate(way) if letter and (not index or way[index - 1] != letter)]


def test_a_translator_learns_to_reverse_a_text() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(2, 8, size=(400, 5))
    y = np.concatenate([np.full((400, 1), 2), x[:, ::-1] + 2, np.full((400, 1), 3), np.zeros((400, 3), int)], axis=1)
    data = Data(x, {"text": y}, np.arange(400))
    torch.manual_seed(0)
    model = Translator(build("bigru-attention", spaces.MultiDiscrete([8] * 5)), 10, 8)

    def exact(model: Any, data: Data) -> float:
        result = model.predictions(data.x)["text"]
        return float(np.mean((result[:, :6] == data.y["text"][:, 1:7]).all(axis=1)))

    fit(model, split(data, rng), FitConfig(epochs=25, learning_rate=5e-3, batch_size=32), exact)
    assert exact(model, data) > 0.9


def test_slots_find_their_words_at_any_position() -> None:
    rng = np.random.default_rng(0)
    x = np.full((600, 8), 9)
    a, b = rng.integers(0, 3, 600), rng.integers(0, 3, 600)
    places = np.stack([rng.permutation(8)[:2] for _ in range(600)])
    x[np.arange(600), places[:, 0]], x[np.arange(600), places[:, 1]] = a + 2, b + 5
    data = Data(x, {"a": a, "b": b}, np.arange(600))
    torch.manual_seed(0)
    model = SlotFiller(build("bigru-attention", spaces.MultiDiscrete([10] * 8)), {"a": 3, "b": 3})

    def exact(model: Any, data: Data) -> float:
        result = model.predictions(data.x)
        return float(np.mean([(result[name].argmax(axis=1) == data.y[name]) for name in ("a", "b")]))

    fit(model, split(data, rng), FitConfig(epochs=8, learning_rate=5e-3, batch_size=32), exact)
    assert exact(model, data) > 0.98


def test_augmentations() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.arange(64, dtype=torch.uint8).reshape(1, 1, 8, 8).repeat(50, 1, 1, 1)
    moved = augment.random_shift(image, generator)
    assert moved.shape == image.shape
    assert moved.dtype == torch.uint8
    assert any(torch.equal(each, image[0]) for each in moved)  # a shift of nothing is among nine
    assert any(torch.equal(each[:, :, 1:], image[0, :, :, :-1]) for each in moved)
    holes = augment.cutout(torch.full((5, 1, 8, 8), 7, dtype=torch.uint8), generator)
    assert ((holes == 0).sum(dim=(1, 2, 3)) == 4).all()
    wave = torch.zeros(20, 1000, dtype=torch.int16)
    wave[:, :600] = 5000
    noisy = augment.add_noise(wave, generator)
    assert (noisy[:, 600:] == 0).all()
    level = (noisy[:, :600].float() - 5000).std(dim=1) / 5000
    assert level.min() > 10 ** (-31 / 20)
    assert level.max() < 10 ** (-4 / 20)
    assert not augment.word_dropout(torch.zeros(10, 100, dtype=torch.int64), generator).any()  # padding stays
    words = augment.word_dropout(torch.full((10, 100), 5), generator)
    assert 0.05 < float((words == 1).float().mean()) < 0.15
    audio = build("crnn", spaces.Box(-32768, 32767, (8000,), np.int16), sample_rate=8000)
    assert augment.make_augmentation(["specaug"], "audio", audio) is None
    torch.manual_seed(0)
    assert not torch.equal(audio.train().log_mel(wave.repeat(1, 8))[0], audio.eval().log_mel(wave.repeat(1, 8))[0])
    with pytest.raises(DataError, match="no augmentation 'shift' for text; available: words"):
        augment.make_augmentation(["shift"], "text", audio)


def test_noise_on_pixels_stays_in_their_range() -> None:
    image = torch.full((40, 1, 8, 8), 250, dtype=torch.uint8)
    noisy = augment.add_noise(image, torch.Generator().manual_seed(0))
    assert noisy.dtype == torch.uint8
    assert not torch.equal(noisy, image)
    assert float((noisy.float() - 250).abs().mean()) < 25.5


def test_heads_of_another_model_are_refused() -> None:
    model = Classifier(build("mlp", spaces.Box(-1, 1, (4,), np.float32)), {"x": 3})
    with pytest.raises(EncoderError, match="the saved heads no longer match the model"):
        load_heads(model, {"y.weight": torch.ones(2, 2)})


def test_nothing_has_no_calibration_error() -> None:
    assert np.isnan(metrics.calibration_error(np.zeros((0, 3)), np.zeros(0, int)))

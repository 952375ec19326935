"""Pruning, quantisation, distillation and ensembles against their formulas."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch.nn import functional as F

from networks.encoders import store
from networks.encoders.base import EncoderError, build
from networks.supervised.data import Data, DataError
from networks.supervised.models import Classifier, Ensemble, InverseDynamicsModel, SupervisedModel, Transcriber
from networks.supervised.simplify import count_nonzero, distillation_loss, prune, quantize, weight_matrices

IMAGE = spaces.Box(0, 255, (1, 8, 8), np.uint8)


def classifier(seed: int = 0, classes: int = 3) -> Classifier:
    torch.manual_seed(seed)
    return Classifier(build("small-cnn", IMAGE, width=8, out_dim=16), {"digit": classes}).eval()


def images(count: int = 6) -> torch.Tensor:
    return torch.randint(0, 256, (count, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(3))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_pruning_zeroes_the_smallest_weights_of_all_layers(share: float) -> None:
    model, before = classifier(), classifier()
    prune(model, share)
    old = torch.cat([weight.flatten() for weight in weight_matrices(before).values()])
    new = torch.cat([weight.flatten() for weight in weight_matrices(model).values()])
    pruned = new == 0
    assert int(pruned.sum()) == round(share * len(old))
    assert torch.equal(new[~pruned], old[~pruned])
    if share:
        assert old[pruned].abs().max() <= old[~pruned].abs().min()
    biases = [value for value in model.parameters() if value.dim() < 2]
    assert all(torch.equal(a, b) for a, b in zip(biases, [v for v in before.parameters() if v.dim() < 2], strict=True))
    left, of = count_nonzero(model)
    assert of == sum(part.numel() for part in before.parameters())
    zeros_before = sum(int((part == 0).sum()) for part in before.parameters())
    assert left == of - zeros_before - round(share * len(old))


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_an_impossible_share_is_refused(share: float) -> None:
    with pytest.raises(DataError, match="must be at least 0 and below 1"):
        prune(classifier(), share)


def test_quantisation_rounds_by_half_a_step_at_most_and_shrinks_the_folder(tmp_path: Path) -> None:
    model, before = classifier(), classifier()
    quantize(model)
    for name, weight in weight_matrices(before).items():
        rows = weight.flatten(1)
        step = rows.abs().amax(dim=1, keepdim=True) / 127
        assert bool(((weight_matrices(model)[name].flatten(1) - rows).abs() <= step / 2 + 1e-7).all())
    for name, int8 in (("whole", False), ("small", True)):
        store.save(tmp_path / name, model.encoder, model.heads.state_dict(), {"task": "t"}, {}, int8=int8)
    sizes = {name: (tmp_path / name / "encoder.safetensors").stat().st_size for name in ("whole", "small")}
    assert sizes["small"] < 0.5 * sizes["whole"]
    loaded = store.load(tmp_path / "small")
    x = images()
    assert torch.allclose(loaded.encoder(x), model.encoder(x), atol=1e-5)
    assert torch.equal(loaded.encoder.state_dict()["normalize.mean"], model.encoder.state_dict()["normalize.mean"])


def test_the_distillation_loss_combines_teacher_and_labels() -> None:
    student, teacher, x = classifier(0), classifier(1), images()
    y = {"digit": torch.tensor([0, 1, 2, 0, 1, 2])}
    loss = distillation_loss(student, teacher, share=0.6, temperature=3.0)
    known, own = teacher.logits(x)["digit"], student.logits(x)["digit"]
    p, log_q = F.softmax(known / 3, dim=1), F.log_softmax(own / 3, dim=1)
    far = (p * (p.log() - log_q)).sum(dim=1).mean() * 9
    assert loss(x, y).item() == pytest.approx((0.6 * far + 0.4 * F.cross_entropy(own, y["digit"])).item(), rel=1e-5)
    loss(x, y).backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert distillation_loss(teacher, teacher, share=1.0)(x, y).item() == pytest.approx(0.0, abs=1e-6)


def test_distillation_needs_the_same_classes() -> None:
    with pytest.raises(DataError, match="has other classes"):
        distillation_loss(classifier(), classifier(classes=4))
    pair = InverseDynamicsModel(build("small-cnn", IMAGE), "action", 3)
    with pytest.raises(DataError, match="needs a task with classes"):
        distillation_loss(pair, pair)


def test_an_ensemble_averages_probabilities() -> None:
    members, x = [classifier(seed) for seed in range(3)], images()
    mean = torch.stack([member.predict(x)["digit"] for member in members]).mean(dim=0)
    vote = Ensemble(members).eval()
    assert torch.allclose(vote.predict(x)["digit"], mean)
    assert np.allclose(vote.predictions(x.numpy(), 4)["digit"], mean.detach().numpy(), atol=1e-6)
    y = {"digit": torch.tensor([0, 1, 2, 0, 1, 2])}
    assert vote.loss(x, y).item() == pytest.approx(np.mean([member.loss(x, y).item() for member in members]))


def test_texts_cannot_be_averaged() -> None:
    encoder = build("crnn", spaces.Box(-32768, 32767, (4000,), np.int16), sample_rate=8000)
    writer = Transcriber(encoder, 5).eval()
    with pytest.raises(EncoderError, match="texts cannot be averaged"):
        Ensemble([writer, writer]).predict(torch.ones(1, 4000, dtype=torch.int16))


def test_inverse_dynamics_uses_both_observations() -> None:
    torch.manual_seed(0)
    model: SupervisedModel = InverseDynamicsModel(build("small-cnn", IMAGE), "action", 4, np.ones(4)).eval()
    pairs = torch.stack([images(6), images(6).flip(0)], dim=1)
    result = model.predict(pairs)["action"]
    assert result.shape == (6, 4)
    assert torch.allclose(result.sum(dim=1), torch.ones(6))
    features = model.encoder(pairs[:, 0]), model.encoder(pairs[:, 1])
    expected = model.heads["action"](torch.cat(features, dim=1)).softmax(dim=1)
    assert torch.allclose(result, expected, atol=1e-6)
    target = {"action": torch.zeros(6, dtype=torch.long)}
    assert model.loss(pairs, target).item() == pytest.approx(-expected[:, 0].log().mean().item(), rel=1e-5)
    Data(pairs.numpy(), {"action": np.zeros(6, np.int64)}, np.arange(6))

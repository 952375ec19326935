"""The loop that every supervised task is trained by, with the options of training strategy."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from networks.supervised.data import IGNORE, Data, DataError, Splits
from networks.supervised.models import Supervised

Loss = Callable[[Tensor, dict[str, Tensor]], Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]
ScheduleName = Literal["constant", "step", "cosine", "onecycle", "plateau"]


@dataclass(frozen=True)
class FitConfig:
    """How a module is trained."""

    epochs: int = 20
    """Passes over the training examples at most."""
    batch_size: int = 64
    """Examples of an update."""
    learning_rate: float = 1e-3
    """Of Adam, at its highest."""
    schedule: ScheduleName = "cosine"
    """How the rate falls: not at all; by ten after 60 and 85 %; as a cosine; up and down (Smith & Topin 2018); by two
    whenever validation has not become better for 2 epochs."""
    warmup: float = 0.05
    """Share of the updates in which the rate rises from 0."""
    weight_decay: float = 0.0
    """Of AdamW."""
    max_grad_norm: float = 5.0
    """Gradients are scaled down to this norm."""
    early_stop: int = 0
    """Stop after so many epochs without a better validation; 0 never. The best epoch's weights are kept in any case."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced weighs each class by the inverse of its frequency."""
    sampler: Literal["uniform", "balanced"] = "uniform"
    """balanced draws each class of the first head equally often."""
    normalize: Literal["mean-image", "per-channel", "range"] = "mean-image"
    """What the input is normalised by: mean and deviation of each pixel or number over the training examples; of each
    channel of images; or the range alone, as 255."""
    average: Literal["none", "swa"] = "none"
    """swa ends with the mean of the weights over the last quarter of the epochs (Izmailov et al. 2018)."""
    cycles: int = 1
    """How often the schedule is gone through; the weights at the end of each are saved as a network of their own, and
    they vote (snapshot ensembles, Huang et al. 2017)."""
    label_smoothing: float = 0.0
    """Share of a target that is spread over all classes."""
    seconds: float = 0.0
    """Stop after so many seconds of training; 0 never."""
    threads: int = 0
    """Of torch; 0 takes every core."""
    device: str = "auto"
    """cpu, cuda or auto."""
    seed: int = 0
    """Everything random follows from this number."""

    def validate(self) -> None:
        """Raise DataError at the first impossible value."""
        checks = {
            "epochs": self.epochs >= 1, "batch_size": self.batch_size >= 1, "learning_rate": self.learning_rate > 0,
            "warmup": 0 <= self.warmup < 1, "early_stop": self.early_stop >= 0, "threads": self.threads >= 0,
            "label_smoothing": 0 <= self.label_smoothing < 1, "seconds": self.seconds >= 0, "seed": self.seed >= 0,
            "weight_decay": self.weight_decay >= 0, "max_grad_norm": self.max_grad_norm > 0,
        }  # fmt: skip
        for name, fine in checks.items():
            if not fine:
                raise DataError(f"--{name.replace('_', '-')} cannot be {getattr(self, name)}")
        if not 1 <= self.cycles <= self.epochs:
            raise DataError(f"--cycles must be 1 to --epochs, which is {self.epochs}, not {self.cycles}")
        if self.cycles > 1 and (self.early_stop or self.schedule in ("constant", "plateau")):
            raise DataError("--cycles takes a --schedule that falls (step, cosine, onecycle), and no --early-stop")


@dataclass
class Epoch:
    """What one pass came to."""

    number: int
    loss: float
    score: float
    learning_rate: float
    seconds: float


Watch = Callable[[Epoch, int], None]


def fit(
    model: Supervised, splits: Splits, config: FitConfig, score: Callable[[Supervised, Data], float],
    augment: Augment | None = None, watch: Watch | None = None, loss: Loss | None = None,
    cycle_over: Callable[[], None] | None = None,
) -> list[Epoch]:  # fmt: skip
    """Train the model; leave it with the weights of the epoch of the highest score on `splits.valid`.

    `score(model, data)` is of what is judged, higher is better; `loss` takes the place of the model's own. `cycle_over`
    is called when the schedule has been gone through, each time, with the model as it is then. Returns the epochs.
    """
    config.validate()
    if not len(splits.train) or not len(splits.valid):
        raise DataError("there is nothing to learn from, or nothing to validate on")
    training = _Training(model, splits.train, config, augment, loss or model.loss)
    stale, start = 0, time.monotonic()
    best, best_state, mean = -math.inf, copy.deepcopy(model.state_dict()), _Average()
    epochs: list[Epoch] = []
    for number in range(1, config.epochs + 1):
        mean_loss, now = training.epoch(number)
        if config.average == "swa" and number >= 0.75 * config.epochs:
            mean.add(model)
        found, seconds = score(model, splits.valid), time.monotonic() - start
        epochs.append(Epoch(number, mean_loss, found, now, seconds))
        if watch is not None:
            watch(epochs[-1], config.epochs)
        stale = 0 if found > best else stale + 1
        if found > best:
            best, best_state = found, copy.deepcopy(model.state_dict())
        if cycle_over is not None and number * config.cycles % config.epochs < config.cycles:
            cycle_over()
        training.plateau(stale)
        if (config.early_stop and stale >= config.early_stop) or 0 < config.seconds < seconds:
            break
    if mean.count:
        model.load_state_dict(mean.state)
        if score(model, splits.valid) >= best:
            return epochs
    model.load_state_dict(best_state)
    return epochs


class _Training:
    """A model that goes down its loss, epoch by epoch."""

    def __init__(self, model: Supervised, data: Data, config: FitConfig, augment: Augment | None, loss: Loss):
        self.model, self.data, self.config, self.augment, self.loss = model, data, config, augment, loss
        self.rng, self.generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
        wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(wanted, config.learning_rate, weight_decay=config.weight_decay)
        self.total = config.epochs * math.ceil(len(data) / config.batch_size)
        self.done, self.scale = 0, 1.0

    def epoch(self, number: int) -> tuple[float, float]:
        """Go through the data once; return the mean loss and the last learning rate."""
        self.model.train()
        losses, now = [], 0.0
        for index in batches(self.data, self.config, self.rng):
            now = self.config.learning_rate * self.scale * rate(self.done / self.total, self.config)
            for group in self.optimizer.param_groups:
                group["lr"] = now
            x, y = tensors(self.data, index, self.model, self._harder)
            loss = self.loss(x, y)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
            self.optimizer.step()
            losses.append(loss.detach())
            self.done += 1
            if not bool(torch.isfinite(losses[-1])):
                raise DataError(f"the loss is {float(losses[-1])} in epoch {number}; lower --learning-rate")
        return float(torch.stack(losses).mean()), now

    def _harder(self, x: Tensor) -> Tensor:
        return x if self.augment is None else self.augment(x, self.generator)

    def plateau(self, stale: int) -> None:
        """Halve the rate after every second epoch without a better validation, if that is the schedule."""
        if self.config.schedule == "plateau" and stale and stale % 2 == 0:
            self.scale *= 0.5


def rate(progress: float, config: FitConfig) -> float:
    """Return the factor of the learning rate after this share of the training."""
    progress *= config.cycles
    progress -= min(int(progress), config.cycles - 1)
    warm = min(1.0, progress / config.warmup) if config.warmup else 1.0
    if config.schedule == "step":
        return warm * (1.0 if progress < 0.6 else 0.1 if progress < 0.85 else 0.01)
    if config.schedule == "cosine":
        return warm * 0.5 * (1.0 + math.cos(math.pi * progress))
    if config.schedule == "onecycle":  # from a 25th up to the rate at 30 %, then down to nothing
        if progress < 0.3:
            return 0.04 + 0.96 * 0.5 * (1.0 - math.cos(math.pi * progress / 0.3))
        return 0.5 * (1.0 + math.cos(math.pi * (progress - 0.3) / 0.7))
    return warm


def batches(data: Data, config: FitConfig, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the indices of an epoch's batches."""
    if config.sampler == "balanced":
        target = next(iter(data.y.values()))
        if target.ndim != 1:
            raise DataError("--sampler balanced is for classes, not for sequences")
        known = np.flatnonzero(target != IGNORE)
        classes, which, counts = np.unique(target[known], return_inverse=True, return_counts=True)
        chance = 1.0 / (len(classes) * counts[which])
        order = rng.choice(known, size=len(data), p=chance / chance.sum())
    else:
        order = rng.permutation(len(data))
    for start in range(0, len(order), config.batch_size):
        yield order[start : start + config.batch_size]


def tensors(
    data: Data, index: np.ndarray, model: nn.Module, change: Callable[[Tensor], Tensor] = lambda x: x
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return inputs, changed before they are moved, and targets of a batch on the model's device."""
    device = next(model.parameters()).device
    x = change(torch.from_numpy(np.ascontiguousarray(data.x[index]))).to(device)
    return x, {name: torch.from_numpy(part[index].astype(np.int64)).to(device) for name, part in data.y.items()}


def balanced_weights(data: Data, classes: dict[str, int]) -> dict[str, np.ndarray]:
    """Return for each head the weight of each class: total / (classes that occur x count); 0 without examples."""
    found = {}
    for name, count in classes.items():
        counts = np.bincount(data.y[name][data.y[name] != IGNORE], minlength=count).astype(float)
        present = max(int((counts > 0).sum()), 1)
        found[name] = np.where(counts > 0, counts.sum() / np.maximum(counts, 1.0) / present, 0.0)
    return found


class _Average:
    """Mean of a model's weights over epochs."""

    def __init__(self) -> None:
        self.state: dict[str, Any] = {}
        self.count = 0

    def add(self, model: nn.Module) -> None:
        """Take an epoch's weights in."""
        self.count += 1
        for key, value in model.state_dict().items():
            if key not in self.state or not value.is_floating_point():
                self.state[key] = value.clone()
            else:
                self.state[key] += (value - self.state[key]) / self.count


def find_learning_rate(model: Supervised, data: Data, config: FitConfig, low: float = 1e-5, high: float = 0.3) -> float:
    """Return a tenth of the rate at which the loss is lowest in a pass of rising rates (Smith 2017), on a copy."""
    twin, rng = copy.deepcopy(model).train(), np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(twin.parameters(), low)
    order = np.concatenate(
        [rng.permutation(len(data)) for _ in range(max(1, 100 * config.batch_size // len(data) + 1))]
    )
    rates, losses = np.geomspace(low, high, 100), []
    smooth = None
    for step, value in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = value
        x, y = tensors(data, order[step * config.batch_size : (step + 1) * config.batch_size], twin)
        loss = twin.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        smooth = loss.item() if smooth is None else 0.9 * smooth + 0.1 * loss.item()
        losses.append(smooth)
        if not math.isfinite(smooth) or smooth > 4 * min(losses):
            break
    return float(rates[int(np.argmin(losses))]) / 10

"""Training loop of all supervised tasks, with its settings."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR, LinearLR, LRScheduler, ReduceLROnPlateau
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import WeightedRandomSampler

from networks.supervised.data import IGNORE, Data, DataError, Splits
from networks.supervised.models import SupervisedModel

Loss = Callable[[Tensor, dict[str, Tensor]], Tensor]
Augment = Callable[[Tensor, torch.Generator], Tensor]
ScheduleName = Literal["constant", "step", "cosine", "onecycle", "plateau"]


@dataclass(frozen=True)
class FitConfig:
    """Training settings."""

    epochs: int = 20
    """Maximum number of epochs."""
    batch_size: int = 64
    """Examples per update."""
    learning_rate: float = 1e-3
    """Peak learning rate of AdamW."""
    schedule: ScheduleName = "cosine"
    """step: divided by 10 at 60 and 85 %; onecycle: Smith & Topin (2018); plateau: halved after 2 epochs of no gain."""
    warmup: float = 0.05
    """Share of the updates with a linear warm-up from 0."""
    weight_decay: float = 0.0
    """Weight decay of AdamW."""
    max_grad_norm: float = 5.0
    """Maximum gradient norm; larger gradients are clipped."""
    early_stop: int = 0
    """Stop after this many epochs without a better validation score; 0: never. The best epoch's weights are kept."""
    class_weights: Literal["none", "balanced"] = "none"
    """balanced: weigh each class in the loss by its inverse frequency."""
    sampler: Literal["uniform", "balanced"] = "uniform"
    """balanced: sample each class of the first head equally often."""
    normalize: Literal["mean-image", "per-channel", "range"] = "mean-image"
    """Input normalisation: mean and deviation over training examples of each pixel or channel; or the value range."""
    average: Literal["none", "swa"] = "none"
    """swa: average the weights over the last quarter of the epochs (Izmailov et al. 2018)."""
    cycles: int = 1
    """Number of schedule cycles; the network at the end of each is saved and joins an ensemble (Huang et al. 2017)."""
    label_smoothing: float = 0.0
    """Share of each target that is spread over all classes."""
    seconds: float = 0.0
    """Stop after this training time; 0: never."""
    threads: int = 0
    """Threads of torch; 0: all cores."""
    device: str = "auto"
    """cpu, cuda or auto."""
    seed: int = 0
    """Random seed."""

    def validate(self) -> None:
        """Raise DataError for the first impossible value."""
        checks = {
            "epochs": self.epochs >= 1, "batch_size": self.batch_size >= 1, "learning_rate": self.learning_rate > 0,
            "warmup": 0 <= self.warmup < 1, "early_stop": self.early_stop >= 0, "threads": self.threads >= 0,
            "label_smoothing": 0 <= self.label_smoothing < 1, "seconds": self.seconds >= 0, "seed": self.seed >= 0,
            "weight_decay": self.weight_decay >= 0, "max_grad_norm": self.max_grad_norm > 0,
        }  # fmt: skip
        for name, valid in checks.items():
            if not valid:
                raise DataError(f"--{name.replace('_', '-')} cannot be {getattr(self, name)}")
        if not 1 <= self.cycles <= self.epochs:
            raise DataError(f"--cycles must be 1 to --epochs, which is {self.epochs}, not {self.cycles}")
        if self.cycles > 1 and (self.early_stop or self.schedule in ("constant", "plateau")):
            raise DataError("--cycles needs a falling --schedule (step, cosine, onecycle) and no --early-stop")


@dataclass
class Epoch:
    """Metrics of one epoch."""

    number: int
    loss: float
    score: float
    learning_rate: float
    seconds: float


def fit(
    model: SupervisedModel, splits: Splits, config: FitConfig, score: Callable[[SupervisedModel, Data], float],
    augment: Augment | None = None, on_epoch: Callable[[Epoch], None] | None = None, loss: Loss | None = None,
    on_cycle_end: Callable[[], None] | None = None,
) -> list[Epoch]:  # fmt: skip
    """Train a model and leave it with the weights of the epoch with the highest validation score.

    `score(model, data)` is a metric where higher is better; `loss` replaces the model's own loss; `on_cycle_end` is
    called at the end of each cycle of the schedule. Returns the metrics of all epochs.
    """
    config.validate()
    if not len(splits.train) or not len(splits.valid):
        raise DataError("the training or validation split is empty; give more --examples")
    trainer = _Trainer(model, splits.train, config, augment, loss or model.loss)
    averaged = AveragedModel(model) if config.average == "swa" else None
    best_score, best_state = -math.inf, copy.deepcopy(model.state_dict())
    stale, start = 0, time.monotonic()
    epochs: list[Epoch] = []
    for number in range(1, config.epochs + 1):
        mean_loss, learning_rate = trainer.epoch(number)
        if averaged is not None and number >= 0.75 * config.epochs:
            averaged.update_parameters(model)
        valid_score, seconds = score(model, splits.valid), time.monotonic() - start
        epochs.append(Epoch(number, mean_loss, valid_score, learning_rate, seconds))
        if on_epoch is not None:
            on_epoch(epochs[-1])
        stale = 0 if valid_score > best_score else stale + 1
        if valid_score > best_score:
            best_score, best_state = valid_score, copy.deepcopy(model.state_dict())
        if on_cycle_end is not None and number * config.cycles % config.epochs < config.cycles:
            on_cycle_end()
        if trainer.plateau is not None:
            trainer.plateau.step(valid_score)
        if (config.early_stop and stale >= config.early_stop) or 0 < config.seconds < seconds:
            break
    if averaged is not None and averaged.n_averaged > 0:
        model.load_state_dict(averaged.module.state_dict())
        if score(model, splits.valid) >= best_score:
            return epochs
    model.load_state_dict(best_state)
    return epochs


class _Trainer:
    """Optimizer, schedules and random state of one training."""

    def __init__(self, model: SupervisedModel, data: Data, config: FitConfig, augment: Augment | None, loss: Loss):
        self.model, self.data, self.config, self.augment, self.loss = model, data, config, augment, loss
        self.rng, self.generator = np.random.default_rng(config.seed), torch.Generator().manual_seed(config.seed)
        trainable = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = torch.optim.AdamW(trainable, config.learning_rate, weight_decay=config.weight_decay)
        updates = config.epochs * math.ceil(len(data) / config.batch_size)
        self.schedule, self.plateau = schedulers(self.optimizer, config, updates)

    def epoch(self, number: int) -> tuple[float, float]:
        """Train on all examples once; return the mean loss and the last learning rate."""
        self.model.train()
        losses, learning_rate = [], 0.0
        for index in batches(self.data, self.config, self.rng):
            x, y = batch_tensors(self.data, index, self.model, self._augmented)
            loss = self.loss(x, y)
            self.optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), self.config.max_grad_norm)
            learning_rate = self.optimizer.param_groups[0]["lr"]
            self.optimizer.step()
            self.schedule.step()
            losses.append(loss.detach())
            if not bool(torch.isfinite(losses[-1])):
                raise DataError(f"the loss is {float(losses[-1])} in epoch {number}; lower --learning-rate")
        return float(torch.stack(losses).mean()), learning_rate

    def _augmented(self, x: Tensor) -> Tensor:
        return x if self.augment is None else self.augment(x, self.generator)


def schedulers(
    optimizer: torch.optim.Optimizer, config: FitConfig, updates: int
) -> tuple[LRScheduler, ReduceLROnPlateau | None]:
    """Return the scheduler of updates and, for `plateau`, the scheduler of validation scores."""
    if config.schedule != "plateau":
        return LambdaLR(optimizer, lambda update: learning_rate_factor(update / updates, config)), None
    warmup = round(config.warmup * updates)
    linear = LinearLR(optimizer, 1e-3 if warmup else 1.0, total_iters=max(warmup, 1))
    return linear, ReduceLROnPlateau(optimizer, "max", factor=0.5, patience=1, threshold=0.0, eps=0.0)


def learning_rate_factor(progress: float, config: FitConfig) -> float:
    """Return the factor of the learning rate at a share of the updates, in any schedule but `plateau`."""
    progress *= config.cycles
    progress -= min(int(progress), config.cycles - 1)
    warmup = min(1.0, progress / config.warmup) if config.warmup else 1.0
    if config.schedule == "step":
        return warmup * (1.0 if progress < 0.6 else 0.1 if progress < 0.85 else 0.01)
    if config.schedule == "cosine":
        return warmup * 0.5 * (1.0 + math.cos(math.pi * progress))
    if config.schedule == "onecycle":  # from 1/25 up to 1 at 30 %, then down to 0; it is its own warm-up
        if progress < 0.3:
            return 0.04 + 0.96 * 0.5 * (1.0 - math.cos(math.pi * progress / 0.3))
        return 0.5 * (1.0 + math.cos(math.pi * (progress - 0.3) / 0.7))
    return warmup


def batches(data: Data, config: FitConfig, rng: np.random.Generator) -> Iterator[np.ndarray]:
    """Yield the example indices of each batch of an epoch."""
    order = _balanced_order(data, rng) if config.sampler == "balanced" else rng.permutation(len(data))
    for start in range(0, len(order), config.batch_size):
        yield order[start : start + config.batch_size]


def _balanced_order(data: Data, rng: np.random.Generator) -> np.ndarray:
    """Sample N examples with replacement, each known class of the first head equally likely."""
    target = next(iter(data.y.values()))
    if target.ndim != 1:
        raise DataError("--sampler balanced is for classes, not for sequences")
    _, classes, counts = np.unique(target, return_inverse=True, return_counts=True)
    weights = np.where(target == IGNORE, 0.0, 1.0 / counts[classes])
    generator = torch.Generator().manual_seed(int(rng.integers(2**63)))
    return np.array(list(WeightedRandomSampler(weights.tolist(), len(data), generator=generator)))


def batch_tensors(
    data: Data, index: np.ndarray, model: nn.Module, transform: Callable[[Tensor], Tensor] = lambda x: x
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return inputs and targets of a batch on the model's device; inputs are transformed before the transfer."""
    device = next(model.parameters()).device
    x = transform(torch.from_numpy(np.ascontiguousarray(data.x[index]))).to(device)
    return x, {name: torch.from_numpy(part[index].astype(np.int64)).to(device) for name, part in data.y.items()}


def balanced_weights(data: Data, classes: dict[str, int]) -> dict[str, np.ndarray]:
    """Return each head's class weights [classes]: total / (present classes x count), 0 for absent classes."""
    weights = {}
    for name, count in classes.items():
        counts = np.bincount(data.y[name][data.y[name] != IGNORE], minlength=count).astype(float)
        present = max(int((counts > 0).sum()), 1)
        weights[name] = np.where(counts > 0, counts.sum() / np.maximum(counts, 1.0) / present, 0.0)
    return weights


def find_learning_rate(
    model: SupervisedModel, data: Data, config: FitConfig, low: float = 1e-5, high: float = 0.3
) -> float:
    """Learning rate range test (Smith 2017) on a copy of the model: a tenth of the rate with the lowest loss."""
    trial, rng = copy.deepcopy(model).train(), np.random.default_rng(config.seed)
    optimizer = torch.optim.AdamW(trial.parameters(), low)
    order = np.concatenate(
        [rng.permutation(len(data)) for _ in range(max(1, 100 * config.batch_size // len(data) + 1))]
    )
    rates, losses = np.geomspace(low, high, 100), []
    smoothed = None
    for step, rate in enumerate(rates):
        for group in optimizer.param_groups:
            group["lr"] = rate
        x, y = batch_tensors(data, order[step * config.batch_size : (step + 1) * config.batch_size], trial)
        loss = trial.loss(x, y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        smoothed = loss.item() if smoothed is None else 0.9 * smoothed + 0.1 * loss.item()
        losses.append(smoothed)
        if not math.isfinite(smoothed) or smoothed > 4 * min(losses):
            break
    return float(rates[int(np.argmin(losses))]) / 10

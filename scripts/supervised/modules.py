"""Build, restore and probe the models of supervised tasks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from agents.errors import ConfigError
from agents.run import machine
from networks.encoders import store
from networks.encoders.base import Encoder, build
from networks.supervised.data import Data, DataError, Splits
from networks.supervised.fit import FitConfig, fit
from networks.supervised.models import Classifier, SupervisedModel, load_heads
from networks.torsos.normalize import Normalize
from scripts.supervised.facts import PretrainingFacts
from scripts.supervised.tasks.base import Collected, DataOptions, Report, SupervisedTask


def new_model(task: SupervisedTask, arch: str, collected: Collected, config: FitConfig) -> SupervisedModel:
    """Build a task's model on a new encoder, whose input is normalised by the training examples."""
    torch.manual_seed(config.seed)
    encoder = build(arch, task.space(), task.input_meaning(), **task.arch_kwargs())
    fit_normalization(encoder, task.observations(collected.splits.train), config)
    return model_on_device(task, encoder, collected, config)


def model_from(task: SupervisedTask, start: store.Stored, collected: Collected, config: FitConfig) -> SupervisedModel:
    """Build a task's model on a trained encoder, with its input normalisation."""
    store.check_fits(start, "input", task.space())
    torch.manual_seed(config.seed)
    return model_on_device(task, start.encoder, collected, config)


def restore(task: SupervisedTask, stored: store.Stored, collected: Collected) -> SupervisedModel:
    """Return the model of a saved run, in eval mode; raise ConfigError if it is of another task."""
    facts = PretrainingFacts.of(stored)
    if facts.task != task.name:
        raise ConfigError(f"{stored.folder} was trained on {facts.task}, not on {task.name}")
    config = replace(facts.config, device="auto")
    return load_heads(model_on_device(task, stored.encoder, collected, config), stored.heads)


def model_on_device(task: SupervisedTask, encoder: Encoder, collected: Collected, config: FitConfig) -> SupervisedModel:
    """Return a task's model with new heads on an encoder, on the device in the settings."""
    return task.model(encoder, collected.splits.train, config).to(machine.which_device(config.device))


def fit_normalization(encoder: Encoder, x: np.ndarray, config: FitConfig) -> None:
    """Fit the encoder's input normalisation, if it has one, to up to 4,000 observations [N, ...]."""
    if config.normalize == "per-channel" and x.ndim != 4:
        raise ConfigError(f"--normalize per-channel is for images, not for {'x'.join(map(str, x.shape[1:]))}")
    normalize = getattr(encoder, "normalize", None)
    if config.normalize != "range" and isinstance(normalize, Normalize):
        sample = np.sort(np.random.default_rng(0).permutation(len(x))[:4_000])
        normalize.fit(torch.from_numpy(np.ascontiguousarray(x[sample])), config.normalize == "per-channel")


def collect(task: SupervisedTask, options: DataOptions, repairer: str | None) -> Collected:
    """Collect a task's examples, repaired by a repairer that is fitted on the training examples.

    Raises DataError for an option that does not apply to the task, ConfigError for a repairer that does not fit.
    """
    task.check_sources(options)
    collected = task.collect(options)
    if repairer is None:
        return collected
    from networks.supervised.repair import make_repairer

    try:
        repair = make_repairer(repairer, task.space().shape or ()).fit(collected.splits.train.x)
    except (DataError, IndexError) as error:
        raise ConfigError(f"--repair {repairer}: {error}") from error
    parts = [Data(repair(part.x), part.y, part.group) for part in (*collected.splits, *collected.extra.values())]
    return Collected(Splits(*parts[:3]), collected.facts, dict(zip(collected.extra, parts[3:], strict=True)))


def fit_heads(task: SupervisedTask, model: SupervisedModel, splits: Splits, config: FitConfig) -> Report:
    """Train the heads on frozen features (computed once for a Classifier) and return the report on the test split."""
    model.encoder.requires_grad_(False)
    if isinstance(model, Classifier):
        splits = Splits(*(Data(compute_features(model.encoder, part.x), part.y, part.group) for part in splits))
        model.encoder = PrecomputedFeatures(model.encoder)
    fit(model, splits, config, task.score)
    return task.report(model, splits.test)


class PrecomputedFeatures(Encoder):
    """Stands in for a frozen encoder whose features were computed in advance."""

    def __init__(self, encoder: Encoder):
        super().__init__()
        self.out_dim, self.spec = encoder.out_dim, encoder.spec

    def forward(self, x: Tensor) -> Tensor:
        """Return the features [B, out_dim] unchanged."""
        return x


def compute_features(encoder: Encoder, x: np.ndarray) -> np.ndarray:
    """Return the features [N, out_dim] of observations [N, ...], computed in eval mode."""
    encoder.eval()
    device = next(encoder.parameters()).device
    with torch.inference_mode():
        batches = (torch.from_numpy(np.ascontiguousarray(x[s : s + 256])).to(device) for s in range(0, len(x), 256))
        return torch.cat([encoder(batch) for batch in batches]).float().cpu().numpy()


def feature_statistics(encoder: Encoder, x: np.ndarray) -> dict[str, float]:
    """Return the share of features that are constant over examples, and the mean deviation of the others."""
    deviation = compute_features(encoder, x[:512]).std(axis=0)
    dead = deviation < 1e-6
    return {"dead": float(dead.mean()), "std": float(deviation[~dead].mean()) if not dead.all() else 0.0}

"""What agents that learn from rollouts share: schedules, and epochs of minibatches of whole sequences.

A subclass says what of a rollout it needs (`prepare`) and what the loss of a minibatch is (`loss`).
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, Literal

import gymnasium as gym
import torch
from torch import Tensor

from agents.config import TrainConfig
from agents.interface import Rollout
from agents.learner import Learner, OptimizerName
from agents.loops import train_on_policy
from agents.replay.buffer import Replay
from agents.returns import gae
from agents.run.run import Run
from networks.model import Model, map_tree
from networks.tensors import take_columns
from networks.torsos.composite import normalized_parts

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class RolloutConfig(TrainConfig):
    """Settings of agents that learn from rollouts."""

    learning_rate: float = 2.5e-4
    """The optimizer's step size at the start."""
    schedule: Literal["linear", "constant"] = "linear"
    """linear lets the step size fall to 0 at total_steps."""
    optimizer: OptimizerName = "adam"
    """adam, radam (rectified) or rmsprop."""
    adam_epsilon: float = 1e-5
    """The optimizer's epsilon."""
    rollout_length: int = 128
    """Rows collected from each environment between updates."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Minibatches in a pass."""
    sequence_length: int = 1
    """Rows unrolled together; a recurrent core wants more. Must divide rollout_length; 0 stands for all of it."""
    max_grad_norm: float = 0.5
    """Gradients are scaled down to this norm."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("learning_rate", "adam_epsilon", "rollout_length", "epochs", "minibatches", "max_grad_norm"):
            self.require(getattr(self, name) > 0, name, "must be above 0")
        self.require(self.sequence_length >= 0, "sequence_length", "must not be negative")
        divides = self.rollout_length % self.unroll == 0
        self.require(divides, "sequence_length", f"must divide the rollout length {self.rollout_length}")
        columns = self.rollout_length * self.num_envs // self.unroll
        self.require(
            self.minibatches <= columns, "minibatches", f"must be at most the {columns} sequences of a rollout"
        )
        self.require(self.core == "none" or self.unroll > 1, "sequence_length", "must be above 1 with a memory")

    @property
    def unroll(self) -> int:
        """Rows of a sequence."""
        return self.sequence_length or self.rollout_length

    @property
    def rows_in_memory(self) -> int:
        """Rows of a rollout."""
        return self.rollout_length

    def tiny(self) -> dict[str, Any]:
        """Return what makes it small."""
        small = {"rollout_length": 32, "epochs": min(self.epochs, 2), "minibatches": min(self.minibatches, 2)}
        return {**super().tiny(), **small}

    def updates_line(self) -> str:
        """Say how many rollouts of what size will be learned from."""
        rollout = self.rollout_length * self.num_envs
        updates = max(self.total_steps // rollout, 1)
        return f"{updates:,} rollouts of {rollout:,} steps, {self.epochs} x {self.minibatches} updates each"

    def schedule_line(self) -> str:
        """Say what becomes of the learning rate."""
        end = "0" if self.schedule == "linear" else f"{self.learning_rate:g}"
        return f"learning rate {self.learning_rate:g} to {end}"

    def warnings(self) -> list[str]:
        """Return one line for each of these settings that would waste the run."""
        if self.rollout_length * self.num_envs > self.total_steps:
            return ["the first rollout is longer than the whole training; lower --rollout-length or --num-envs"]
        return []


class RolloutLearner(Learner):
    """Learns in `epochs` passes over a rollout's shuffled columns: `sequence_length` rows of one environment each."""

    config: RolloutConfig
    model: Model

    def train(self, envs: gym.vector.VectorEnv, run: Run, replay: Replay | None) -> None:
        """Collect rollouts and learn from them until the run is over."""
        train_on_policy(self, envs, run)

    @abstractmethod
    def prepare(self, rollout: Rollout) -> dict[str, Any]:
        """Return what the loss needs beside obs, first, action and mask: tensors [T, N, ...] by name."""

    @abstractmethod
    def loss(self, part: dict[str, Any], carry: Tensor, progress: float) -> tuple[Tensor, Metrics]:
        """Return loss and metrics of a minibatch of columns [L, M, ...]; `carry` [M, C] precedes their first rows.

        `progress` is the part of the training that is over, 0 to 1.
        """

    def summary(self, rows: dict[str, Any]) -> Metrics:
        """Return metrics over the whole rollout, from the rows [T, N, ...] that `prepare` and the rollout gave.

        Called before anything is learned from it.
        """
        return {}

    def after_epoch(self, metrics: Metrics) -> None:
        """Adapt to the means of an epoch's metrics, where an agent does so."""

    def update(self, rollout: Rollout, rng: torch.Generator) -> tuple[Metrics, None]:
        """Make `epochs` passes over the rollout; return metrics averaged over the last pass."""
        config = self.config
        rows = {
            "obs": rollout.obs, "first": rollout.first, "action": rollout.action,
            "mask": (~rollout.dead).float(), **self.prepare(rollout),
        }  # fmt: skip
        whole = self.summary(rows)
        columns = {name: map_tree(self._columns, x) for name, x in rows.items()}
        carry = self._columns(rollout.carry)[0]
        progress = min(max(rollout.env_steps - rollout.dead.numel(), 0) / config.total_steps, 1.0)
        if config.schedule == "linear":
            self.learning_rate.fill_(config.learning_rate * (1.0 - progress))
        self.model.train()
        means: Metrics = {}
        for _ in range(config.epochs):
            order = torch.randperm(len(carry), generator=rng, device=self.device)
            found = [self._minibatch(columns, carry, index, progress) for index in order.chunk(config.minibatches)]
            means = {name: torch.stack([values[name] for values in found]).mean() for name in found[0]}
            self.after_epoch(means)
        self.model.eval()
        if config.input_norm == "running":  # not before the last epoch: the policy that acted is the one that learns
            self.update_normalization(rollout.obs, ~rollout.dead)
        self.updates += 1
        return {**means, **whole, "train/learning_rate": self.learning_rate.clone()}, None

    @torch.no_grad()
    def advantage(self, rollout: Rollout, trace: float) -> Tensor:
        """Return lambda-returns of the noted values less these values, [T, N]; `trace` is the lambda."""
        next_value = self.value(self.model(rollout.next_obs, rollout.next_carry, rollout.next_first)[0])
        return gae(
            rollout.reward, rollout.extras["value"], next_value, rollout.terminated, rollout.truncated,
            self.config.gamma, trace,
        )  # fmt: skip

    @abstractmethod
    def value(self, output: Any) -> Tensor:
        """Return the value of the state, [...], from the head's output."""

    def update_normalization(self, obs: Any, mask: Tensor) -> None:
        """Merge observations [T, N, ...], where `mask` [T, N] is true, into the statistics that normalise inputs.

        Each normalisation is of its own part of a Dict observation.
        """
        live = mask.flatten()
        for normalize, part in normalized_parts(self.model.torso, obs):
            normalize.update(part.flatten(0, 1)[live])

    def _columns(self, x: Tensor) -> Tensor:
        """[T, N, ...] -> [L, T/L * N, ...]: every column is L consecutive rows of one environment."""
        length = self.config.unroll
        steps, envs = x.shape[:2]
        cut = x.view(steps // length, length, envs, *x.shape[2:]).transpose(0, 1)
        return cut.reshape(length, steps // length * envs, *x.shape[2:])

    def _minibatch(self, columns: dict[str, Any], carry: Tensor, index: Tensor, progress: float) -> Metrics:
        """Take one gradient step on the columns `index` [M]."""
        part = {name: map_tree(lambda x: take_columns(x, index), x) for name, x in columns.items()}
        loss, metrics = self.loss(part, carry[index], progress)
        grad_norm = self.gradient_step(loss, self.config.max_grad_norm)
        return {"train/loss": loss.detach(), **metrics, "train/grad_norm": grad_norm}

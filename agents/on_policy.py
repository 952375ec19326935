"""Base of the agents with rollouts: an update is several epochs of minibatches of whole sequences.

A subclass computes advantages and targets of a rollout, and the loss of a minibatch.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import gymnasium as gym
import torch
from torch import Tensor

from agents.config import RolloutConfig
from agents.interface import Metrics, Rollout
from agents.learner import Learner
from agents.loops import train_on_policy
from agents.replay.buffer import Replay
from agents.returns import gae
from agents.run.run import Run
from networks.model import Model, map_tree
from networks.tensors import take_columns
from networks.torsos.composite import normalized_parts


class RolloutLearner(Learner):
    """Learns from a rollout cut into columns: `sequence_length` consecutive rows of one environment each."""

    config: RolloutConfig
    model: Model

    def train(self, envs: gym.vector.VectorEnv, run: Run, replay: Replay | None) -> None:
        """Collect rollouts and learn from them until the run is over."""
        train_on_policy(self, envs, run, self.config)

    def update(self, rollout: Rollout, rng: torch.Generator) -> tuple[Metrics, None]:
        """Make `epochs` passes over the rollout in shuffled minibatches; return metrics averaged over the last pass."""
        config = self.config
        rows = {
            "obs": rollout.obs, "first": rollout.first, "action": rollout.action,
            "mask": (~rollout.dead).float(), **self.prepare(rollout),
        }  # fmt: skip
        self.update_value_scale(rows)
        # schedules take their value at the start of the rollout
        progress = min(max(rollout.env_steps - rollout.dead.numel(), 0) / config.total_steps, 1.0)
        if config.schedule == "linear":
            self.learning_rate.fill_(config.learning_rate * (1.0 - progress))

        # [T, N, ...] -> [L, S * N, ...]; each column starts from the carry that was stored when acting
        columns = {name: map_tree(self._columns, x) for name, x in rows.items()}
        columns["mask"] = self._without_repeats(columns["mask"], *rollout.dead.shape)
        carry = self._columns(rollout.carry)[0]
        count = config.minibatches_of(len(rollout.dead))
        self.model.train()
        means: Metrics = {}
        for _ in range(config.epochs):
            order = torch.randperm(len(carry), generator=rng, device=self.device)
            minibatches = []
            for index in order.chunk(count):
                batch = take(columns, index)  # [L, M, ...]
                output, _ = self.model(batch["obs"], carry[index], batch["first"])
                loss, metrics = self.loss(output, batch, progress)
                grad_norm = self.gradient_step(loss, config.max_grad_norm)
                minibatches.append({"train/loss": loss.detach(), **metrics, "train/grad_norm": grad_norm})
            means = {name: torch.stack([each[name] for each in minibatches]).mean() for name in minibatches[0]}
            self.after_epoch(means)
        self.model.eval()

        if config.input_norm == "running":  # after the last epoch, so that learning sees the inputs that acting saw
            self.update_normalization(rollout.obs, ~rollout.dead)
        self.updates += 1
        return {**means, **self.summary(rows), "train/learning_rate": self.learning_rate.clone()}, None

    @abstractmethod
    def prepare(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return the tensors [T, N, ...] by name that the loss needs beside obs, first, action and mask."""

    def update_value_scale(self, rows: dict[str, Any]) -> None:
        """Update the scale of the critic's targets from the prepared rows, where an agent has one."""

    @abstractmethod
    def loss(self, output: Any, batch: dict[str, Any], progress: float) -> tuple[Tensor, Metrics]:
        """Return the loss (a scalar) and metrics of a minibatch, from the head's output and the rows, both [L, M, ...].

        `progress` is the fraction of the training that is over, 0 to 1.
        """

    def after_epoch(self, metrics: Metrics) -> None:
        """Adapt the learning rate to the epoch's mean metrics, where an agent does so."""

    def summary(self, rows: dict[str, Any]) -> Metrics:
        """Return metrics of the whole rollout, from its prepared rows [T, N, ...]."""
        return {}

    @torch.no_grad()
    def advantage(self, rollout: Rollout, trace: float) -> Tensor:
        """Return generalized advantages [T, N] in units of the reward; `trace` is the lambda."""
        return gae(
            rollout.reward, rollout.extras["value"], self.next_value(rollout), rollout.terminated, rollout.truncated,
            self.config.gamma, trace,
        )  # fmt: skip

    @torch.no_grad()
    def next_value(self, rollout: Rollout) -> Tensor:
        """Return the value [N] of the observation after the last row, in units of the reward."""
        return self.value(self.model(rollout.next_obs, rollout.next_carry, rollout.next_first)[0])

    @abstractmethod
    def value(self, output: Any) -> Tensor:
        """Return the value of the state [...] in units of the reward, from the head's output."""

    def update_normalization(self, obs: Any, mask: Tensor) -> None:
        """Update the input normalisations with the observations [T, N, ...] whose `mask` [T, N] is true.

        Each part of a Dict observation has its own normalisation.
        """
        live = mask.flatten()
        for normalize, part in normalized_parts(self.model.torso, obs):
            normalize.update(part.flatten(0, 1)[live])

    def _columns(self, x: Tensor) -> Tensor:
        """[T, N, ...] -> [L, S * N, ...]: each column is L consecutive rows of one environment.

        Where L does not divide the T rows of a shorter rollout, the last sequence begins within the one before it.
        """
        steps, envs = x.shape[:2]
        length = min(self.config.unroll, steps)
        if steps % length:
            x = torch.cat([x[: steps - steps % length], x[-length:]])
        count = len(x) // length
        sequences = x.view(count, length, envs, *x.shape[2:]).transpose(0, 1)
        return sequences.reshape(length, count * envs, *x.shape[2:])

    def _without_repeats(self, mask: Tensor, steps: int, envs: int) -> Tensor:
        """Return the mask [L, S * N] with 0 where a row of the T `steps` is in a second sequence too."""
        if steps % len(mask):
            mask[: len(mask) - steps % len(mask), -envs:] = 0.0
        return mask


def take(columns: dict[str, Any], index: Tensor) -> dict[str, Any]:
    """Return the columns `index` [M] of each array."""
    return {name: map_tree(lambda x: take_columns(x, index), x) for name, x in columns.items()}

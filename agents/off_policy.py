"""What agents that learn from replay share: its settings, a target network, and both networks' outputs for a batch.

A subclass says what its networks are (`build`) and what the loss of each row is (`td_loss`).
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import gymnasium as gym
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.augment import augment, is_picture
from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.exploration import linear_schedule
from agents.interface import Sequences, Transitions
from agents.learner import Learner
from agents.loops import train_off_policy
from agents.replay.buffer import Replay, ReplayLayout
from agents.run.machine import MachineFacts
from agents.run.run import Run
from networks.model import Network, map_tree
from networks.observation_spaces import parts_of

Metrics = dict[str, Tensor]


@dataclass(frozen=True)
class ReplayConfig(TrainConfig):
    """Settings of agents that learn from replay."""

    learning_rate: float = 1e-4
    """Adam's step size."""
    adam_epsilon: float = 1e-8
    """Adam's epsilon."""
    batch_size: int = 32
    """Transitions, or sequences, in a minibatch."""
    replay_capacity: int = 1_000_000
    """Env steps that the replay holds."""
    replay_storage: Literal["auto", "memory", "disk"] = "auto"
    """Where the replay's observations lie: auto takes files in the run folder when memory does not suffice."""
    learning_starts: int = 20_000
    """Env steps before the first update."""
    replay_ratio: float = 0.25
    """Gradient updates per env step."""
    target_period: int = 1000
    """Updates between copies of the online network to the target network."""
    target_tau: float = 1.0
    """Share of the online network in such a copy: below 1 the target moves towards it (with a period of 1, softly)."""
    n_step: int = 1
    """Rewards summed before bootstrapping."""
    prioritized: bool = False
    """Sample in proportion to the last error instead of uniformly."""
    priority_exponent: float = 0.5
    """How much errors matter for sampling (alpha)."""
    importance_exponent: float = 0.4
    """How much of the bias of sampling is corrected at the start (beta)."""
    importance_exponent_end: float = 1.0
    """How much at the end of training."""
    augment: bool = False
    """Shift and brighten images at random before learning from them."""
    sequence_length: int = 1
    """Rows learned from in a sample; a recurrent core wants 8 or more."""
    burn_in: int = 0
    """Rows before those, that only bring the memory up to date."""
    priority_eta: float = 0.9
    """Share of the largest error in a sequence's priority, the rest is the mean (eta)."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this norm."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("learning_rate", "adam_epsilon", "batch_size", "replay_ratio", "target_period", "target_tau",
                     "n_step", "sequence_length", "max_grad_norm", "replay_capacity"):  # fmt: skip
            self.require(getattr(self, name) > 0, name, "must be above 0")
        for name in ("target_tau", "priority_exponent", "importance_exponent", "importance_exponent_end",
                     "priority_eta"):  # fmt: skip
            self.require(0.0 <= getattr(self, name) <= 1.0, name, "must lie in 0 to 1")
        running = self.input_norm == "running"
        self.require(
            not running,
            "input_norm",
            "must be scale or center: agents that learn from rollouts can follow a running one",
        )
        self.require(self.burn_in >= 0, "burn_in", "must not be negative")
        recurrent = self.core != "none"
        self.require(not recurrent or self.sequence_length > 1, "sequence_length", "must be above 1 with a memory")
        self.require(recurrent or self.sequence_length == 1, "sequence_length", "must be 1 without a memory (--core)")
        self.require(recurrent or self.burn_in == 0, "burn_in", "must be 0 without a memory (--core)")
        least = self.num_envs * (self.n_step + self.sequence_length + self.burn_in)
        self.require(self.learning_starts >= least, "learning_starts", f"must be at least {least}, for one sample")

    def layout(self, observation_space: spaces.Space, frame_stack: int, carry_dim: int) -> ReplayLayout:
        """Return the replay that these settings need."""
        return ReplayLayout(
            observation_space, self.num_envs, self.replay_capacity, self.n_step, self.gamma, frame_stack,
            self.sequence_length, carry_dim, self.burn_in, self.prioritized, self.priority_exponent,
        )  # fmt: skip

    def beta(self, env_steps: int) -> float:
        """Return the exponent of the importance-sampling weights."""
        start, end = self.importance_exponent, self.importance_exponent_end
        return linear_schedule(start, end, self.total_steps, env_steps)

    def tiny(self) -> dict[str, Any]:
        """Return what makes it small."""
        small: dict[str, Any] = {"replay_capacity": 400, "learning_starts": 50, "batch_size": 8, "target_period": 10}
        small |= {"replay_ratio": 0.25, "n_step": min(self.n_step, 3)}
        if self.core != "none":
            small |= {"sequence_length": 8, "burn_in": min(self.burn_in, 2)}
        return {**super().tiny(), **small}

    def updates_line(self) -> str:
        """Say how many updates of what size will be made."""
        updates = int(self.replay_ratio * max(self.total_steps - self.learning_starts, 0))
        return f"{updates:,} updates of {self.batch_size} samples after {self.learning_starts:,} steps"

    def schedule_line(self) -> str:
        """Say what becomes of the learning rate."""
        return f"learning rate {self.learning_rate:g}"

    def warnings(self) -> list[str]:
        """Return one line for each of these settings that would waste the run."""
        updates = self.replay_ratio * max(self.total_steps - self.learning_starts, 0)
        rows = self.batch_size * self.sequence_length
        known = (
            (self.learning_starts >= self.total_steps,
             "learning starts after the training has ended; lower --learning-starts"),
            (self.learning_starts > self.replay_capacity,
             "the replay forgets before learning starts; raise --replay-capacity"),
            (self.replay_capacity < rows * 10, "the replay holds fewer than ten minibatches; raise --replay-capacity"),
            (0 < updates < self.target_period, "the target network is never updated; lower --target-period"),
            (self.replay_ratio * rows > 64 and not self.augment,
             f"each step is learned from {self.replay_ratio * rows:.0f} times; mind overfitting"),
        )  # fmt: skip
        return [line for holds, line in known if holds]


class Outputs(NamedTuple):
    """What the networks say of a batch, each as the networks return it; [B, ...] or [L, B, ...]."""

    here: Any
    """Online network at the rows that are learned from, with gradient."""
    there: Any
    """Target network at the rows that are bootstrapped from."""
    ahead: Any
    """Online network at those rows; None for an agent without an `action_selector`."""
    back: Any
    """Target network at the rows learned from; None unless the agent `needs_target_at_obs`."""


class ReplayLearner(Learner):
    """Learns from minibatches of transitions or sequences, beside a target network that follows slowly."""

    config: ReplayConfig

    def __init__(
        self, config: ReplayConfig, observation_space: spaces.Space, action_space: spaces.Space, machine: MachineFacts
    ):
        super().__init__(config, observation_space, action_space, machine)
        if config.augment:
            self.require_pictures()
        self.model = self.place(self.build())
        # placed again: the recurrent weights of a copy are no longer one block, as cuDNN wants them
        self.target = self.place(copy.deepcopy(self.target_source)).requires_grad_(False)
        self.optimizer = self.make_optimizer(config.learning_rate, config.adam_epsilon)

    def require_pictures(self) -> None:
        """Raise ConfigError unless there are images large enough that a shift by 4 pixels leaves their meaning."""
        if not any(is_picture(part.shape or ()) for part in parts_of(self.observation_space)):
            raise ConfigError("--augment shifts images by up to 4 pixels; these observations have none that bears it")

    @abstractmethod
    def build(self) -> Network:
        """Return the online network."""

    @property
    def target_source(self) -> Network:
        """The network that the target network is a copy of; where it is part of the model, the first in its carry."""
        return self.model

    @property
    def action_selector(self) -> Network | None:
        """The online network that has a say in what is bootstrapped from; None leaves that to the target network."""
        return None

    @property
    def needs_target_at_obs(self) -> bool:
        """Whether the target network is asked about the very rows that are learned from."""
        return False

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the online and the target network."""
        return {"model": self.model, "target": self.target}

    def train(self, envs: gym.vector.VectorEnv, run: Run, replay: Replay | None) -> None:
        """Play and learn from `replay` until the run is over."""
        assert replay is not None
        train_off_policy(self, envs, replay, run)

    def update(self, batch: Transitions | Sequences, rng: torch.Generator) -> tuple[Metrics, Tensor]:
        """Take one gradient step; return metrics and the priority of each sample [B]."""
        self.model.train()
        out = self.outputs(batch, rng)
        loss, error, q = self.td_loss(batch, out)
        if isinstance(batch, Sequences):
            loss, error, q = self.per_sequence(batch.mask, loss, error, q)
        total = (loss * batch.weight).mean()
        grad_norm = self.gradient_step(total, self.config.max_grad_norm)
        self.model.eval()
        self.updates += 1
        if self.updates % self.config.target_period == 0:
            self.copy_to_target()
        q_mean = self.in_rewards(q).mean()
        metrics = {"train/loss": total.detach(), "train/q_mean": q_mean, "train/grad_norm": grad_norm}
        return metrics | self.summary(batch, out), error

    @abstractmethod
    def td_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss with gradient, and without it |TD error| and the values of the actions taken: [B] or [L, B]."""

    def in_rewards(self, q: Tensor) -> Tensor:
        """Return values in the rewards that are learned from, where the network's are on another scale."""
        return q

    def summary(self, batch: Transitions | Sequences, out: Outputs) -> Metrics:
        """Return more metrics of an update."""
        return {}

    @torch.no_grad()
    def copy_to_target(self) -> None:
        """Make the target network the followed one, or more like it; `load_state_dict` would look at every value."""
        tau = self.config.target_tau
        for weight, online in zip(self.target.parameters(), self.target_source.parameters(), strict=True):
            weight.copy_(online) if tau == 1.0 else weight.lerp_(online, tau)
        for buffer, current in zip(self.target.buffers(), self.target_source.buffers(), strict=True):
            buffer.copy_(current)

    def per_sequence(self, mask: Tensor, loss: Tensor, error: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reduce [L, B] to [B]: means over the live rows, and for the error the mix of its largest and its mean."""
        rows, mix = mask.sum(dim=0).clamp(min=1.0), self.config.priority_eta
        error = error * mask
        error = mix * error.amax(dim=0) + (1.0 - mix) * error.sum(dim=0) / rows
        return (loss * mask).sum(dim=0) / rows, error, (q * mask).sum(dim=0) / rows

    def outputs(self, batch: Transitions | Sequences, rng: torch.Generator) -> Outputs:
        """Run both networks over the batch: noise and augmentation are drawn from `rng`."""
        if isinstance(batch, Sequences):
            return self._unrolled(batch, rng)
        carry, first = self.model.initial_carry(len(batch.action)), torch.zeros_like(batch.action, dtype=torch.bool)
        obs, next_obs = batch.obs, batch.next_obs
        if self.config.augment:
            obs, next_obs = augment(obs, 1, rng), augment(next_obs, 1, rng)
        here = self.model(obs, carry, first, rng)[0]
        with torch.no_grad():
            there = self.target(next_obs, carry, first, rng)[0]
            ahead = self.action_selector(next_obs, carry, first, rng)[0] if self.action_selector is not None else None
            back = self.target(obs, carry, first, rng)[0] if self.needs_target_at_obs else None
        return Outputs(here, there, ahead, back)

    def _unrolled(self, batch: Sequences, rng: torch.Generator) -> Outputs:
        """Unroll each network once from the stored carry; what is bootstrapped from is picked out of that."""
        length = len(batch.action)
        obs = augment(batch.obs, 2, rng) if self.config.augment else batch.obs
        everywhere = self._unroll(self.model, batch, obs, rng)  # [L + n, B, ...]
        with torch.no_grad():
            target = self._unroll(self.target, batch, obs, rng)

        def learned(output: Any) -> Any:
            return type(output)(*(x[:length] for x in output))

        def bootstrapped(output: Any) -> Any:
            return type(output)(*(_pick(x.detach(), batch.bootstrap) for x in output))

        ahead = bootstrapped(everywhere) if self.action_selector is not None else None
        back = learned(target) if self.needs_target_at_obs else None
        return Outputs(learned(everywhere), bootstrapped(target), ahead, back)

    def _unroll(self, network: Network, batch: Sequences, obs: Any, rng: torch.Generator) -> Any:
        """Bring the carry up to date over the burn-in, without gradient, and return the output of the rows after it."""
        burn_in, carry = self.config.burn_in, batch.carry[:, : network.carry_dim]
        if burn_in:
            with torch.no_grad():
                carry = network(map_tree(lambda x: x[:burn_in], obs), carry, batch.first[:burn_in])[1]
        return network(map_tree(lambda x: x[burn_in:], obs), carry, batch.first[burn_in:], rng)[0]


def _pick(x: Tensor, rows: Tensor) -> Tensor:
    """Return x[rows[t, b], b] of x [T, B, ...] for rows [L, B]: [L, B, ...]."""
    return x[rows, torch.arange(x.shape[1], device=x.device)]

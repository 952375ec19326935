"""Settings of all agents, of agents with a replay, and of agents with rollouts.

Each algorithm's file adds its own; presets are values of these classes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, NamedTuple

from gymnasium import spaces

from agents.errors import ConfigError
from agents.replay.buffer import ReplayLayout, ReplaySampling
from agents.settings import EncoderSettings, EnvironmentSettings, NetworkSettings, OptimizerSettings, RunSettings

RENAMED = {"adam_epsilon": "optimizer_epsilon", "prioritized": "replay_sampling"}
"""Former names of fields, in the config.json of older runs -> their names today."""


class Mistake(NamedTuple):
    """A known mistake in settings, which wastes a run."""

    made: bool
    """Whether these settings make it."""
    line: str
    """The warning: what is wrong, and the option to change."""


@dataclass(frozen=True)
class TrainConfig(RunSettings, EncoderSettings, NetworkSettings, EnvironmentSettings):
    """Settings of every agent: the groups of `agents.settings`, the discount, and the rewards learned from."""

    replay_option: ClassVar[str] = "--replay-capacity"
    """Option that sets the size of the replay, for messages."""

    gamma: float = 0.99
    """Discount per env step."""
    clip_rewards: bool = False
    """Learn from the sign of the reward. Reported returns are the game's own."""
    life_loss_ends: bool = False
    """Learn as if the loss of a life ended the episode, where the protocol allows it. Games are played to their end."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        self.require(0.0 <= self.gamma <= 1.0, "gamma", "must lie in 0 to 1")
        super().validate()

    @property
    def torso_name(self) -> str:
        """Name of the torso; auto where a frozen encoder's features replace the observation that `torso` is for."""
        frozen = self.encoders().get("obs", ("", ""))[1] == "freeze"
        return "auto" if frozen else self.torso

    def layout(self, observation_space: spaces.Space, frame_stack: int, carry_dim: int) -> ReplayLayout | None:
        """Return the layout of the replay; None for an on-policy agent."""
        return None

    def replay_bytes(self, observation_space: spaces.Space, frame_stack: int, carry_dim: int) -> int:
        """Return the size of the replay in bytes; raise ConfigError where it cannot be allocated."""
        layout = self.layout(observation_space, frame_stack, carry_dim)
        return layout.nbytes if layout is not None else 0

    @property
    def bounds_reward_scale(self) -> bool:
        """Whether targets stay in a learnable range for rewards of any size."""
        return self.clip_rewards

    @property
    def rows_in_memory(self) -> int:
        """Rows in memory at once, outside a replay."""
        return 1

    def tiny(self) -> dict[str, Any]:
        """Return overrides that bring these settings to a size that trains, saves and acts within seconds."""
        return {"total_steps": 400, "num_envs": 2, "checkpoint_steps": 200, "log_steps": 100, "threads": 1}

    def updates_line(self) -> str:
        """Return number and size of the updates, for the pre-flight."""
        raise NotImplementedError

    def schedule_line(self) -> str:
        """Return the schedules, for the pre-flight."""
        raise NotImplementedError

    def mistakes(self) -> dict[str, Mistake]:
        """Return the known mistakes in these settings, made or not, for the pre-flight."""
        return {}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainConfig:
        """Rebuild a config from a run's config.json, which may have old names; ConfigError lists unknown fields."""
        values = {RENAMED.get(name, name): value for name, value in values.items()}
        if isinstance(values.get("replay_sampling"), bool):
            values["replay_sampling"] = "prioritized" if values["replay_sampling"] else "uniform"
        unknown = sorted(set(values) - {each.name for each in fields(cls)})
        if unknown:
            raise ConfigError(f"config.json has unknown fields: {', '.join(unknown)}")
        converted: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**converted)


@dataclass(frozen=True)
class ReplayConfig(OptimizerSettings, TrainConfig):
    """Settings of agents that learn from a replay."""

    batch_size: int = 32
    """Transitions, or sequences, in a minibatch."""
    replay_capacity: int = 1_000_000
    """Env steps held in the replay."""
    replay_storage: Literal["auto", "memory", "disk"] = "auto"
    """Where the replay stores observations; auto uses files in the run folder when memory does not suffice."""
    replay_sampling: ReplaySampling = "uniform"
    """uniform, or prioritized: in proportion to each sample's last error."""
    learning_starts: int = 20_000
    """Env steps before the first update."""
    replay_ratio: float = 0.25
    """Gradient updates per env step."""
    target_period: int = 1000
    """Gradient updates between updates of the target network."""
    target_tau: float = 1.0
    """Step of the target network towards the online network at each of these updates; 1 copies it."""
    n_step: int = 1
    """Rewards summed before bootstrapping."""
    priority_exponent: float = 0.5
    """Priorities are raised to this power: 0 is uniform, 1 fully proportional (alpha)."""
    importance_exponent: float = 0.4
    """Correction of the sampling bias at the start: 0 is none, 1 full (beta)."""
    importance_exponent_end: float = 1.0
    """Correction of the sampling bias at total_steps."""
    augment: bool = False
    """Randomly shift and brighten images in each minibatch (DrQ)."""
    sequence_length: int = 1
    """Rows learned from in a sample; a recurrent core needs more than 1, and 8 or more work best."""
    burn_in: int = 0
    """Rows before those, which only refresh the memory."""
    priority_eta: float = 0.9
    """Weight of the largest error in a sequence's priority; the mean has the rest (eta)."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("batch_size", "replay_ratio", "target_period", "target_tau", "n_step", "sequence_length",
                     "replay_capacity"):  # fmt: skip
            self.require(getattr(self, name) > 0, name, "must be above 0")
        for name in ("target_tau", "priority_exponent", "importance_exponent", "importance_exponent_end",
                     "priority_eta"):  # fmt: skip
            self.require(0.0 <= getattr(self, name) <= 1.0, name, "must lie in 0 to 1")
        running = self.input_norm == "running"
        self.require(not running, "input_norm", "must be scale or center: only agents with rollouts update statistics")
        self.require(self.burn_in >= 0, "burn_in", "must not be negative")
        recurrent = self.core != "none"
        self.require(not recurrent or self.sequence_length > 1, "sequence_length", "must be above 1 with a memory")
        self.require(recurrent or self.sequence_length == 1, "sequence_length", "must be 1 without a memory (--core)")
        self.require(recurrent or self.burn_in == 0, "burn_in", "must be 0 without a memory (--core)")
        least = self.num_envs * (self.n_step + self.sequence_length + self.burn_in)
        self.require(self.learning_starts >= least, "learning_starts", f"must be at least {least}, for one sample")

    def layout(self, observation_space: spaces.Space, frame_stack: int, carry_dim: int) -> ReplayLayout:
        """Return the layout of the replay."""
        return ReplayLayout(
            observation_space, self.num_envs, self.replay_capacity, self.n_step, self.gamma, frame_stack,
            self.sequence_length, carry_dim, self.burn_in, self.replay_sampling, self.priority_exponent,
        )  # fmt: skip

    def tiny(self) -> dict[str, Any]:
        """Return overrides for a run of seconds."""
        small: dict[str, Any] = {"replay_capacity": 400, "learning_starts": 50, "batch_size": 8, "target_period": 10}
        small |= {"replay_ratio": 0.25, "n_step": min(self.n_step, 3)}
        if self.core != "none":
            small |= {"sequence_length": 8, "burn_in": min(self.burn_in, 2)}
        return {**super().tiny(), **small}

    def updates_line(self) -> str:
        """Return number and size of the updates, for the pre-flight."""
        updates = int(self.replay_ratio * max(self.total_steps - self.learning_starts, 0))
        return f"{updates:,} updates of {self.batch_size} samples after {self.learning_starts:,} steps"

    def schedule_line(self) -> str:
        """Return the learning rate, for the pre-flight."""
        return f"learning rate {self.learning_rate:g}"

    def mistakes(self) -> dict[str, Mistake]:
        """Return the known mistakes in these settings, made or not, for the pre-flight."""
        updates = self.replay_ratio * max(self.total_steps - self.learning_starts, 0)
        rows = self.batch_size * self.sequence_length
        return {
            "late learning": Mistake(
                self.learning_starts >= self.total_steps,
                "learning starts after the training has ended; lower --learning-starts",
            ),
            "forgetful replay": Mistake(
                self.learning_starts > self.replay_capacity,
                "the replay forgets before learning starts; raise --replay-capacity",
            ),
            "small replay": Mistake(
                self.replay_capacity < rows * 10,
                "the replay holds fewer than ten minibatches; raise --replay-capacity",
            ),
            "old target": Mistake(
                0 < updates < self.target_period, "the target network is never updated; lower --target-period"
            ),
            "repeated steps": Mistake(
                self.replay_ratio * rows > 64 and not self.augment,
                f"each step is learned from {self.replay_ratio * rows:.0f} times; mind overfitting",
            ),
        }


@dataclass(frozen=True)
class RolloutConfig(OptimizerSettings, TrainConfig):
    """Settings of agents that learn from rollouts."""

    learning_rate: float = 2.5e-4
    """Step size of the optimizer at the start."""
    optimizer_epsilon: float = 1e-5
    """Added to the denominator of each step, for numerical stability."""
    max_grad_norm: float = 0.5
    """Gradients of a larger norm are scaled down to it."""
    schedule: Literal["linear", "constant"] = "linear"
    """Learning rate: linear falls to 0 at total_steps."""
    rollout_length: int = 128
    """Rows collected from each environment between updates."""
    epochs: int = 4
    """Passes over each rollout."""
    minibatches: int = 4
    """Minibatches in an epoch."""
    sequence_length: int = 1
    """Rows unrolled together; a recurrent core needs more than 1. Must divide rollout_length; 0 takes all of it."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("rollout_length", "epochs", "minibatches"):
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

    def minibatches_of(self, rows: int) -> int:
        """Return the number of minibatches in a rollout of `rows` rows; a shorter one has fewer of the same size."""
        sequences, whole = -(-rows // self.unroll), self.rollout_length // self.unroll
        return max(round(self.minibatches * sequences / whole), 1)

    def tiny(self) -> dict[str, Any]:
        """Return overrides for a run of seconds."""
        small = {"rollout_length": 32, "epochs": min(self.epochs, 2), "minibatches": min(self.minibatches, 2)}
        return {**super().tiny(), **small}

    def updates_line(self) -> str:
        """Return number and size of the rollouts, for the pre-flight."""
        rollout = self.rollout_length * self.num_envs
        rollouts = -(-self.total_steps // rollout)  # or more: rows that only reset are no env steps
        updates = f"{self.epochs} x {self.minibatches} updates each"
        return f"at least {rollouts:,} rollout{'s' * (rollouts > 1)} of up to {rollout:,} steps, {updates}"

    def schedule_line(self) -> str:
        """Return start and end of the learning rate, for the pre-flight."""
        end = "0" if self.schedule == "linear" else f"{self.learning_rate:g}"
        return f"learning rate {self.learning_rate:g} to {end}"

    def mistakes(self) -> dict[str, Mistake]:
        """Return the known mistakes in these settings, made or not, for the pre-flight."""
        return {
            "long rollout": Mistake(
                self.rollout_length * self.num_envs > self.total_steps,
                "the first rollout is longer than the whole training; lower --rollout-length or --num-envs",
            )
        }

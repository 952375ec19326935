"""Settings of Stable-Baselines3's agents, under its own names and with its own defaults (SB3 and sb3-contrib 2.9)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal

from gymnasium import spaces
from torch import nn

from agents.config import Mistake, TrainConfig
from agents.errors import ConfigError
from agents.run import machine
from networks.observation_spaces import observation_bytes
from networks.torsos.base import Style


@dataclass(frozen=True)
class SB3Config(TrainConfig):
    """Settings that all of Stable-Baselines3's agents share."""

    replay_option: ClassVar[str] = "--buffer-size"

    num_envs: int = 1
    """Environments stepped side by side (SB3's n_envs)."""
    precision: Literal["auto", "bf16", "fp32"] = "fp32"
    """fp32: SB3 computes in float32."""
    torso: str = "sb3"
    """sb3: SB3's own network, a Nature CNN for images of at least 36 pixels, an MLP otherwise. auto or a name in
    networks/torsos/build.py: a torso of ours below SB3's heads, so that only the algorithm differs in a comparison."""
    net_arch: tuple[int, ...] | None = None
    """Widths of the layers between torso and heads. None: SB3's, 64 64 without a CNN and no layers after one; no layers
    after a torso of ours."""
    learning_rate: float = 3e-4
    """Learning rate at the start."""
    schedule: Literal["constant", "linear"] = "constant"
    """linear: the learning rate, and PPO's clip range, fall to 0 at `total_steps` (`lin_` in rl-baselines3-zoo)."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value, or for an option that SB3's agents lack."""
        super().validate()
        plain = {"observe_last": False, "mask_actions": False, "core": "none", "input_norm": "scale",
                 "fusion": "concat"}  # fmt: skip
        for name, value in plain.items():
            self.require(getattr(self, name) == value, name, f"must be {value} for Stable-Baselines3's agents")
        learning = [key for key, (_, mode) in self.encoders().items() if mode != "freeze"]
        if learning:
            raise ConfigError(
                f"Stable-Baselines3 supports frozen encoders only; give --encoder-mode {learning[0]}=freeze"
            )
        self.require(self.precision != "bf16", "precision", "must be fp32: Stable-Baselines3 computes in float32")
        self.require(
            "flicker" not in self.env_kwargs, "env_kwargs", "must have no flicker for Stable-Baselines3's agents"
        )
        self.require(self.learning_rate > 0, "learning_rate", "must be above 0")
        self.require(all(width >= 1 for width in self.net_arch or ()), "net_arch", "must be widths of at least 1")

    @property
    def style(self) -> Style:
        """Style of a torso of ours for this algorithm."""
        return Style(hidden=self.hidden)

    def hyperparameters(self) -> dict[str, Any]:
        """Return the arguments of SB3's class: `gamma`, and the fields that only this algorithm has."""
        shared = {field.name for field in fields(SB3Config)} - {"gamma"}
        names = [field.name for field in fields(self) if field.name not in (*shared, *self.policy_arguments())]
        return {name: getattr(self, name) for name in names}

    def policy_arguments(self) -> dict[str, Any]:
        """Return SB3's `policy_kwargs`, except `net_arch`."""
        return {}

    def schedule_line(self) -> str:
        """Return the schedule of the learning rate, for the pre-flight."""
        end = "0" if self.schedule == "linear" else f"{self.learning_rate:g}"
        return f"learning rate {self.learning_rate:g} to {end}"


@dataclass(frozen=True)
class SB3RolloutConfig(SB3Config):
    """Settings that SB3's agents with rollouts share."""

    n_steps: int = 2048
    """Rows collected from each environment between updates."""
    gae_lambda: float = 0.95
    """Lambda of generalised advantage estimation."""
    ent_coef: float = 0.0
    """Weight of the entropy bonus."""
    vf_coef: float = 0.5
    """Weight of the value loss."""
    max_grad_norm: float = 0.5
    """Gradients of a larger norm are scaled down to it."""
    normalize_advantage: bool = True
    """Standardise the advantages of each minibatch."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.n_steps * self.num_envs > 1, "n_steps", "times --num-envs must be above 1")
        self.require(0 <= self.gae_lambda <= 1, "gae_lambda", "must lie in 0 to 1")

    @property
    def rows_in_memory(self) -> int:
        """Rows of a rollout."""
        return self.n_steps

    @property
    def updates_per_rollout(self) -> str:
        """Return the number of updates per rollout, for the pre-flight."""
        return "one update each"

    def updates_line(self) -> str:
        """Return number and size of the rollouts, for the pre-flight."""
        rollout = self.n_steps * self.num_envs
        return f"{-(-self.total_steps // rollout):,} rollouts of {rollout:,} steps, {self.updates_per_rollout}"

    def mistakes(self) -> dict[str, Mistake]:
        """Return the known mistakes in these settings, made or not, for the pre-flight."""
        return {
            "long rollout": Mistake(
                self.n_steps * self.num_envs > self.total_steps,
                "the first rollout is longer than the whole training; lower --n-steps or --num-envs",
            )
        }

    def tiny(self) -> dict[str, Any]:
        """Return overrides for a run of seconds."""
        return {**super().tiny(), "n_steps": 32}


@dataclass(frozen=True)
class SB3A2CConfig(SB3RolloutConfig):
    """Settings of SB3's A2C."""

    learning_rate: float = 7e-4
    n_steps: int = 5
    gae_lambda: float = 1.0
    normalize_advantage: bool = False
    rms_prop_eps: float = 1e-5
    """Epsilon of RMSProp."""
    rms_prop_tf_like: bool = False
    """RMSProp with epsilon inside the root, as in TensorFlow; rl-baselines3-zoo uses it for Atari."""

    def policy_arguments(self) -> dict[str, Any]:
        """Return the choice of optimizer, from which `adapters.build` makes SB3's arguments."""
        return {"rms_prop_tf_like": self.rms_prop_tf_like}


@dataclass(frozen=True)
class SB3PPOConfig(SB3RolloutConfig):
    """Settings of SB3's PPO."""

    batch_size: int = 64
    """Transitions of a minibatch."""
    n_epochs: int = 10
    """Passes over a rollout."""
    clip_range: float = 0.2
    """Bound on the deviation of the probability ratio from 1."""
    target_kl: float | None = None
    """KL divergence at which the passes over a rollout stop early; None for no limit."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("batch_size", "n_epochs"):
            self.require(getattr(self, name) >= 1, name, "must be at least 1")
        self.require(self.batch_size > 1 or not self.normalize_advantage, "batch_size", "must be above 1")
        self.require(self.clip_range > 0, "clip_range", "must be above 0")

    @property
    def updates_per_rollout(self) -> str:
        """Return the number of updates per rollout, for the pre-flight."""
        return f"{self.n_epochs} x {-(-self.n_steps * self.num_envs // self.batch_size)} updates each"

    def tiny(self) -> dict[str, Any]:
        """Return overrides for a run of seconds."""
        return {**super().tiny(), "batch_size": 16, "n_epochs": 2}


@dataclass(frozen=True)
class SB3RecurrentPPOConfig(SB3PPOConfig):
    """Settings of sb3-contrib's RecurrentPPO, with separate LSTMs for actor and critic."""

    n_steps: int = 128
    batch_size: int = 128
    lstm_hidden_size: int = 256
    """Width of each LSTM."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.lstm_hidden_size >= 1, "lstm_hidden_size", "must be at least 1")

    def policy_arguments(self) -> dict[str, Any]:
        """Return the width of the LSTMs."""
        return {"lstm_hidden_size": self.lstm_hidden_size}

    def tiny(self) -> dict[str, Any]:
        """Return overrides for a run of seconds."""
        return {**super().tiny(), "lstm_hidden_size": 16}


@dataclass(frozen=True)
class SB3DQNConfig(SB3Config):
    """Settings of SB3's DQN."""

    learning_rate: float = 1e-4
    buffer_size: int = 1_000_000
    """Transitions in the replay; SB3 stores both observations of each."""
    learning_starts: int = 100
    """Env steps of random play before the first update."""
    batch_size: int = 32
    """Transitions of a minibatch."""
    train_freq: int = 4
    """Steps of every environment between updates."""
    gradient_steps: int = 1
    """Updates each time; -1 for one per step."""
    n_steps: int = 1
    """Rewards summed before the bootstrap."""
    tau: float = 1.0
    """Step of the target network towards the online network at each of its updates; 1 copies."""
    target_update_interval: int = 10_000
    """Env steps between updates of the target network."""
    exploration_fraction: float = 0.1
    """Fraction of the training over which epsilon falls."""
    exploration_initial_eps: float = 1.0
    """Epsilon at the start."""
    exploration_final_eps: float = 0.05
    """Epsilon at the end."""
    max_grad_norm: float | None = 10.0
    """Gradients of a larger norm are scaled down to it."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("buffer_size", "batch_size", "train_freq", "n_steps", "target_update_interval"):
            self.require(getattr(self, name) >= 1, name, "must be at least 1")
        self.require(self.learning_starts >= 0, "learning_starts", "must not be negative")
        self.require(self.gradient_steps >= 1 or self.gradient_steps == -1, "gradient_steps", "must be -1 or above 0")
        for name in ("tau", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps"):
            self.require(0 <= getattr(self, name) <= 1, name, "must lie in 0 to 1")

    @property
    def style(self) -> Style:
        """Style of a torso of ours: ReLU, as in DQN."""
        return Style(hidden=self.hidden, activation=nn.ReLU)

    def replay_bytes(self, observation_space: spaces.Space, frame_stack: int, carry_dim: int) -> int:
        """Return the bytes of SB3's replay; raise ConfigError if they exceed the free memory."""
        each = observation_bytes(observation_space)
        needed, free = self.buffer_size * (2 * each + 16), machine.available_memory()
        fitting = int(0.8 * free / (2 * each + 16))
        message = (
            f"needs {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free (SB3 stores each frame "
            f"{2 * frame_stack} times); use {fitting} or less"
        )
        self.require(needed <= free, "buffer_size", message)
        return needed

    def updates_line(self) -> str:
        """Return number and size of the updates, for the pre-flight."""
        per_cycle = self.train_freq if self.gradient_steps < 0 else self.gradient_steps
        cycles = max(self.total_steps - self.learning_starts, 0) // (self.train_freq * self.num_envs)
        return f"{cycles * per_cycle:,} updates of {self.batch_size}"

    def schedule_line(self) -> str:
        """Return the schedules of learning rate and epsilon, for the pre-flight."""
        steps = round(self.exploration_fraction * self.total_steps)
        ends = f"{self.exploration_initial_eps:g} to {self.exploration_final_eps:g}"
        return f"{super().schedule_line()}, epsilon {ends} over {steps:,} steps"

    def mistakes(self) -> dict[str, Mistake]:
        """Return the known mistakes in these settings, made or not, for the pre-flight."""
        return {
            "late learning": Mistake(
                self.learning_starts >= self.total_steps,
                "learning starts after the training has ended; lower --learning-starts",
            )
        }

    def tiny(self) -> dict[str, Any]:
        """Return overrides for a run of seconds."""
        small = {"buffer_size": 400, "learning_starts": 50, "batch_size": 8, "target_update_interval": 10}
        return {**super().tiny(), **small, "train_freq": 4, "gradient_steps": 1}


@dataclass(frozen=True)
class SB3QRDQNConfig(SB3DQNConfig):
    """Settings of sb3-contrib's QR-DQN."""

    learning_rate: float = 5e-5
    exploration_fraction: float = 0.005
    exploration_final_eps: float = 0.01
    max_grad_norm: float | None = None
    n_quantiles: int = 200
    """Quantiles of the return of each action."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.n_quantiles >= 1, "n_quantiles", "must be at least 1")

    def policy_arguments(self) -> dict[str, Any]:
        """Return the number of quantiles."""
        return {"n_quantiles": self.n_quantiles}

    def tiny(self) -> dict[str, Any]:
        """Return overrides for a run of seconds."""
        return {**super().tiny(), "n_quantiles": 8}

"""Settings that every agent has; each algorithm's file adds its own. Presets are values of these classes."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, ClassVar

from gymnasium import spaces

from agents.errors import ConfigError
from agents.replay.buffer import ReplayLayout
from agents.settings import EncoderSettings, EnvironmentSettings, NetworkSettings, RunSettings


@dataclass(frozen=True)
class TrainConfig(RunSettings, EncoderSettings, NetworkSettings, EnvironmentSettings):
    """All settings of a training: the groups of `agents.settings`, and what the algorithms have in common."""

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
        """Whether rewards of any size give targets of a size that can be learned."""
        return self.clip_rewards

    @property
    def rows_in_memory(self) -> int:
        """Rows kept at once outside a replay."""
        return 1

    def tiny(self) -> dict[str, Any]:
        """Return overrides that bring these settings to a size that trains, saves and acts within seconds."""
        return {"total_steps": 400, "num_envs": 2, "checkpoint_steps": 200, "log_steps": 100, "threads": 1}

    def updates_line(self) -> str:
        """Return number and size of the updates, for the pre-flight."""
        return ""

    def schedule_line(self) -> str:
        """Return the schedules, for the pre-flight."""
        return ""

    def warnings(self) -> list[str]:
        """Return one line for each setting that would waste the run."""
        return []

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> TrainConfig:
        """Rebuild a config from the fields in a run's config.json; ConfigError names unknown ones."""
        known = {each.name for each in fields(cls)}
        unknown = sorted(set(values) - known)
        if unknown:
            raise ConfigError(f"config.json has fields that this version does not know: {', '.join(unknown)}")
        converted: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in values.items()}
        return cls(**converted)

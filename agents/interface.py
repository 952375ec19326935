"""The data that flows between environments, replay and agents.

`interact` (loops.py) yields one `Row` per step of a vector of environments. A replay turns rows into `Transitions` or
`Sequences`, the on-policy loop stacks them into a `Rollout`, and an `Agent` learns from those. Observations are arrays,
or flat dicts of arrays when the observation space is a Dict.

Autoreset is Gymnasium's NEXT_STEP everywhere: the observation after the last step of an episode is an ordinary row
that is marked `dead` (its action is ignored, its reward is 0), so `next_obs` of row t is always `obs` of row t+1, and
a truncated episode needs no special case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol, TypedDict

import numpy as np
import torch
from torch import Tensor

Obs = Any  # np.ndarray, or dict[str, np.ndarray]; torch tensors on the learner's device
Metrics = dict[str, Tensor]
"""Scalars by name, such as train/loss."""


class Row(NamedTuple):
    """One step of N environments; every array is [N, ...]."""

    obs: Obs
    info: dict[str, Any]
    first: np.ndarray
    """True where `obs` opens an episode, so the carry is cleared; bool."""
    dead: np.ndarray
    """True where `obs` is the final one of an episode: the step only resets, and is masked out of learning; bool."""
    carry: Tensor
    """Recurrent state before `obs`, [N, C]; C is 0 for a feed-forward agent."""
    action: np.ndarray
    extras: dict[str, np.ndarray]
    """Outputs of the agent when acting (value, log_prob), for its own update and for the recorder."""
    reward: np.ndarray
    terminated: np.ndarray
    truncated: np.ndarray
    next_obs: Obs
    next_info: dict[str, Any]
    next_carry: Tensor


class Transitions(NamedTuple):
    """A minibatch of B n-step transitions on the learner's device; every tensor is [B, ...]."""

    obs: Any
    action: Tensor
    reward: Tensor
    """Discounted sum of the m <= n rewards."""
    discount: Tensor
    """Weight of the value of `next_obs`: gamma^m, or 0 where the episode terminated."""
    next_obs: Any
    weight: Tensor
    """Importance-sampling weight of the loss."""
    indices: np.ndarray
    """Indices of the samples in the replay, for `update_priorities`; int64 [B]."""


class Sequences(NamedTuple):
    """A minibatch of B sequences: K rows of burn-in, L rows to learn from, n rows after.

    Tensors are [L, B, ...] unless noted.
    """

    obs: Any
    """[K + L + n, B, ...]"""
    first: Tensor
    """[K + L + n, B]"""
    carry: Tensor
    """Recurrent state stored when the first row of burn-in was acted on, [B, C]."""
    action: Tensor
    reward: Tensor
    discount: Tensor
    bootstrap: Tensor
    """Row of `next_obs`, 0 .. L + n - 1 counted from the end of the burn-in."""
    mask: Tensor
    """1 where the row is learned from, 0 where it is dead."""
    weight: Tensor
    """[B]"""
    indices: np.ndarray
    """Indices of the samples in the replay, for `update_priorities`; int64 [B]."""


class Rollout(NamedTuple):
    """T consecutive rows of N environments on the learner's device; tensors are [T, N, ...] unless noted."""

    obs: Any
    first: Tensor
    dead: Tensor
    carry: Tensor
    """[T, N, C]"""
    action: Tensor
    extras: dict[str, Tensor]
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    next_obs: Any
    """After the last row, [N, ...]."""
    next_first: Tensor
    """[N]"""
    next_carry: Tensor
    """[N, C]"""
    env_steps: int
    """Env steps of the run so far, for schedules."""


class ScoreProtocol(Protocol):
    """The settings of an evaluation protocol that agents read; implemented by `envs.protocols.Protocol`."""

    @property
    def name(self) -> str:
        """classic, machado or native."""

    @property
    def frame_skip(self) -> int:
        """Emulator frames per agent step."""

    @property
    def life_information(self) -> bool:
        """Whether the learner may treat the loss of a life as the end of an episode."""

    @property
    def image_size(self) -> int:
        """Height and width of the observed frame, in pixels; 0 for the environment's own."""


class GameSpec(Protocol):
    """The facts about a game that agents read; implemented by `envs.protocols.GameSpec`."""

    @property
    def protocol(self) -> ScoreProtocol:
        """The protocol under which the game is played."""

    @property
    def family(self) -> str:
        """atari, box2d, classic, minatar, minigrid or toy."""

    @property
    def frame_stack(self) -> int:
        """Frames stacked in one observation."""

    @property
    def fingerprint(self) -> str:
        """12 hex digits, equal only for games whose scores are comparable."""


class EpisodeRecord(Protocol):
    """The facts about a finished game that agents read; implemented by `envs.episode_record.EpisodeRecord`."""

    @property
    def env(self) -> int:
        """Index of its environment."""

    @property
    def length(self) -> int:
        """Agent steps."""

    @property
    def episode_return(self) -> float:
        """Undiscounted sum of the game's raw rewards."""

    def to_json(self, **extras: Any) -> str:
        """Return the record, with `extras`, as one line of JSON."""


class OptimizerState(TypedDict):
    """State of an agent's optimizer, for checkpoints."""

    tensors: dict[str, Tensor]
    updates: int
    """Gradient updates so far, as the agent counts them."""


class Agent(Protocol):
    """Interface between the loops and an agent. Recurrent state is an argument; only weights live inside."""

    device: torch.device

    def initial_carry(self, batch: int) -> Tensor:
        """Return the zero carry of `batch` environments, [batch, C]."""

    def act(
        self, obs: Obs, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Return actions [N, ...], the new carry [N, C], and extras [N]; `env_steps` None means evaluation."""

    def set_encoders_trainable(self, env_steps: int) -> None:
        """Unfreeze the pretrained encoders once `unfreeze_at` is reached; called before updates."""

    def update(self, batch: Any, rng: torch.Generator) -> tuple[Metrics, Tensor | None]:
        """Learn from one batch; return metrics (scalar tensors) and, from a replay's batch, new priorities [B]."""

    def modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the networks by name, for saving, hashing and finding a non-finite value."""

    def optimizer_state(self) -> OptimizerState:
        """Return the optimizer's tensors by name, and the number of updates."""

    def load_optimizer_state(self, state: OptimizerState) -> None:
        """Restore the state that `optimizer_state` returned."""

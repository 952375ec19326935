"""The data that flows through the suite, and who may touch it.

`interact` (loops.py) yields one `Row` per step of a vector of environments. A replay turns rows into `Transitions` or
`Sequences`, the on-policy loop stacks them into a `Rollout`, and an `Agent` learns from those. Nothing else is passed
around. Observations are arrays, or flat dicts of arrays when the observation space is a Dict.

Autoreset is Gymnasium's NEXT_STEP everywhere: the observation after the last step of an episode is an ordinary row
that is marked `dead` (its action is ignored, its reward is 0), so `next_obs` of row t is always `obs` of row t+1, and
a truncated episode needs no special case.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

Obs = Any  # np.ndarray, or dict[str, np.ndarray]; torch tensors once on the device


class Row(NamedTuple):
    """One step of N environments; every array is [N, ...]."""

    obs: Obs
    info: dict[str, Any]
    first: np.ndarray
    """`obs` opens an episode; the agent's memory is to be cleared."""
    dead: np.ndarray
    """`obs` is the end of an episode already told; the step only resets, and must be masked out."""
    carry: Tensor
    """The agent's memory before it saw `obs`, [N, C]; C is 0 for a feed-forward agent."""
    action: np.ndarray
    extras: dict[str, np.ndarray]
    """What the agent noted when acting (value, log_prob); read by that agent's own update, and by the recorder."""
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
    """gamma^m, or 0 where the episode terminated: the weight of the value of `next_obs`."""
    next_obs: Any
    weight: Tensor
    """Importance-sampling weight of the loss."""
    indices: np.ndarray
    """Where the replay keeps them; goes back with new priorities."""


class Sequences(NamedTuple):
    """A minibatch of B stretches: K rows of burn-in, L rows to learn from, n rows after; [L, B, ...] but as noted."""

    obs: Any
    """[K + L + n, B, ...]"""
    first: Tensor
    """[K + L + n, B]"""
    carry: Tensor
    """[B, C], the memory stored when the first row of burn-in was acted on."""
    action: Tensor
    reward: Tensor
    discount: Tensor
    bootstrap: Tensor
    """Row, in 0 .. L + n - 1 after the burn-in, of the observation whose value is bootstrapped from."""
    mask: Tensor
    """1 where the row is to be learned from, 0 where it is dead."""
    weight: Tensor
    """[B]"""
    indices: np.ndarray
    """[B]"""


class Rollout(NamedTuple):
    """T consecutive rows of N environments on the learner's device: tensors are [T, N, ...] but as noted."""

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
    """[N, ...], after the last row."""
    next_first: Tensor
    """[N]"""
    next_carry: Tensor
    """[N, C]"""
    env_steps: int
    """Env steps of the whole run up to here, which schedules go by."""


class ScoreProtocol(Protocol):
    """The parts of an evaluation protocol that agents ask for; `envs.protocols.Protocol` has them."""

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
    """The facts about a game that agents ask for; `envs.protocols.GameSpec` has them."""

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
        """12 hex digits, equal only for games whose scores mean the same."""


class Agent(Protocol):
    """What the loops need of an agent. State that flows is an argument; only what is learned lives inside."""

    device: torch.device

    def initial_carry(self, batch: int) -> Tensor:
        """Return the empty memory of `batch` players, [batch, C]."""

    def act(
        self, obs: Obs, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Return actions [N], the new carry, and extras; `env_steps` None means judge, don't explore."""

    def set_encoders_trainable(self, env_steps: int) -> None:
        """Let learn from now on what was to learn from this env step on; called before updates."""

    def update(self, batch: Any, rng: torch.Generator) -> tuple[dict[str, Tensor], Tensor | None]:
        """Learn from one batch; return metrics (scalar tensors) and new priorities [B] where there are any."""

    def modules(self) -> Mapping[str, torch.nn.Module]:
        """Return the networks by name, for saving, hashing and finding a non-finite value."""

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimizer and the counters as tensors and plain numbers."""

    def load_optimizer_state(self, state: dict[str, Any]) -> None:
        """Take back what `optimizer_state` returned."""

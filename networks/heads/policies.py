"""Policies: from features to a distribution over actions, for each kind of action space; and the actor-critic head.

A distribution is passed on as its parameters, one tensor [..., P]: concatenated log-probabilities for discrete actions,
means and log standard deviations for continuous ones.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

ILLEGAL = -1e8
"""Logit of a masked action (Huang & Ontanon 2022): its probability is 0, and gradients stay finite."""


class Policy(nn.Module, ABC):
    """Maps features to the parameters of a distribution; samples and evaluates actions under these parameters."""

    def __init__(self, in_dim: int, width: int):
        super().__init__()
        self.layer = nn.Linear(in_dim, width)

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor:
        """Features [..., F] -> parameters [..., P]."""

    @abstractmethod
    def sample(self, parameters: Tensor, rng: torch.Generator) -> Tensor:
        """Draw actions [N, ...] for parameters [N, P]."""

    @abstractmethod
    def mode(self, parameters: Tensor) -> Tensor:
        """Return the most likely actions [N, ...] for parameters [N, P]."""

    @abstractmethod
    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Return the log probability (or density) [...] of actions [..., *shape] under parameters [..., P]."""

    @abstractmethod
    def entropy(self, parameters: Tensor) -> Tensor:
        """Return the entropy [...] in nats for parameters [..., P]."""


class CategoricalPolicy(Policy):
    """Independent categorical choices, the k-th among `sizes[k]` values: Discrete, MultiDiscrete, MultiBinary.

    With `scalar` there is one choice, and actions have no axis for it.
    """

    def __init__(self, in_dim: int, sizes: Sequence[int], scalar: bool):
        self.sizes, self.scalar = tuple(int(size) for size in sizes), scalar
        super().__init__(in_dim, sum(self.sizes))

    def forward(self, x: Tensor) -> Tensor:
        """[..., F] -> log-probabilities [..., sum of sizes]."""
        return self._normalized(self.layer(x))

    def masked(self, parameters: Tensor, legal: Tensor) -> Tensor:
        """Return the log-probabilities [..., P] conditional on legal actions; `legal` is bool [..., P]."""
        return self._normalized(parameters.masked_fill(~legal, ILLEGAL))

    def sample(self, parameters: Tensor, rng: torch.Generator) -> Tensor:
        """[N, P] -> int64 [N], or [N, K] for K choices."""
        samples = [torch.multinomial(part.exp(), 1, generator=rng) for part in parameters.split(self.sizes, dim=-1)]
        return samples[0].squeeze(-1) if self.scalar else torch.cat(samples, dim=-1)

    def mode(self, parameters: Tensor) -> Tensor:
        """[N, P] -> int64 [N], or [N, K] for K choices."""
        best = [part.argmax(dim=-1) for part in parameters.split(self.sizes, dim=-1)]
        return best[0] if self.scalar else torch.stack(best, dim=-1)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Parameters [..., P] and actions [...], or [..., K] for K choices -> [...]."""
        choices = action[..., None] if self.scalar else action
        parts = parameters.split(self.sizes, dim=-1)
        taken = [part.gather(-1, choices[..., k : k + 1]).squeeze(-1) for k, part in enumerate(parts)]
        return taken[0] if len(taken) == 1 else torch.stack(taken).sum(dim=0)

    def entropy(self, parameters: Tensor) -> Tensor:
        """[..., P] -> [...], summed over the choices."""
        return -(parameters.exp() * parameters).sum(dim=-1)

    def _normalized(self, logits: Tensor) -> Tensor:
        if len(self.sizes) == 1:
            return logits.log_softmax(dim=-1)
        return torch.cat([part.log_softmax(dim=-1) for part in logits.split(self.sizes, dim=-1)], dim=-1)


class GaussianPolicy(Policy):
    """Independent normal distributions over a Box: means from the features, state-independent standard deviations.

    As in the reference PPO (Huang et al. 2022, details for continuous actions 1 to 4). The environment clips actions.
    """

    def __init__(self, in_dim: int, shape: tuple[int, ...], log_std: float = 0.0):
        super().__init__(in_dim, int(np.prod(shape)))
        self.shape = shape
        self.log_std = nn.Parameter(torch.full((int(np.prod(shape)),), log_std))

    def forward(self, x: Tensor) -> Tensor:
        """[..., F] -> means and log standard deviations [..., 2 D]."""
        mean = self.layer(x)
        return torch.cat([mean, self.log_std.expand_as(mean)], dim=-1)

    def sample(self, parameters: Tensor, rng: torch.Generator) -> Tensor:
        """[N, 2 D] -> float32 [N, *shape]."""
        mean, log_std = parameters.chunk(2, dim=-1)
        noise = torch.randn(mean.shape, generator=rng, device=mean.device)
        return (mean + log_std.exp() * noise).unflatten(-1, self.shape)

    def mode(self, parameters: Tensor) -> Tensor:
        """[N, 2 D] -> float32 [N, *shape]."""
        return parameters.chunk(2, dim=-1)[0].unflatten(-1, self.shape)

    def log_prob(self, parameters: Tensor, action: Tensor) -> Tensor:
        """Parameters [..., 2 D] and actions [..., *shape] -> [...]."""
        mean, log_std = parameters.chunk(2, dim=-1)
        distance = (action.flatten(-len(self.shape)) - mean) * (-log_std).exp()
        return -(0.5 * distance**2 + log_std + 0.5 * math.log(2.0 * math.pi)).sum(dim=-1)

    def entropy(self, parameters: Tensor) -> Tensor:
        """[..., 2 D] -> [...]."""
        return (parameters.chunk(2, dim=-1)[1] + 0.5 * math.log(2.0 * math.pi * math.e)).sum(dim=-1)


def build_policy(space: spaces.Space, in_dim: int) -> Policy:
    """Build the policy for an action space, over features of width `in_dim`.

    Raises ValueError for a space that no policy supports.
    """
    if isinstance(space, spaces.Discrete) and space.start == 0:
        return CategoricalPolicy(in_dim, [int(space.n)], scalar=True)
    if isinstance(space, spaces.MultiDiscrete) and space.nvec.ndim == 1 and not space.start.any():
        return CategoricalPolicy(in_dim, space.nvec.tolist(), scalar=False)
    if isinstance(space, spaces.MultiBinary) and len(space.shape) == 1:
        return CategoricalPolicy(in_dim, [2] * space.shape[0], scalar=False)
    if isinstance(space, spaces.Box) and np.issubdtype(space.dtype, np.floating) and space.shape:
        return GaussianPolicy(in_dim, space.shape)
    raise ValueError(f"no policy supports the action space {space}; use Discrete, MultiDiscrete, MultiBinary or Box")


class LogitsOutput(NamedTuple):
    """A categorical policy alone."""

    logits: Tensor
    """[..., A]"""


class PolicyHead(nn.Module):
    """A linear categorical policy, without a value."""

    def __init__(self, in_dim: int, num_actions: int):
        super().__init__()
        self.policy = nn.Linear(in_dim, num_actions)

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> LogitsOutput:
        """[..., F] -> logits [..., A]; `noise` is not used."""
        return LogitsOutput(self.policy(x))


class PolicyOutput(NamedTuple):
    """A policy and the value of the state."""

    policy: Tensor
    """[..., P], parameters of the distribution over actions."""
    value: Tensor
    """[...]"""
    novelty_value: Tensor | None = None
    """[...], value of the novelty rewards (RND), if it is learned."""


class PolicyValueHead(nn.Module):
    """A linear policy and a linear value; with `twin`, each reads its own half of the features.

    With `novelty` there is a second value, for the novelty rewards of RND (Burda et al. 2019, section 2.3).
    """

    def __init__(self, in_dim: int, actions: spaces.Space, twin: bool = False, novelty: bool = False):
        super().__init__()
        self.twin = twin
        width = in_dim // 2 if twin else in_dim
        self.policy = build_policy(actions, width)
        self.value = nn.Linear(width, 1)
        self.novelty_value = nn.Linear(width, 1) if novelty else None

    def forward(self, x: Tensor, noise: torch.Generator | None = None, legal: Tensor | None = None) -> PolicyOutput:
        """[..., F] -> policy [..., P] and values [...]; `legal`, bool [..., P], masks the other actions."""
        for_policy, for_value = x.chunk(2, dim=-1) if self.twin else (x, x)
        policy, value = self.policy(for_policy), self.value(for_value).squeeze(-1)
        if legal is not None:
            assert isinstance(self.policy, CategoricalPolicy)
            policy = self.policy.masked(policy, legal)
        novelty = self.novelty_value(for_value).squeeze(-1) if self.novelty_value is not None else None
        return PolicyOutput(policy, value, novelty)

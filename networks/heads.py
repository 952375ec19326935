"""Heads: from features to action values, or to a policy and a value."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.distributions import Categorical


class QOutput(NamedTuple):
    """Action values; every Q head has `.q` [..., A]."""

    q: Tensor


class PolicyOutput(NamedTuple):
    """A categorical policy and the state's value."""

    logits: Tensor
    """[..., A]"""
    value: Tensor
    """[...]"""

    @property
    def dist(self) -> Categorical:
        """The policy as a distribution over actions."""
        return Categorical(logits=self.logits, validate_args=False)


class QHead(nn.Module):
    """Linear action values, or dueling streams (Wang et al. 2016, equation 9)."""

    def __init__(self, in_dim: int, num_actions: int, dueling: bool = False):
        super().__init__()
        self.advantage = nn.Linear(in_dim, num_actions)
        self.value = nn.Linear(in_dim, 1) if dueling else None

    def forward(self, x: Tensor) -> QOutput:
        """[..., F] -> q [..., A]."""
        q = self.advantage(x)
        if self.value is not None:
            q = self.value(x) + q - q.mean(dim=-1, keepdim=True)
        return QOutput(q)


class PolicyValueHead(nn.Module):
    """A linear policy and a linear value; with `twin` each reads its own half of the features."""

    def __init__(self, in_dim: int, num_actions: int, twin: bool = False):
        super().__init__()
        self.twin = twin
        width = in_dim // 2 if twin else in_dim
        self.policy = nn.Linear(width, num_actions)
        self.value = nn.Linear(width, 1)

    def forward(self, x: Tensor) -> PolicyOutput:
        """[..., F] -> logits [..., A], value [...]."""
        for_policy, for_value = x.chunk(2, dim=-1) if self.twin else (x, x)
        return PolicyOutput(self.policy(for_policy), self.value(for_value).squeeze(-1))

"""`Model(torso, core, head)`: one module for every agent, feed-forward or recurrent, on one step or a sequence."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from networks.cores import Core
from networks.torsos.base import Torso

ACTION_MASK = "action_mask"
"""Key of a Dict observation's mask of legal actions, [A] bool."""


class Network(nn.Module, ABC):
    """Base of networks with a recurrent state: observations and carry in, outputs and the new carry out."""

    @property
    @abstractmethod
    def carry_dim(self) -> int:
        """Width of the carry; 0 when feed-forward."""

    def initial_carry(self, batch: int) -> Tensor:
        """Return a zero carry [batch, carry_dim]."""
        return torch.zeros(batch, self.carry_dim, device=next(self.parameters()).device)

    @abstractmethod
    def forward(
        self, obs: Any, carry: Tensor, first: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Any, Tensor]:
        """Run one step, or a sequence; return outputs and the new carry [B, C].

        `obs` [B, ...] with `first` [B], or [T, B, ...] with [T, B]; outputs have the same leading axes. `carry` [B, C]
        precedes the first row. Random heads (noisy layers, quantile levels) draw from `noise`; without it they are
        deterministic.
        """


class Model(Network):
    """Observation -> torso -> core -> head.

    `bf16` runs the torso and core under bfloat16 autocast; heads, losses and weights stay float32.
    """

    def __init__(self, torso: Torso, core: Core, head: nn.Module, bf16: bool = False):
        super().__init__()
        self.torso, self.core, self.head = torso, core, head
        self.bf16 = bf16

    @property
    def carry_dim(self) -> int:
        """Width of the carry; 0 when feed-forward."""
        return self.core.carry_dim

    def forward(
        self, obs: Any, carry: Tensor, first: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Any, Tensor]:
        """See `Network`. Torso and head run on all rows at once, the core over time.

        The part `action_mask` of a Dict observation goes directly to the head.
        """
        single = first.dim() == 1
        if single:
            first = first[None]
        steps, batch = first.shape
        with torch.autocast(first.device.type, torch.bfloat16, enabled=self.bf16):
            features = self.torso(obs if single else map_tree(lambda x: x.flatten(0, 1), obs))
            features = features.view(steps, batch, -1)
            if self.carry_dim:
                features, carry = self.core(features, carry, first)
        features = (features[0] if single else features).float()
        if isinstance(obs, dict) and ACTION_MASK in obs:
            return self.head(features, noise, obs[ACTION_MASK].bool()), carry.float()
        return self.head(features, noise), carry.float()


def map_tree(function: Callable[..., Any], tree: Any) -> Any:
    """Apply `function` to an array, or to each array of a dict."""
    return {key: function(value) for key, value in tree.items()} if isinstance(tree, dict) else function(tree)


def he_init(model: Model) -> None:
    """Initialise in place: He et al. 2015 (fan in, normal), gain 1 in the head, zero biases; as in PQN's code."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            last = name.startswith("head.")
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if last else "relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def orthogonal_init(model: Model, head_gains: dict[str, float]) -> None:
    """Initialise in place: orthogonal, gain sqrt(2) or `head_gains` by layer name, zero biases (PPO's details 2, 3)."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            gain = head_gains.get(name.removeprefix("head."), math.sqrt(2.0))
            nn.init.orthogonal_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM | nn.GRU):
            for key, parameter in module.named_parameters():
                nn.init.zeros_(parameter) if "bias" in key else nn.init.orthogonal_(parameter, 1.0)

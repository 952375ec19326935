"""`Model(torso, core, head)`: one module for every agent, feed-forward or recurrent, on one step or a sequence."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn

from networks.cores import Core
from networks.torsos.base import Torso

ACTION_MASK = "action_mask"
"""Part of a Dict observation that says which actions are legal, one truth value for each."""


class Network(nn.Module, ABC):
    """What an agent runs: from observations [B, ...] or [T, B, ...] and a memory to outputs and the new memory."""

    @property
    @abstractmethod
    def carry_dim(self) -> int:
        """Width of the carry; 0 when feed-forward."""

    def initial_carry(self, batch: int) -> Tensor:
        """Return an empty memory [batch, carry_dim]."""
        return torch.zeros(batch, self.carry_dim, device=next(self.parameters()).device)

    @abstractmethod
    def forward(
        self, obs: Any, carry: Tensor, first: Tensor, noise: torch.Generator | None = None
    ) -> tuple[Any, Tensor]:
        """Observations [B, ...] with first [B], or [T, B, ...] with [T, B]; carry [B, C]; outputs lead alike.

        A head that draws numbers (noisy layers, quantile levels) draws them from `noise`; without it, it is certain.
        """


class Model(Network):
    """Observation -> features -> memory -> output.

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
        """See `Network`: torso on all rows at once, core over time, head.

        The part `action_mask` of a Dict goes past torso and core to the head.
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


def map_tree(function: Any, tree: Any) -> Any:
    """Apply `function` to an array, or to each value of a dict of arrays."""
    return {key: function(value) for key, value in tree.items()} if isinstance(tree, dict) else function(tree)


def he_init(model: Model) -> None:
    """He et al. 2015 (fan in, normal) for all layers but the head's, whose gain is 1; zero biases. As in PQN's code."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            last = name.startswith("head.")
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear" if last else "relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def orthogonal_init(model: Model, head_gains: dict[str, float]) -> None:
    """Orthogonal weights with gain sqrt(2), zero biases; gains by name for the head's layers (PPO's details 2, 3)."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            gain = head_gains.get(name.removeprefix("head."), math.sqrt(2.0))
            nn.init.orthogonal_(module.weight, gain)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.LSTM | nn.GRU):
            for key, parameter in module.named_parameters():
                nn.init.zeros_(parameter) if "bias" in key else nn.init.orthogonal_(parameter, 1.0)

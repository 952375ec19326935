"""Cores: the recurrent part of a model. Its state, the carry, is one tensor [B, carry_dim].

The identity core has a carry of width 0, so that feed-forward and recurrent agents share all code.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from networks.core_names import CoreName


class Core(nn.Module):
    """Base of cores: features [T, B, F], carry [B, carry_dim], first [T, B] -> features [T, B, out_dim], new carry."""

    out_dim: int
    carry_dim: int


class IdentityCore(Core):
    """No recurrence."""

    def __init__(self, in_dim: int):
        super().__init__()
        self.out_dim, self.carry_dim = in_dim, 0

    def forward(self, x: Tensor, carry: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """[T, B, F] -> [T, B, F], carry unchanged."""
        return x, carry


class RecurrentCore(Core):
    """A GRU or LSTM whose carry is reset where an episode begins, also in the middle of a sequence."""

    def __init__(self, kind: Literal["gru", "lstm"], in_dim: int, hidden: int):
        super().__init__()
        self.rnn = nn.LSTM(in_dim, hidden) if kind == "lstm" else nn.GRU(in_dim, hidden)
        self.out_dim = hidden
        self.carry_dim = 2 * hidden if kind == "lstm" else hidden

    def forward(self, x: Tensor, carry: Tensor, first: Tensor) -> tuple[Tensor, Tensor]:
        """[T, B, F], carry [B, C], first [T, B] -> features [T, B, hidden] and the carry after row T-1.

        The sequence is split only where some environment begins an episode, so that the fused kernels do the rest.
        """
        starts = [0, *(first[1:].any(dim=1).nonzero().flatten() + 1).tolist(), len(x)]
        outputs = []
        for begin, end in pairwise(starts):
            carry = carry.masked_fill(first[begin].bool()[:, None], 0.0)
            output, carry = self._unroll(x[begin:end], carry)
            outputs.append(output)
        return torch.cat(outputs), carry

    def _unroll(self, x: Tensor, carry: Tensor) -> tuple[Tensor, Tensor]:
        if isinstance(self.rnn, nn.LSTM):
            hidden, cell = carry[None].chunk(2, dim=2)
            output, (hidden, cell) = self.rnn(x, (hidden.contiguous(), cell.contiguous()))
            return output, torch.cat([hidden[0], cell[0]], dim=1)
        output, hidden = self.rnn(x, carry[None])
        return output, hidden[0]


def build_core(name: CoreName, in_dim: int, hidden: int) -> Core:
    """Build the core `name` over features of width `in_dim`."""
    return IdentityCore(in_dim) if name == "none" else RecurrentCore(name, in_dim, hidden)

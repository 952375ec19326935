"""A torso for text as token ids."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from networks.tensors import map_unique_rows
from networks.torsos.base import Torso


class Tokens(Torso):
    """A GRU over token ids, 0 for padding; its features are the state after the last word."""

    def __init__(self, vocabulary_size: int, embedding: int = 32, out_dim: int = 128):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary_size, embedding, padding_idx=0)
        self.gru = nn.GRU(embedding, out_dim, batch_first=True)
        self.out_dim = out_dim

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, out_dim]."""
        return map_unique_rows(self._encode, x)

    def _encode(self, x: Tensor) -> Tensor:
        tokens = x.long()
        states, _ = self.gru(self.embedding(tokens))  # [B, L, out_dim]
        last = (tokens != 0).sum(dim=1).clamp(min=1) - 1
        return states[torch.arange(len(tokens), device=x.device), last]

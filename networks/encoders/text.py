"""Encoders for token ids [L], where 0 is padding.

GRU as in BabyAI (Chevalier-Boisvert et al. 2019); TextCNN (Kim 2014); attention over a bidirectional GRU (Yang et al.
2016, section 2.2, one level), also with several heads (Lin et al. 2017, section 2.1); two pre-norm Transformer layers
(Vaswani et al. 2017).
"""

from __future__ import annotations

import torch
from gymnasium import spaces
from torch import Tensor, nn

from networks.encoders.base import Encoder, EncoderError, attention_pool, masked_mean, packed_gru, register
from networks.tensors import map_unique_rows


class TextEncoder(Encoder):
    """Base of text encoders; encodes each distinct text of a batch once, up to its last word."""

    modality = "text"

    def __init__(self, space: spaces.Space, embedding: int):
        super().__init__()
        if not isinstance(space, spaces.MultiDiscrete) or len(space.shape) != 1:
            raise EncoderError(f"a text encoder takes token ids [length], not {space}")
        self.embedding = nn.Embedding(int(space.nvec.max()), embedding, padding_idx=0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, out_dim]."""
        return map_unique_rows(self.pooled, x)

    def pooled(self, x: Tensor) -> Tensor:
        """Return the features [B, out_dim] of distinct texts [B, L]."""
        return self.pool(*self.tokens(x))


@register("gru", "text")
class TextGRU(TextEncoder):
    """GRU; the features are its state after the last word."""

    def __init__(self, space: spaces.Space, embedding: int = 32, out_dim: int = 128):
        super().__init__(space, embedding)
        self.gru = nn.GRU(embedding, out_dim, batch_first=True)
        self.token_dim = self.out_dim = out_dim

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state after each word."""
        ids = x.long()
        return self.gru(self.embedding(ids))[0], ids != 0

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the state after the last word."""
        return tokens[torch.arange(len(tokens), device=tokens.device), mask.sum(dim=1).clamp(min=1) - 1]

    def layer_groups(self) -> list[nn.Module]:
        """Return the embedding and the GRU."""
        return [self.embedding, self.gru]


@register("bigru-attention", "text")
class BiGRUAttention(TextEncoder):
    """Bidirectional GRU with learned attention over its states."""

    def __init__(self, space: spaces.Space, embedding: int = 32, out_dim: int = 128):
        super().__init__(space, embedding)
        self.gru = nn.GRU(embedding, out_dim // 2, batch_first=True, bidirectional=True)
        self.score: nn.Module = nn.Sequential(nn.Linear(out_dim, out_dim), nn.Tanh(), nn.Linear(out_dim, 1, bias=False))
        self.token_dim = self.out_dim = out_dim // 2 * 2

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the states of both directions at each word."""
        ids = x.long()
        mask = ids != 0
        return packed_gru(self.gru, self.embedding(ids), mask), mask

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the attention-weighted mean of the states."""
        mask = mask | ~mask.any(dim=1, keepdim=True)  # an empty text has no word to attend to
        weights = self.score(tokens).squeeze(2).masked_fill(~mask, -1e9).softmax(dim=1)
        return (weights[:, :, None] * tokens).sum(dim=1)

    def layer_groups(self) -> list[nn.Module]:
        """Return the embedding, the GRU and the attention."""
        return [self.embedding, self.gru, self.score]


@register("word-attention", "text")
class WordAttention(BiGRUAttention):
    """Learned queries ("which colour?") that attend to context-free word embeddings, or to nothing.

    Attention scores come from a bidirectional GRU, values from a separate embedding. The features of "red" are thus the
    same in "red ball" and in "red box", and an agent generalises to unseen pairs of words. Pooled GRU states (`gru`,
    `bigru-attention`) encode whole sentences instead.
    """

    def __init__(
        self, space: spaces.Space, embedding: int = 32, hidden: int = 128, questions: int = 32, answer: int = 16
    ):
        super().__init__(space, embedding, hidden)
        self.score = nn.Linear(self.token_dim, questions)
        self.answers = nn.Embedding(self.embedding.num_embeddings, answer)
        self.parts = (self.token_dim, answer)
        self.token_dim, self.out_dim = sum(self.parts), questions * answer

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return at each word the GRU states and the value embedding, concatenated."""
        states, mask = super().tokens(x)
        return torch.cat([states, self.answers(x.long())], dim=2), mask

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the result of each query, concatenated."""
        states, values = tokens.split(self.parts, dim=2)
        return attention_pool(self.score(states), mask, values).flatten(1)

    def layer_groups(self) -> list[nn.Module]:
        """Return the embedding, the GRU, and the attention with its values."""
        return [self.embedding, self.gru, nn.ModuleList([self.score, self.answers])]


@register("textcnn", "text")
class TextCNN(TextEncoder):
    """Convolutions over 2, 3 and 4 words, max-pooled over time."""

    def __init__(self, space: spaces.Space, embedding: int = 64, out_dim: int = 128, filters: int = 64):
        super().__init__(space, embedding)
        self.convs = nn.ModuleList(nn.Conv1d(embedding, filters, size, padding=size - 1) for size in (2, 3, 4))
        self.fc = nn.Sequential(nn.Linear(3 * filters, out_dim), nn.ReLU())
        self.out_dim = out_dim

    def pooled(self, x: Tensor) -> Tensor:
        """Return the maximum over time of each filter, through a linear layer."""
        words = self.embedding(x.long()).transpose(1, 2)
        return self.fc(torch.cat([conv(words).relu().amax(dim=2) for conv in self.convs], dim=1))

    def layer_groups(self) -> list[nn.Module]:
        """Return the embedding, the convolutions and the linear layer."""
        return [self.embedding, self.convs, self.fc]


@register("tiny-transformer", "text")
class TinyTransformer(TextEncoder):
    """Layers of self-attention, mean-pooled over words."""

    def __init__(self, space: spaces.Space, out_dim: int = 128, layers: int = 2, heads: int = 4):
        super().__init__(space, out_dim)
        assert isinstance(space, spaces.MultiDiscrete)
        self.position = nn.Parameter(0.02 * torch.randn(space.shape[0], out_dim))
        layer = nn.TransformerEncoderLayer(out_dim, heads, 2 * out_dim, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(out_dim), enable_nested_tensor=False)
        self.token_dim = self.out_dim = out_dim

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the contextual embedding of each word."""
        ids = x.long()
        mask = ids != 0
        attended = mask | ~mask.any(dim=1, keepdim=True)  # attention over nothing would be NaN
        words = self.embedding(ids) + self.position[: x.shape[1]]
        return self.layers(words, src_key_padding_mask=~attended), mask

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Return the mean over words."""
        return masked_mean(tokens, mask)

    def layer_groups(self) -> list[nn.Module]:
        """Return the embedding and each Transformer layer."""
        return [self.embedding, *self.layers.layers]

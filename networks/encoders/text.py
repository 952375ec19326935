"""Encoders of token ids [L], 0 for padding.

GRU: as in BabyAI (Chevalier-Boisvert et al. 2019). TextCNN: Kim 2014. Attention over a bidirectional GRU: Yang et al.
2016 (section 2.2, one level); several such attentions beside each other: Lin et al. 2017 (section 2.1). Bag of words:
the mean of Iyyer et al. 2015 (section 2). Transformer: Vaswani et al. 2017, two layers, normalised first.
"""

from __future__ import annotations

import torch
from gymnasium import spaces
from torch import Tensor, nn

from networks.encoders.base import Encoder, EncoderError, attention_pool, real_mean, recurrent, register
from networks.tensors import map_unique_rows


class TextEncoder(Encoder):
    """Reads each text once, however many rows have it, up to its last word."""

    modality = "text"

    def __init__(self, space: spaces.Space, embedding: int):
        super().__init__()
        if not isinstance(space, spaces.MultiDiscrete) or len(space.shape) != 1:
            raise EncoderError(f"a text encoder reads token ids [length], not {space}")
        self.embedding = nn.Embedding(int(space.nvec.max()), embedding, padding_idx=0)

    def forward(self, x: Tensor) -> Tensor:
        """[B, L] -> [B, out_dim]."""
        return map_unique_rows(self.pooled, x)

    def pooled(self, x: Tensor) -> Tensor:
        """Return the features of texts [B, L] that are all different."""
        return self.pool(*self.tokens(x))


@register("gru", "text")
class TextGRU(TextEncoder):
    """The state of a GRU after the last word."""

    def __init__(self, space: spaces.Space, embedding: int = 32, out_dim: int = 128):
        super().__init__(space, embedding)
        self.gru = nn.GRU(embedding, out_dim, batch_first=True)
        self.token_dim = self.out_dim = out_dim

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the state after each word."""
        ids = x.long()
        return self.gru(self.embedding(ids))[0], ids != 0

    def pool(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the state after the last word."""
        return tokens[torch.arange(len(tokens), device=tokens.device), real.sum(dim=1).clamp(min=1) - 1]

    def layer_groups(self) -> list[nn.Module]:
        """Return words, then the GRU."""
        return [self.embedding, self.gru]


@register("bigru-attention", "text")
class BiGRUAttention(TextEncoder):
    """A GRU in both directions; its states weighed by learned attention."""

    def __init__(self, space: spaces.Space, embedding: int = 32, out_dim: int = 128):
        super().__init__(space, embedding)
        self.gru = nn.GRU(embedding, out_dim // 2, batch_first=True, bidirectional=True)
        self.score: nn.Module = nn.Sequential(nn.Linear(out_dim, out_dim), nn.Tanh(), nn.Linear(out_dim, 1, bias=False))
        self.token_dim = self.out_dim = out_dim // 2 * 2

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return both states at each word."""
        ids = x.long()
        real = ids != 0
        return recurrent(self.gru, self.embedding(ids), real), real

    def pool(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the states, weighed."""
        real = real | ~real.any(dim=1, keepdim=True)  # an empty text has no word to attend to
        weights = self.score(tokens).squeeze(2).masked_fill(~real, -1e9).softmax(dim=1)
        return (weights[:, :, None] * tokens).sum(dim=1)

    def layer_groups(self) -> list[nn.Module]:
        """Return words, the GRU, attention."""
        return [self.embedding, self.gru, self.score]


@register("word-attention", "text")
class WordAttention(BiGRUAttention):
    """Learned questions ("which colour?"), each answered by the words themselves, or by nothing.

    A GRU's states say which words answer; the answers are embeddings, without what stands around them. So the features
    of "red" and of "ball" are the same in "red ball" as in "red box", and whoever reads both reads pairs that it never
    met. The state after the last word, and states weighed, are codes of whole sentences.
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
        """Return both states at each word, and the word itself."""
        states, real = super().tokens(x)
        return torch.cat([states, self.answers(x.long())], dim=2), real

    def pool(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the answers, side by side."""
        states, words = tokens.split(self.parts, dim=2)
        return attention_pool(self.score(states), real, words).flatten(1)

    def layer_groups(self) -> list[nn.Module]:
        """Return words, the GRU, attention with its answers."""
        return [self.embedding, self.gru, nn.ModuleList([self.score, self.answers])]


@register("textcnn", "text")
class TextCNN(TextEncoder):
    """Convolutions over 2, 3 and 4 words, and the strongest answer of each filter."""

    def __init__(self, space: spaces.Space, embedding: int = 64, out_dim: int = 128, filters: int = 64):
        super().__init__(space, embedding)
        self.convs = nn.ModuleList(nn.Conv1d(embedding, filters, size, padding=size - 1) for size in (2, 3, 4))
        self.fc = nn.Sequential(nn.Linear(3 * filters, out_dim), nn.ReLU())
        self.out_dim = out_dim

    def pooled(self, x: Tensor) -> Tensor:
        """Return the maximum over time of each filter, and a layer."""
        words = self.embedding(x.long()).transpose(1, 2)
        return self.fc(torch.cat([conv(words).relu().amax(dim=2) for conv in self.convs], dim=1))

    def layer_groups(self) -> list[nn.Module]:
        """Return words, filters, the last layer."""
        return [self.embedding, self.convs, self.fc]


@register("tiny-transformer", "text")
class TinyTransformer(TextEncoder):
    """Two layers of self-attention, and the mean over words."""

    def __init__(self, space: spaces.Space, out_dim: int = 128, layers: int = 2, heads: int = 4):
        super().__init__(space, out_dim)
        assert isinstance(space, spaces.MultiDiscrete)
        self.position = nn.Parameter(0.02 * torch.randn(space.shape[0], out_dim))
        layer = nn.TransformerEncoderLayer(out_dim, heads, 2 * out_dim, 0.0, batch_first=True, norm_first=True)
        self.layers = nn.TransformerEncoder(layer, layers, nn.LayerNorm(out_dim), enable_nested_tensor=False)
        self.token_dim = self.out_dim = out_dim

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what each word has become."""
        ids = x.long()
        real = ids != 0
        seen = real | ~real.any(dim=1, keepdim=True)
        words = self.embedding(ids) + self.position[: x.shape[1]]
        return self.layers(words, src_key_padding_mask=~seen), real

    def pool(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the mean over words."""
        return real_mean(tokens, real)

    def layer_groups(self) -> list[nn.Module]:
        """Return words, then each layer of attention."""
        return [self.embedding, *self.layers.layers]

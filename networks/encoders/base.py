"""What an encoder is: raw observations in, features out, and a description that it can be built from again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn
from torch.nn import functional as F

from networks.torsos.base import Torso

SCHEMA = 1
"""Of config.json; a higher one was written by a later version."""
Modality = Literal["image", "grid", "text", "audio", "vector"]


class EncoderError(ValueError):
    """An encoder that cannot be built, read or used, in one line that says why and what to do."""


@dataclass(frozen=True)
class EncoderSpec:
    """What config.json says of an encoder: enough to build it, and to refuse what it does not read."""

    modality: Modality
    arch: str
    kwargs: dict[str, Any]
    """Of the constructor, beside the space."""
    input: dict[str, Any]
    """The space of its observations: kind, shape, dtype, and what its numbers mean (sample_rate, vocabulary)."""
    out_dim: int
    token_dim: int | None
    """Width of `tokens`; None for an encoder without."""
    preprocess: dict[str, Any] = field(default_factory=dict)
    """What was done to the data outside of the encoder, in words."""
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EncoderSpec:
        """Rebuild a spec; raise EncoderError for what this version does not know."""
        schema = values.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise EncoderError(f"it has schema {schema}, and this version reads up to {SCHEMA}; use a later version")
        unknown = sorted(set(values) - {each.name for each in fields(cls)})
        missing = sorted({"modality", "arch", "kwargs", "input", "out_dim"} - set(values))
        if unknown or missing:
            words = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"no {', '.join(missing)}"] * bool(missing)
            raise EncoderError(f"its config.json has {' and '.join(words)}")
        return cls(**{"token_dim": None, **values})


class Encoder(Torso):
    """Reads raw observations (uint8 frames, token ids, waveforms); every constant used on them is a saved buffer."""

    modality: ClassVar[Modality]
    spec: EncoderSpec

    def forward(self, x: Tensor) -> Tensor:
        """[B, ...] of the observation's own type -> features [B, out_dim]."""
        raise NotImplementedError

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return [B, T, token_dim], the features of places or moments, and which of them are real, bool [B, T]."""
        raise EncoderError(f"the encoder '{self.spec.arch}' has no tokens")

    def pool(self, tokens: Tensor, real: Tensor) -> Tensor:
        """Return the features [B, out_dim] that tokens come to."""
        raise NotImplementedError

    def features_and_tokens(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, tokens and which of these are real, of one pass."""
        tokens, real = self.tokens(x)
        return self.pool(tokens, real), tokens, real

    def layer_groups(self) -> list[nn.Module]:
        """Return the parts from the input to the features, for layer-wise learning rates and unfreezing."""
        raise NotImplementedError


def recurrent(gru: nn.GRU, x: Tensor, real: Tensor) -> Tensor:
    """Return a GRU's states at the real places, [B, T, D], 0 behind them: x [B, T, E], real bool [B, T]."""
    lengths = real.sum(dim=1).clamp(min=1).cpu()
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def real_mean(tokens: Tensor, real: Tensor) -> Tensor:
    """Return the mean of the tokens that are real, [B, D]."""
    share = real[:, :, None].float()
    return (tokens * share).sum(dim=1) / share.sum(dim=1).clamp(min=1.0)


def attention_pool(scores: Tensor, real: Tensor, answers: Tensor) -> Tensor:
    """Return what questions find: scores [B, T, Q], real bool [B, T], answers [B, T, D] -> [B, Q, D].

    A softmax over the places that are real, and over none of them, whose score is 0 and whose answer is 0.
    """
    scores = scores.masked_fill(~real[:, :, None], -1e9)
    weights = F.pad(scores, (0, 0, 0, 1)).softmax(dim=1)[:, :-1]
    return torch.einsum("btq,btd->bqd", weights, answers)


Builder = Callable[..., Encoder]
ARCHITECTURES: dict[str, tuple[Modality, Builder]] = {}
"""Name -> what it reads, and what builds it: (space, **kwargs) -> Encoder."""


def register(name: str, modality: Modality) -> Callable[[Builder], Builder]:
    """Add a builder to the architectures."""

    def add(builder: Builder) -> Builder:
        ARCHITECTURES[name] = (modality, builder)
        return builder

    return add


def build(arch: str, space: spaces.Space, meaning: dict[str, Any] | None = None, **kwargs: Any) -> Encoder:
    """Build an encoder of observations of `space`; `meaning` goes into the spec's input beside shape and dtype."""
    if arch not in ARCHITECTURES:
        raise EncoderError(f"there is no architecture '{arch}'; there are {', '.join(ARCHITECTURES)}")
    modality, builder = ARCHITECTURES[arch]
    try:
        encoder = builder(space, **kwargs)
    except TypeError as error:
        raise EncoderError(f"the architecture '{arch}' cannot be built so: {error}") from error
    encoder.spec = EncoderSpec(
        modality,
        arch,
        kwargs,
        {**describe(space), **(meaning or {})},
        encoder.out_dim,
        getattr(encoder, "token_dim", None),
    )
    return encoder


def describe(space: spaces.Space) -> dict[str, Any]:
    """Return kind, shape and dtype of a space of arrays, as in a spec's input."""
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "ids", "shape": list(space.shape), "dtype": str(space.dtype), "size": int(space.nvec.max())}
    if isinstance(space, spaces.Box):
        bounds = {"low": float(space.low.min()), "high": float(space.high.max())}
        finite = {name: value for name, value in bounds.items() if np.isfinite(value)}
        return {"kind": "box", "shape": list(space.shape), "dtype": str(space.dtype), **finite}
    raise EncoderError(f"no encoder reads observations of the space {space}")


def space_of(about: dict[str, Any]) -> spaces.Space:
    """Return the space that `describe` described."""
    try:
        if about["kind"] == "ids":
            return spaces.MultiDiscrete(np.full(about["shape"], about["size"]), dtype=np.dtype(about["dtype"]).type)
        low, high = about.get("low", -np.inf), about.get("high", np.inf)
        return spaces.Box(low, high, tuple(about["shape"]), np.dtype(about["dtype"]).type)
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderError(f"its config.json does not describe what it reads: {error}") from error

"""Encoder interface, the spec from which an encoder is rebuilt, and the registry of architectures."""

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
"""Version of config.json; a higher number comes from a later version of this code."""
Modality = Literal["image", "grid", "text", "audio", "vector"]


class EncoderError(ValueError):
    """An encoder cannot be built, read or used; the message is one line with the reason and a remedy."""


@dataclass(frozen=True)
class EncoderSpec:
    """Everything needed to rebuild an encoder and to check whether an observation fits it (in config.json)."""

    modality: Modality
    arch: str
    kwargs: dict[str, Any]
    """Constructor arguments besides the space."""
    input: dict[str, Any]
    """Observation space (kind, shape, dtype) and the meaning of its values (sample_rate, vocabulary)."""
    out_dim: int
    token_dim: int | None
    """Width of `tokens`; None if the encoder has none."""
    preprocess: dict[str, Any] = field(default_factory=dict)
    """Preprocessing applied to observations before the encoder."""
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> EncoderSpec:
        """Rebuild a spec; raise EncoderError for unknown or missing fields, or a later version."""
        schema = values.get("schema")
        if not isinstance(schema, int) or schema > SCHEMA:
            raise EncoderError(f"it has schema {schema}, but this version reads up to {SCHEMA}; use a later version")
        unknown = sorted(set(values) - {each.name for each in fields(cls)})
        missing = sorted({"modality", "arch", "kwargs", "input", "out_dim"} - set(values))
        if unknown or missing:
            problems = [f"unknown {', '.join(unknown)}"] * bool(unknown) + [f"no {', '.join(missing)}"] * bool(missing)
            raise EncoderError(f"its config.json has {' and '.join(problems)}")
        return cls(**{"token_dim": None, **values})


class Encoder(Torso):
    """Maps raw observations (uint8 frames, token ids, waveforms) to features; input constants are saved buffers."""

    modality: ClassVar[Modality]
    spec: EncoderSpec

    def forward(self, x: Tensor) -> Tensor:
        """Observations [B, ...] in their own dtype -> features [B, out_dim]."""
        raise NotImplementedError

    def tokens(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features of positions or time steps [B, T, token_dim], and the mask of valid ones, bool [B, T]."""
        raise EncoderError(f"the encoder '{self.spec.arch}' has no tokens")

    def pool(self, tokens: Tensor, mask: Tensor) -> Tensor:
        """Pool tokens [B, T, token_dim] with mask [B, T] into features [B, out_dim]."""
        raise NotImplementedError

    def features_and_tokens(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, tokens and mask from a single forward pass."""
        tokens, mask = self.tokens(x)
        return self.pool(tokens, mask), tokens, mask

    def layer_groups(self) -> list[nn.Module]:
        """Return the layers from input to features, for layer-wise learning rates and unfreezing."""
        raise NotImplementedError


def packed_gru(gru: nn.GRU, x: Tensor, mask: Tensor) -> Tensor:
    """Run a GRU over x [B, T, E] up to each sequence's length in mask [B, T]; states [B, T, D], 0 after the end."""
    lengths = mask.sum(dim=1).clamp(min=1).cpu()
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    return nn.utils.rnn.pad_packed_sequence(gru(packed)[0], batch_first=True, total_length=x.shape[1])[0]


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean of tokens [B, T, D] over the valid positions of mask [B, T]: [B, D]."""
    weights = mask[:, :, None].float()
    return (tokens * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1.0)


def attention_pool(scores: Tensor, mask: Tensor, values: Tensor) -> Tensor:
    """Attend with Q queries: scores [B, T, Q], mask bool [B, T], values [B, T, D] -> [B, Q, D].

    Masked softmax with an extra "none" option, whose score and value are 0.
    """
    scores = scores.masked_fill(~mask[:, :, None], -1e9)
    weights = F.pad(scores, (0, 0, 0, 1)).softmax(dim=1)[:, :-1]
    return torch.einsum("btq,btd->bqd", weights, values)


Builder = Callable[..., Encoder]
ARCHITECTURES: dict[str, tuple[Modality, Builder]] = {}
"""Name -> modality and constructor (space, **kwargs) -> Encoder."""


def register(name: str, modality: Modality) -> Callable[[Builder], Builder]:
    """Return a decorator that adds a constructor to `ARCHITECTURES`."""

    def add(builder: Builder) -> Builder:
        ARCHITECTURES[name] = (modality, builder)
        return builder

    return add


def build(arch: str, space: spaces.Space, meaning: dict[str, Any] | None = None, **kwargs: Any) -> Encoder:
    """Build an encoder for `space`; `meaning` is stored in the spec's input beside shape and dtype."""
    if arch not in ARCHITECTURES:
        raise EncoderError(f"there is no architecture '{arch}'; there are {', '.join(ARCHITECTURES)}")
    modality, builder = ARCHITECTURES[arch]
    try:
        encoder = builder(space, **kwargs)
    except TypeError as error:
        raise EncoderError(f"the architecture '{arch}' cannot be built with these arguments: {error}") from error
    encoder.spec = EncoderSpec(
        modality,
        arch,
        kwargs,
        {**space_to_json(space), **(meaning or {})},
        encoder.out_dim,
        getattr(encoder, "token_dim", None),
    )
    return encoder


def space_to_json(space: spaces.Space) -> dict[str, Any]:
    """Return kind, shape and dtype of a Box or MultiDiscrete space, as in a spec's input."""
    if isinstance(space, spaces.MultiDiscrete):
        return {"kind": "ids", "shape": list(space.shape), "dtype": str(space.dtype), "size": int(space.nvec.max())}
    if isinstance(space, spaces.Box):
        bounds = {"low": float(space.low.min()), "high": float(space.high.max())}
        finite = {name: value for name, value in bounds.items() if np.isfinite(value)}
        return {"kind": "box", "shape": list(space.shape), "dtype": str(space.dtype), **finite}
    raise EncoderError(f"no encoder supports the observation space {space}")


def space_from_json(values: dict[str, Any]) -> spaces.Space:
    """Invert `space_to_json`."""
    try:
        if values["kind"] == "ids":
            return spaces.MultiDiscrete(np.full(values["shape"], values["size"]), dtype=np.dtype(values["dtype"]).type)
        low, high = values.get("low", -np.inf), values.get("high", np.inf)
        return spaces.Box(low, high, tuple(values["shape"]), np.dtype(values["dtype"]).type)
    except (KeyError, TypeError, ValueError) as error:
        raise EncoderError(f"its config.json does not describe an observation space: {error}") from error

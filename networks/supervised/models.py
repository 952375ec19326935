"""Supervised models: an encoder with heads, a loss and predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from networks.encoders.base import Encoder, EncoderError
from networks.encoders.vocabulary import BEGIN, END, PAD
from networks.supervised.data import IGNORE
from networks.tensors import trim_padding

AnyModel = TypeVar("AnyModel", bound="SupervisedModel")


class SupervisedModel(nn.Module, ABC):
    """Base: an encoder with heads."""

    encoder: Encoder
    heads: nn.ModuleDict

    @abstractmethod
    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Return the mean loss of a batch, a scalar."""

    @abstractmethod
    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the predictions for a batch by head: class probabilities [B, classes] or token ids [B, T]."""

    def predictions(self, x: np.ndarray, batch_size: int = 512) -> dict[str, np.ndarray]:
        """Return the predictions for any number of inputs, computed in eval mode."""
        training, device = self.training, next(self.parameters()).device
        self.eval()
        parts: dict[str, list[np.ndarray]] = {}
        with torch.inference_mode():
            for start in range(0, len(x), batch_size):
                batch = torch.from_numpy(np.ascontiguousarray(x[start : start + batch_size])).to(device)
                for name, value in self.predict(batch).items():
                    parts.setdefault(name, []).append(value.cpu().numpy())
        self.train(training)
        return {name: np.concatenate(arrays) for name, arrays in parts.items()}


class Classifier(SupervisedModel):
    """A linear layer per head; cross-entropy, weighted per class by `weights`, summed over heads."""

    def __init__(self, encoder: Encoder, classes: Mapping[str, int], weights: Mapping[str, np.ndarray] | None = None,
                 smoothing: float = 0.0):  # fmt: skip
        super().__init__()
        self.encoder, self.smoothing = encoder, smoothing
        self.heads = nn.ModuleDict({name: nn.Linear(encoder.out_dim, count) for name, count in classes.items()})
        self.weights = {name: torch.from_numpy(value).float() for name, value in (weights or {}).items()}

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Return the logits [B, classes] by head."""
        features = self.encoder(x).float()
        return {name: head(features) for name, head in self.heads.items()}

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the known targets in nats, summed over heads."""
        total = torch.zeros((), device=x.device)
        for name, logits in self.logits(x).items():
            weight = self.weights[name].to(x.device) if name in self.weights else None
            known = y[name] != IGNORE
            if bool(known.any()):
                total = total + F.cross_entropy(logits[known], y[name][known], weight, label_smoothing=self.smoothing)
        return total

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the class probabilities [B, classes] by head."""
        return {name: logits.softmax(dim=1) for name, logits in self.logits(x).items()}


class InverseDynamicsModel(SupervisedModel):
    """Predicts the action between two observations [B, 2, ...] from the features of both (Pathak et al. 2017, 2.2).

    The encoder thus learns features of the parts that the player's actions affect.
    """

    def __init__(self, encoder: Encoder, head: str, classes: int, weights: np.ndarray | None = None, hidden: int = 256):
        super().__init__()
        self.encoder, self.head = encoder, head
        layers = (nn.Linear(2 * encoder.out_dim, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        self.heads = nn.ModuleDict({head: nn.Sequential(*layers)})
        self.weight = None if weights is None else torch.from_numpy(weights).float()

    def logits(self, x: Tensor) -> Tensor:
        """Return the logits [B, classes]."""
        features = self.encoder(x.flatten(0, 1)).float()
        return self.heads[self.head](features.view(len(x), -1))

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy in nats."""
        weight = None if self.weight is None else self.weight.to(x.device)
        return F.cross_entropy(self.logits(x), y[self.head], weight)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the class probabilities [B, classes]."""
        return {self.head: self.logits(x).softmax(dim=1)}


class SlotFiller(SupervisedModel):
    """Each head attends to the encoder's tokens with a learned query, followed by a linear layer.

    The pooled features, which agents use, are trained on the same targets; their metric is `pooled_exact`.
    """

    def __init__(self, encoder: Encoder, classes: Mapping[str, int]):
        super().__init__()
        assert encoder.spec.token_dim is not None
        width, self.names = encoder.spec.token_dim, tuple(classes)
        self.encoder = encoder
        self.heads = nn.ModuleDict(
            {
                "query": nn.Linear(width, len(classes), bias=False),
                "slots": nn.ModuleDict({name: nn.Linear(width, count) for name, count in classes.items()}),
                "pooled": nn.ModuleDict({name: nn.Linear(encoder.out_dim, count) for name, count in classes.items()}),
            }
        )

    def logits(self, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return logits [B, classes] by head, from the tokens and from the pooled features."""
        x = trim_padding(x) if self.encoder.spec.modality == "text" else x
        pooled, tokens, mask = self.encoder.features_and_tokens(x)
        weights = self.heads["query"](tokens).masked_fill(~mask[:, :, None], -1e9).softmax(dim=1)  # [B, T, heads]
        attended = torch.einsum("bth,btd->hbd", weights, tokens)
        heads: Any = self.heads
        slots = {name: heads["slots"][name](part) for name, part in zip(self.names, attended, strict=True)}
        return slots, {name: heads["pooled"][name](pooled) for name in self.names}

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy summed over heads, from tokens and from pooled features."""
        total = torch.zeros((), device=x.device)
        for by_head in self.logits(x):
            for name, logits in by_head.items():
                total = total + F.cross_entropy(logits, y[name])
        return total

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return class probabilities by head, and those from the pooled features as `pooled <head>`."""
        slots, pooled = self.logits(x)
        probabilities = {name: logits.softmax(dim=1) for name, logits in slots.items()}
        return probabilities | {f"pooled {name}": logits.softmax(dim=1) for name, logits in pooled.items()}


class Transcriber(SupervisedModel):
    """Connectionist temporal classification over the frames of a recording; 0 is the blank."""

    def __init__(self, encoder: Encoder, letters: int):
        super().__init__()
        assert encoder.spec.token_dim is not None
        self.encoder = encoder
        self.heads = nn.ModuleDict({"text": nn.Linear(encoder.spec.token_dim, letters)})

    def log_probabilities(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log probabilities [B, T, letters] and the number of frames [B]."""
        tokens, mask = self.encoder.tokens(x)
        return self.heads["text"](tokens.float()).log_softmax(dim=2), mask.sum(dim=1)

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """CTC loss per letter."""
        log_probabilities, lengths = self.log_probabilities(x)
        targets = y["text"]
        targets_length = (targets != PAD).sum(dim=1)
        return F.ctc_loss(log_probabilities.transpose(0, 1), targets, lengths, targets_length, zero_infinity=True)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Greedy decoding: return the best path without repeats and blanks, [B, T], zero-padded."""
        log_probabilities, lengths = self.log_probabilities(x)
        best = log_probabilities.argmax(dim=2)
        frames = torch.arange(best.shape[1], device=best.device)
        best = best.masked_fill(frames[None] >= lengths[:, None], PAD)
        emitted = best != PAD
        emitted[:, 1:] &= best[:, 1:] != best[:, :-1]
        order = (~emitted).to(torch.int8).argsort(dim=1, stable=True)
        return {"text": (best * emitted).gather(1, order)}


class Translator(SupervisedModel):
    """GRU decoder with attention over the encoder's tokens (Luong et al. 2015, "general" score)."""

    def __init__(self, encoder: Encoder, words: int, longest: int, embedding: int = 64, hidden: int = 128):
        super().__init__()
        assert encoder.spec.token_dim is not None
        self.encoder, self.longest = encoder, longest
        width = encoder.spec.token_dim
        self.heads = nn.ModuleDict(
            {
                "embedding": nn.Embedding(words, embedding, padding_idx=PAD),
                "start": nn.Linear(encoder.out_dim, hidden),
                "gru": nn.GRU(embedding, hidden, batch_first=True),
                "query": nn.Linear(hidden, width, bias=False),
                "mix": nn.Linear(hidden + width, hidden),
                "out": nn.Linear(hidden, words),
            }
        )

    def _encode(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled, tokens, mask = self.encoder.features_and_tokens(x)
        return tokens, mask, torch.tanh(self.heads["start"](pooled))[None]

    def _decode(self, ids: Tensor, state: Tensor, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        states, state = self.heads["gru"](self.heads["embedding"](ids), state)
        scores = self.heads["query"](states) @ tokens.transpose(1, 2)
        context = scores.masked_fill(~mask[:, None], -1e9).softmax(dim=2) @ tokens
        return self.heads["out"](torch.tanh(self.heads["mix"](torch.cat([states, context], dim=2)))), state

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy per word with teacher forcing."""
        tokens, mask, state = self._encode(trim_padding(x))
        target = trim_padding(y["text"])
        logits, _ = self._decode(target[:, :-1], state, tokens, mask)
        return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Greedy decoding: return word ids [B, longest], zero-padded after END."""
        tokens, mask, state = self._encode(trim_padding(x))
        word = torch.full((len(x), 1), BEGIN, device=x.device)
        words, ended = [], torch.zeros(len(x), 1, dtype=torch.bool, device=x.device)
        for _ in range(self.longest):
            logits, state = self._decode(word, state, tokens, mask)
            word = logits.argmax(dim=2).masked_fill(ended, PAD)
            ended = ended | (word == END)
            words.append(word)
            if bool(ended.all()):
                break
        ids = torch.cat(words, dim=1)
        return {"text": F.pad(ids, (0, self.longest - ids.shape[1]))}


class Ensemble(SupervisedModel):
    """Averages the class probabilities of several models of one task (soft voting)."""

    def __init__(self, members: Sequence[SupervisedModel]):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.encoder = members[0].encoder

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Return the mean loss of the members."""
        return torch.stack([member.loss(x, y) for member in self.members]).mean()  # type: ignore[operator]

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return mean class probabilities by head; raise EncoderError for models that predict texts."""
        predictions = [member.predict(x) for member in self.members]  # type: ignore[operator]
        if not all(value.is_floating_point() for value in predictions[0].values()):
            raise EncoderError("texts cannot be averaged: an ensemble needs a task with classes")
        return {name: torch.stack([each[name] for each in predictions]).mean(dim=0) for name in predictions[0]}


def load_heads(model: AnyModel, heads: dict[str, Tensor]) -> AnyModel:
    """Load saved heads into a model and return it in eval mode; raise EncoderError if they do not match."""
    try:
        model.heads.load_state_dict(heads)
    except RuntimeError as error:
        raise EncoderError(
            f"the saved heads no longer match the model: {str(error).strip().splitlines()[0]}"
        ) from error
    return model.eval()


def strip_padding(ids: Any) -> list[int]:
    """Return the token ids of one row before its padding."""
    row = [int(index) for index in ids]
    return row[: row.index(PAD)] if PAD in row else row

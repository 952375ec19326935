"""An encoder with what a task puts on top of it: a loss to go down, and predictions to be judged by."""

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

AnySupervised = TypeVar("AnySupervised", bound="Supervised")


class Supervised(nn.Module, ABC):
    """Encoder and heads."""

    encoder: Encoder
    heads: nn.ModuleDict

    @abstractmethod
    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Return the mean loss of a batch."""

    @abstractmethod
    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return what the metrics look at, by head."""

    def predictions(self, x: np.ndarray, batch: int = 512) -> dict[str, np.ndarray]:
        """Return the predictions for any number of inputs, in eval mode."""
        was, device = self.training, next(self.parameters()).device
        self.eval()
        found: dict[str, list[np.ndarray]] = {}
        with torch.inference_mode():
            for start in range(0, len(x), batch):
                part = torch.from_numpy(np.ascontiguousarray(x[start : start + batch])).to(device)
                for name, value in self.predict(part).items():
                    found.setdefault(name, []).append(value.cpu().numpy())
        self.train(was)
        return {name: np.concatenate(parts) for name, parts in found.items()}


class Classifier(Supervised):
    """A linear layer for each head, cross-entropy summed over heads; `weights` per class against imbalance."""

    def __init__(self, encoder: Encoder, classes: Mapping[str, int], weights: Mapping[str, np.ndarray] | None = None,
                 smoothing: float = 0.0):  # fmt: skip
        super().__init__()
        self.encoder, self.smoothing = encoder, smoothing
        self.heads = nn.ModuleDict({name: nn.Linear(encoder.out_dim, count) for name, count in classes.items()})
        self.weights = {name: torch.from_numpy(value).float() for name, value in (weights or {}).items()}

    def logits(self, x: Tensor) -> dict[str, Tensor]:
        """Return [B, classes] for each head."""
        features = self.encoder(x).float()
        return {name: head(features) for name, head in self.heads.items()}

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy of the known targets, in nats, added up over heads."""
        total = torch.zeros((), device=x.device)
        for name, logits in self.logits(x).items():
            weight = self.weights[name].to(x.device) if name in self.weights else None
            known = y[name] != IGNORE
            if bool(known.any()):
                total = total + F.cross_entropy(logits[known], y[name][known], weight, label_smoothing=self.smoothing)
        return total

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the chances of the classes, [B, classes], by head."""
        return {name: logits.softmax(dim=1) for name, logits in self.logits(x).items()}


class InverseDynamicsModel(Supervised):
    """What was done between two observations [B, 2, ...]: from the features of both, a hidden layer, then the class.

    The inverse model of Pathak et al. 2017 (section 2.2); its encoder learns what the player has a hold on.
    """

    def __init__(self, encoder: Encoder, head: str, classes: int, weights: np.ndarray | None = None, hidden: int = 256):
        super().__init__()
        self.encoder, self.head = encoder, head
        layers = (nn.Linear(2 * encoder.out_dim, hidden), nn.ReLU(), nn.Linear(hidden, classes))
        self.heads = nn.ModuleDict({head: nn.Sequential(*layers)})
        self.weight = None if weights is None else torch.from_numpy(weights).float()

    def logits(self, x: Tensor) -> Tensor:
        """Return [B, classes]."""
        features = self.encoder(x.flatten(0, 1)).float()
        return self.heads[self.head](features.view(len(x), -1))

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy in nats."""
        weight = None if self.weight is None else self.weight.to(x.device)
        return F.cross_entropy(self.logits(x), y[self.head], weight)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the chances of the classes, [B, classes]."""
        return {self.head: self.logits(x).softmax(dim=1)}


class SlotFiller(Supervised):
    """Each head looks for its own words: learned queries over the encoder's tokens, then a linear layer for each.

    The pooled features learn the same beside it, for they are what an agent reads; they are judged as `pooled_exact`.
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

    def features_and_tokens(self, x: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Return logits [B, classes] by head, from the tokens and from the pooled features."""
        x = trim_padding(x) if self.encoder.spec.modality == "text" else x
        pooled, tokens, real = self.encoder.features_and_tokens(x)
        weights = self.heads["query"](tokens).masked_fill(~real[:, :, None], -1e9).softmax(dim=1)  # [B, T, heads]
        found = torch.einsum("bth,btd->hbd", weights, tokens)
        heads: Any = self.heads
        slots = {name: heads["slots"][name](part) for name, part in zip(self.names, found, strict=True)}
        return slots, {name: heads["pooled"][name](pooled) for name in self.names}

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy, added up over heads and over both ways."""
        total = torch.zeros((), device=x.device)
        for part in self.features_and_tokens(x):
            for name, logits in part.items():
                total = total + F.cross_entropy(logits, y[name])
        return total

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the chances of the classes by head, and those from the pooled features as `pooled <head>`."""
        slots, pooled = self.features_and_tokens(x)
        found = {name: logits.softmax(dim=1) for name, logits in slots.items()}
        return found | {f"pooled {name}": logits.softmax(dim=1) for name, logits in pooled.items()}


class Transcriber(Supervised):
    """Letters or words from the moments of a recording, by connectionist temporal classification; 0 is the blank."""

    def __init__(self, encoder: Encoder, letters: int):
        super().__init__()
        assert encoder.spec.token_dim is not None
        self.encoder = encoder
        self.heads = nn.ModuleDict({"text": nn.Linear(encoder.spec.token_dim, letters)})

    def scores(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return log chances [B, T, letters], and the number of moments [B]."""
        tokens, kept = self.encoder.tokens(x)
        return self.heads["text"](tokens.float()).log_softmax(dim=2), kept.sum(dim=1)

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """CTC loss per letter."""
        scores, lengths = self.scores(x)
        targets = y["text"]
        return F.ctc_loss(scores.transpose(0, 1), targets, lengths, (targets != PAD).sum(dim=1), zero_infinity=True)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the best path with repeats and blanks taken out, [B, T], 0 behind the end (greedy decoding)."""
        scores, lengths = self.scores(x)
        best = scores.argmax(dim=2)
        moments = torch.arange(best.shape[1], device=best.device)
        best = best.masked_fill(moments[None] >= lengths[:, None], PAD)
        kept = best != PAD
        kept[:, 1:] &= best[:, 1:] != best[:, :-1]
        order = (~kept).to(torch.int8).argsort(dim=1, stable=True)
        return {"text": (best * kept).gather(1, order)}


class Translator(Supervised):
    """A GRU decoder that attends to the encoder's tokens (Luong et al. 2015, general attention); greedy decoding."""

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

    def _read(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled, tokens, kept = self.encoder.features_and_tokens(x)
        return tokens, kept, torch.tanh(self.heads["start"](pooled))[None]

    def _decode(self, ids: Tensor, state: Tensor, tokens: Tensor, kept: Tensor) -> tuple[Tensor, Tensor]:
        states, state = self.heads["gru"](self.heads["embedding"](ids), state)
        scores = self.heads["query"](states) @ tokens.transpose(1, 2)
        context = scores.masked_fill(~kept[:, None], -1e9).softmax(dim=2) @ tokens
        return self.heads["out"](torch.tanh(self.heads["mix"](torch.cat([states, context], dim=2)))), state

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Cross-entropy per word, each given the true words before it."""
        tokens, kept, state = self._read(trim_padding(x))
        target = trim_padding(y["text"])
        logits, _ = self._decode(target[:, :-1], state, tokens, kept)
        return F.cross_entropy(logits.flatten(0, 1), target[:, 1:].flatten(), ignore_index=PAD)

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return the likeliest words one by one, [B, longest], up to the end mark."""
        tokens, kept, state = self._read(trim_padding(x))
        word = torch.full((len(x), 1), BEGIN, device=x.device)
        found, over = [], torch.zeros(len(x), 1, dtype=torch.bool, device=x.device)
        for _ in range(self.longest):
            logits, state = self._decode(word, state, tokens, kept)
            word = logits.argmax(dim=2).masked_fill(over, PAD)
            over = over | (word == END)
            found.append(word)
            if bool(over.all()):
                break
        ids = torch.cat(found, dim=1)
        return {"text": F.pad(ids, (0, self.longest - ids.shape[1]))}


class Ensemble(Supervised):
    """Several networks for one task, whose chances are averaged (soft vote)."""

    def __init__(self, members: Sequence[Supervised]):
        super().__init__()
        self.members = nn.ModuleList(members)
        self.encoder = members[0].encoder

    def loss(self, x: Tensor, y: Mapping[str, Tensor]) -> Tensor:
        """Return the mean of their losses."""
        return torch.stack([member.loss(x, y) for member in self.members]).mean()  # type: ignore[operator]

    def predict(self, x: Tensor) -> dict[str, Tensor]:
        """Return mean chances, by head; raise EncoderError for what writes texts, which cannot be averaged."""
        every = [member.predict(x) for member in self.members]  # type: ignore[operator]
        if not all(value.is_floating_point() for value in every[0].values()):
            raise EncoderError("texts cannot be averaged: an ensemble is for tasks that choose among classes")
        return {name: torch.stack([found[name] for found in every]).mean(dim=0) for name in every[0]}


def heads_state(model: Supervised) -> dict[str, Tensor]:
    """Return the heads' tensors by name."""
    return {key: value for key, value in model.heads.state_dict().items()}


def heads_from(model: AnySupervised, heads: dict[str, Tensor]) -> AnySupervised:
    """Give a module the heads that were saved; raise EncoderError where they are not its own."""
    try:
        model.heads.load_state_dict(heads)
    except RuntimeError as error:
        raise EncoderError(f"the saved heads do not fit any more: {str(error).strip().splitlines()[0]}") from error
    return model.eval()


def as_text(ids: Any) -> list[int]:
    """Return the numbers of one row before its padding."""
    row = [int(number) for number in ids]
    return row[: row.index(PAD)] if PAD in row else row

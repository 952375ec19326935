"""Vocabularies: a fixed order of words, saved with every encoder trained on it."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from networks.encoders.base import EncoderError

PAD, UNKNOWN, BEGIN, END = 0, 1, 2, 3
SPECIALS = ("<pad>", "<unk>", "<bos>", "<eos>")
Tokenizer = Literal["words", "letters", "characters"]


@dataclass(frozen=True)
class Vocabulary:
    """Ids 0 and 1 are padding and unknown tokens; with `marks`, 2 and 3 begin and end a text."""

    words: tuple[str, ...]
    marks: bool = False
    tokenizer: Tokenizer = "words"
    """words: of letters, digits and apostrophes; letters: single ones, as in Chinese; characters: with spaces."""

    @property
    def first(self) -> int:
        """Id of the first word."""
        return 4 if self.marks else 2

    @property
    def size(self) -> int:
        """Number of ids."""
        return self.first + len(self.words)

    @property
    def sha256(self) -> str:
        """Hash of the words and the tokenizer."""
        return hashlib.sha256(json.dumps([self.words, self.marks, self.tokenizer]).encode()).hexdigest()

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        if self.tokenizer == "letters":
            return [letter for letter in text if not letter.isspace()]
        if self.tokenizer == "characters":
            return list(text.lower())
        return re.findall(r"[\w']+", text.lower())

    def encode(self, text: str) -> list[int]:
        """Return the ids of a text's tokens, between BEGIN and END with `marks`."""
        id_of = {word: index for index, word in enumerate(self.words, start=self.first)}
        ids = [id_of.get(token, UNKNOWN) for token in self.split(text)]
        return [BEGIN, *ids, END] if self.marks else ids

    def array(self, texts: Iterable[str], length: int) -> np.ndarray:
        """Return the ids of N texts, int64 [N, length], padded or truncated."""
        rows = [self.encode(text)[:length] for text in texts]
        return np.array([row + [PAD] * (length - len(row)) for row in rows], np.int64).reshape(-1, length)

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of ids, up to END."""
        tokens: list[str] = []
        for index in ids:
            if index == END and self.marks:
                break
            if index >= self.first:
                tokens.append(self.words[index - self.first])
            elif index == UNKNOWN:
                tokens.append(SPECIALS[UNKNOWN])
        return (" " if self.tokenizer == "words" else "").join(tokens)

    def unknown_share(self, texts: Iterable[str]) -> tuple[float, list[str]]:
        """Return the share of unknown tokens, and up to five of them."""
        tokens = [token for text in texts for token in self.split(text)]
        known = set(self.words)
        unknown = [token for token in tokens if token not in known]
        return len(unknown) / max(len(tokens), 1), list(dict.fromkeys(unknown))[:5]

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {
            "words": list(self.words), "marks": self.marks, "tokenizer": self.tokenizer, "sha256": self.sha256,
            "specials": list(SPECIALS[: self.first]),
        }  # fmt: skip

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Vocabulary:
        """Rebuild a vocabulary; raise EncoderError if it was modified."""
        vocabulary = cls(tuple(values["words"]), values["marks"], values["tokenizer"])
        if vocabulary.sha256 != values["sha256"]:
            raise EncoderError("its vocab.json was changed after it was written")
        return vocabulary

    @classmethod
    def of(cls, texts: Iterable[str], marks: bool = False, tokenizer: Tokenizer = "words") -> Vocabulary:
        """Return the vocabulary of all tokens in `texts`, in alphabetical order."""
        empty = cls((), marks, tokenizer)
        return cls(tuple(sorted({token for text in texts for token in empty.split(text)})), marks, tokenizer)


def check_drift(vocabulary: Vocabulary, texts: Sequence[str], limit: float = 0.05) -> None:
    """Raise EncoderError if more than the share `limit` of the words is unknown."""
    share, unknown = vocabulary.unknown_share(texts)
    if share > limit:
        raise EncoderError(f"vocabulary drift: {share:.0%} of the words are unknown, such as {', '.join(unknown)}")

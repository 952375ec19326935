"""Words and their numbers, in a fixed order that is saved with whatever was trained on them."""

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
    """Numbers 0 and 1 are padding and what is unknown; with `marks`, 2 and 3 open and close a text."""

    words: tuple[str, ...]
    marks: bool = False
    tokenizer: Tokenizer = "words"
    """words of letters, digits and apostrophes; letters one by one, as Chinese is written; or these and spaces."""

    @property
    def first(self) -> int:
        """Number of the first word."""
        return 4 if self.marks else 2

    @property
    def size(self) -> int:
        """Numbers in all."""
        return self.first + len(self.words)

    @property
    def sha256(self) -> str:
        """What tells two vocabularies apart."""
        return hashlib.sha256(json.dumps([self.words, self.marks, self.tokenizer]).encode()).hexdigest()

    def split(self, text: str) -> list[str]:
        """Return the tokens of a text."""
        if self.tokenizer == "letters":
            return [letter for letter in text if not letter.isspace()]
        if self.tokenizer == "characters":
            return list(text.lower())
        return re.findall(r"[\w']+", text.lower())

    def encode(self, text: str) -> list[int]:
        """Return the numbers of a text's tokens, between marks where there are any."""
        numbers = {word: number for number, word in enumerate(self.words, start=self.first)}
        found = [numbers.get(token, UNKNOWN) for token in self.split(text)]
        return [BEGIN, *found, END] if self.marks else found

    def array(self, texts: Iterable[str], length: int) -> np.ndarray:
        """Return the numbers of several texts, int64 [N, length]; a longer one is cut."""
        rows = [self.encode(text)[:length] for text in texts]
        return np.array([row + [PAD] * (length - len(row)) for row in rows], np.int64).reshape(-1, length)

    def decode(self, numbers: Iterable[int]) -> str:
        """Return the text, up to its end."""
        found: list[str] = []
        for number in numbers:
            if number == END and self.marks:
                break
            if number >= self.first:
                found.append(self.words[number - self.first])
            elif number == UNKNOWN:
                found.append(SPECIALS[UNKNOWN])
        return (" " if self.tokenizer == "words" else "").join(found)

    def unknown_share(self, texts: Iterable[str]) -> tuple[float, list[str]]:
        """Return the share of tokens that are unknown, and the first of them."""
        tokens = [token for text in texts for token in self.split(text)]
        known = set(self.words)
        strange = [token for token in tokens if token not in known]
        return len(strange) / max(len(tokens), 1), list(dict.fromkeys(strange))[:5]

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold."""
        about = {"words": list(self.words), "marks": self.marks, "tokenizer": self.tokenizer, "sha256": self.sha256}
        return {**about, "specials": list(SPECIALS[: self.first])}

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Vocabulary:
        """Rebuild it; raise EncoderError where it is not what was saved."""
        found = cls(tuple(values["words"]), values["marks"], values["tokenizer"])
        if found.sha256 != values["sha256"]:
            raise EncoderError("its vocab.json was changed after it was written")
        return found

    @classmethod
    def of(cls, texts: Iterable[str], marks: bool = False, tokenizer: Tokenizer = "words") -> Vocabulary:
        """Return the vocabulary of all tokens of some texts, in alphabetical order."""
        empty = cls((), marks, tokenizer)
        return cls(tuple(sorted({token for text in texts for token in empty.split(text)})), marks, tokenizer)


def check_drift(vocabulary: Vocabulary, texts: Sequence[str], limit: float = 0.05) -> None:
    """Raise EncoderError where more than `limit` of the words are unknown."""
    share, strange = vocabulary.unknown_share(texts)
    if share > limit:
        raise EncoderError(f"vocabulary drift: {share:.0%} of the words are unknown, such as {', '.join(strange)}")

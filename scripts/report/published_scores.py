"""Published scores on Atari-57, and the human-normalised score."""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

DATA = Path(__file__).parent / "data"


class PublishedScore(NamedTuple):
    """One published score on a game of Atari-57; the fields are the columns of atari_columns.csv."""

    agent: str
    sticky: str
    """yes or no: whether actions repeat at random, as under the protocol `machado`."""
    frames: str
    """Emulator frames of training, four per env step."""
    source: str
    protocol: str
    """Other conditions that the score depends on."""
    score: float


@lru_cache(maxsize=1)
def _scores_by_game() -> dict[str, dict[str, str]]:
    """Return the rows of atari_scores.csv by game; the columns are described in atari_columns.csv."""
    with open(DATA / "atari_scores.csv", newline="", encoding="utf-8") as file:
        return {row["game"]: row for row in csv.DictReader(file)}


def _scores_of(env_id: str) -> dict[str, str] | None:
    """Return the row of ALE/Pong-v5; None unless the game is one of Atari-57."""
    match = re.fullmatch(r"ALE/(\w+)-v\d+", env_id)
    return _scores_by_game().get(match[1]) if match else None


def human_normalized(env_id: str, score: float) -> float | None:
    """Return (score - random) / (human - random); None unless the game is one of Atari-57."""
    row = _scores_of(env_id)
    if row is None:
        return None
    random, human = float(row["random"]), float(row["human"])
    return (score - random) / (human - random)


def published_scores(env_id: str, protocol: str) -> list[PublishedScore]:
    """Return scores published for a game with sticky actions (`machado`) or without (`classic`), best first.

    The two are never mixed. The list is empty for other protocols and for games outside Atari-57.
    """
    sticky = {"classic": "no", "machado": "yes"}.get(protocol)
    row = _scores_of(env_id)
    if row is None or sticky is None:
        return []
    with open(DATA / "atari_columns.csv", newline="", encoding="utf-8") as file:
        columns = [column for column in csv.DictReader(file) if column["sticky"] == sticky and row[column["column"]]]
    scores = [PublishedScore(score=float(row[column.pop("column")]), **column) for column in columns]
    return sorted(scores, key=lambda published: -published.score)

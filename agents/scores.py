"""The training score: one definition for the terminal, the page, and Python."""

from __future__ import annotations

from collections.abc import Sequence

SCORE_GAMES = 100
"""Games of a training score."""


def training_score(returns: Sequence[float]) -> float | None:
    """Return the mean return of the last SCORE_GAMES training games, or of all if there are fewer; None without any."""
    last = returns[-SCORE_GAMES:]
    return sum(last) / len(last) if last else None

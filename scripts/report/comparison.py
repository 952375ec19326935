"""Decide which of two groups of runs is better, or that their runs cannot tell."""

from __future__ import annotations

from dataclasses import dataclass
from math import comb, inf

import numpy as np

from scripts.report import statistics as st
from scripts.report.formats import si
from scripts.report.run_data import Group

MIN_RUNS = 3
"""Runs per group that a conclusion needs: with 2 against 2, equally good algorithms separate 1 time in 3."""


@dataclass(frozen=True)
class Comparison:
    """One group of runs against another on the same game and protocol."""

    a: Group
    b: Group
    probability: float | None
    """Probability that a run of `a` scores higher than a run of `b`; None below `MIN_RUNS` runs a side."""
    interval: st.Interval | None
    """95 % interval of the probability."""
    conclusion: str
    """The better group, or "cannot tell", with the reason."""


def compare_groups(a: Group, b: Group, seed: int = 0) -> Comparison:
    """Compare two groups that have scores; `seed` is the bootstrap's."""
    probability, interval = improvement([a.scores], [b.scores], seed)
    return Comparison(a, b, probability, interval, _conclusion(a, b, seed))


def improvement(x: st.Tasks, y: st.Tasks, seed: int = 0) -> tuple[float | None, st.Interval | None]:
    """Return the probability that a run of X beats one of Y, and its 95 % interval.

    Both are None where a side has fewer than `MIN_RUNS` runs of a task.
    """
    if min(len(scores) for scores in (*x, *y)) < MIN_RUNS:
        return None, None
    return float(st.probability_of_improvement(x, y)), st.improvement_interval(x, y, np.random.default_rng(seed))


def iqm_interval(group: Group, seed: int = 0) -> st.Interval | None:
    """Return the 95 % interval of a group's IQM, the same at every call; None with fewer than two scores."""
    return st.bootstrap([group.scores], st.iqm, np.random.default_rng(seed)) if len(group.scores) else None


def _conclusion(a: Group, b: Group, seed: int) -> str:
    n, m = len(a.scores), len(b.scores)
    if min(n, m) < MIN_RUNS:
        return f"cannot tell: {n} and {m} runs; a conclusion needs {MIN_RUNS} or more seeds a side"
    (low_a, high_a), (low_b, high_b) = (iqm_interval(group, seed) or (-inf, inf) for group in (a, b))
    if low_a <= high_b and low_b <= high_a:
        return "cannot tell: the intervals overlap"
    text = f"{(a if low_a > high_b else b).label} is better: the intervals do not overlap"
    odds = comb(n + m, n) / 2
    if odds < 100:
        text += f", though {n} and {m} runs of equally good algorithms separate completely 1 time in {odds:.0f}"
    steps = [sum(run.env_steps for run in group.runs) / len(group.runs) for group in (a, b)]
    if max(steps) > 1.05 * min(steps):
        text += f"; budgets differ ({si(steps[0])} and {si(steps[1])} env steps)"
    return text

"""Estimates over runs and tasks, with the intervals of Agarwal et al. 2021 (rliable).

"Deep Reinforcement Learning at the Edge of the Statistical Precipice". `tasks` is always a list with one array of
scores per task, one score per run: [..., runs of that task].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

RESAMPLES = 2000
"""Bootstrap resamples; rliable's default."""

Tasks = Sequence[np.ndarray]
Interval = tuple[float, float]


def iqm(tasks: Tasks) -> np.ndarray:
    """Interquartile mean: the mean of the middle half of all run x task scores."""
    from scipy.stats import trim_mean

    return np.asarray(trim_mean(np.concatenate(tasks, axis=-1), 0.25, axis=-1))


def mean(tasks: Tasks) -> np.ndarray:
    """Mean over tasks of each task's mean."""
    return np.mean([np.mean(scores, axis=-1) for scores in tasks], axis=0)


def median(tasks: Tasks) -> np.ndarray:
    """Median over tasks of each task's mean."""
    return np.median([np.mean(scores, axis=-1) for scores in tasks], axis=0)


def optimality_gap(tasks: Tasks, gamma: float = 1.0) -> np.ndarray:
    """Mean amount by which scores fall short of `gamma`; scores above it count as `gamma`."""
    return gamma - np.mean(np.minimum(np.concatenate(tasks, axis=-1), gamma), axis=-1)


def performance_profile(tasks: Tasks, thresholds: np.ndarray) -> np.ndarray:
    """Share of run x task scores above each threshold [K], as [..., K] (section 4.2)."""
    scores = np.concatenate(tasks, axis=-1)
    return np.mean(scores[..., None, :] > np.asarray(thresholds)[:, None], axis=-1)


def probability_of_improvement(x: Tasks, y: Tasks) -> np.ndarray:
    """Probability that a run of X beats a run of Y on the same task, ties counting half, averaged over tasks."""
    wins = [
        np.mean((a[..., :, None] > b[..., None, :]) + 0.5 * (a[..., :, None] == b[..., None, :]), axis=(-2, -1))
        for a, b in zip(x, y, strict=True)
    ]
    return np.mean(wins, axis=0)


def bootstrap_bands(
    tasks: Tasks, statistic: Callable[[Tasks], np.ndarray], rng: np.random.Generator, resamples: int = RESAMPLES
) -> tuple[np.ndarray, np.ndarray]:
    """Return the ends of the 95 % stratified percentile interval of a statistic (section 4.1).

    Runs are resampled within each task. `statistic` maps tasks of [..., resamples, runs] to [..., resamples]; the ends
    have the leading shape. At least one task must have two runs or more.
    """
    from scipy.stats import bootstrap

    # SciPy rejects samples of one score; a task with a single run has the same score in every resample.
    several = [scores for scores in tasks if scores.shape[-1] > 1]

    def of_resample(*drawn: np.ndarray, axis: int) -> np.ndarray:
        resampled = iter(drawn)
        shape = (*drawn[0].shape[:-1], 1)
        return statistic([next(resampled) if s.shape[-1] > 1 else np.broadcast_to(s, shape) for s in tasks])

    ends = bootstrap(
        several, of_resample, vectorized=True, axis=-1, method="percentile", n_resamples=resamples, rng=rng
    ).confidence_interval
    return ends.low, ends.high


def bootstrap(
    tasks: Tasks, statistic: Callable[[Tasks], np.ndarray], rng: np.random.Generator, resamples: int = RESAMPLES
) -> Interval | None:
    """Return the 95 % stratified percentile interval of a scalar statistic; None if every task has a single run."""
    if max(len(scores) for scores in tasks) < 2:
        return None
    low, high = bootstrap_bands(tasks, statistic, rng, resamples)
    return float(low), float(high)


def improvement_interval(x: Tasks, y: Tasks, rng: np.random.Generator, resamples: int = RESAMPLES) -> Interval | None:
    """Return the 95 % interval of the probability of improvement; None if a task of either side has a single run."""
    if min(len(scores) for scores in (*x, *y)) < 2:
        return None
    return bootstrap(
        [*x, *y], lambda drawn: probability_of_improvement(drawn[: len(x)], drawn[len(x) :]), rng, resamples
    )


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last `window` values at each index, or of all values so far if there are fewer."""
    total = np.concatenate(([0.0], np.cumsum(values)))
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(ends - window, 0)
    return (total[ends] - total[starts]) / (ends - starts)

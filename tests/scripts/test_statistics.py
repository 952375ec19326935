"""Test estimates and intervals against rliable's figures and numbers worked out by hand."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from scripts.report import statistics as st


def task(*scores: float) -> np.ndarray:
    return np.array(scores, float)


def test_iqm_is_the_mean_of_the_middle_half_over_all_tasks() -> None:
    assert float(st.iqm([task(0, 1, 2, 100)])) == 1.5
    assert float(st.iqm([task(0, 100), task(1, 2)])) == 1.5
    assert float(st.iqm([task(7, -3, 5, 6, 100, 4, 3, 9)])) == (4 + 5 + 6 + 7) / 4
    # a quarter of three scores is less than one score, so none is trimmed
    assert float(st.iqm([task(0, 0, 9)])) == 3.0


def test_mean_and_median_are_taken_over_the_means_of_tasks() -> None:
    tasks = [task(0, 2), task(10, 20, 30), task(100)]
    assert float(st.mean(tasks)) == pytest.approx((1 + 20 + 100) / 3)
    assert float(st.median(tasks)) == 20.0


def test_optimality_gap_caps_scores_at_gamma() -> None:
    assert float(st.optimality_gap([task(0.5, 3.0), task(0.0, 1.0)])) == pytest.approx(1 - (0.5 + 1 + 0 + 1) / 4)
    assert float(st.optimality_gap([task(1.0, 5.0)], gamma=2.0)) == pytest.approx(0.5)


def test_estimates_keep_leading_axes() -> None:
    tasks = [np.array([[0.0, 1, 2, 100], [4, 4, 4, 4]])]
    assert st.iqm(tasks).tolist() == [1.5, 4.0]
    assert st.median(tasks).tolist() == [25.75, 4.0]
    assert st.optimality_gap(tasks, 2.0).tolist() == [2 - 5 / 4, 0.0]


def test_probability_of_improvement_counts_ties_half_and_averages_tasks() -> None:
    assert float(st.probability_of_improvement([task(1, 2)], [task(0, 2, 3)])) == pytest.approx((1 + 1.5) / 6)
    both = float(st.probability_of_improvement([task(1, 2), task(9)], [task(0, 2, 3), task(1, 2)]))
    assert both == pytest.approx((2.5 / 6 + 1) / 2)


def test_bootstrap_resamples_within_each_task_only() -> None:
    drawn: list[np.ndarray] = []

    def statistic(tasks: st.Tasks) -> np.ndarray:
        drawn.extend(tasks)
        return st.mean(tasks)

    st.bootstrap([task(0, 1, 2), task(5), task(10, 11)], statistic, np.random.default_rng(0), 500)
    assert [scores.shape for scores in drawn] == [(500, 3), (500, 1), (500, 2)]
    assert [set(scores.ravel()) for scores in drawn] == [{0.0, 1.0, 2.0}, {5.0}, {10.0, 11.0}]


def test_bootstrap_bands_have_the_leading_axes() -> None:
    curves = np.array([[1.0, 2.0, 3.0], [7.0, 7.0, 7.0]])
    low, high = st.bootstrap_bands([curves], st.mean, np.random.default_rng(0), 500)
    assert low.shape == high.shape == (2,)
    assert low[0] < 2.0 < high[0]
    assert low[1] == high[1] == 7.0


def test_bootstrap_interval_agrees_with_all_resamples_enumerated() -> None:
    scores = task(1, 2, 4, 8)
    means = [np.mean(draw) for draw in product(scores, repeat=4)]
    low, high = st.bootstrap([scores], st.mean, np.random.default_rng(0), 20_000) or (0.0, 0.0)
    assert (low, high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=0.26)
    assert low < np.mean(scores) < high


def test_bootstrap_is_reproducible_and_needs_two_runs() -> None:
    first, second = (st.bootstrap([task(1, 5, 9)], st.iqm, np.random.default_rng(3), 200) for _ in range(2))
    assert first == second
    assert st.bootstrap([task(1), task(2)], st.iqm, np.random.default_rng(0)) is None
    assert st.improvement_interval([task(1)], [task(2, 3)], np.random.default_rng(0)) is None


def test_improvement_interval_of_separate_sides_is_certain() -> None:
    assert st.improvement_interval([task(5, 6, 7)], [task(1, 2)], np.random.default_rng(0)) == (1.0, 1.0)
    low, high = st.improvement_interval([task(0, 4)], [task(1, 3)], np.random.default_rng(0)) or (0.5, 0.5)
    assert low == 0.0
    assert high == 1.0


def test_running_mean_uses_past_values_only() -> None:
    assert st.running_mean(task(2, 4, 9, -3), 2).tolist() == [2.0, 3.0, 6.5, 3.0]
    assert st.running_mean(task(), 5).tolist() == []


def test_performance_profiles_count_scores_above_each_threshold() -> None:
    tasks = [task(0.0, 1.0), task(0.5, 2.0)]
    assert st.performance_profile(tasks, np.array([-1.0, 0.0, 0.5, 0.75, 2.0])).tolist() == [1.0, 0.75, 0.5, 0.5, 0.0]
    drawn = [np.random.default_rng(0).choice(scores, (7, 2)) for scores in tasks]
    profiles = st.performance_profile(drawn, np.array([0.25, 1.5]))
    assert profiles.shape == (7, 2)
    assert profiles[3].tolist() == st.performance_profile([part[3] for part in drawn], np.array([0.25, 1.5])).tolist()


THRESHOLDS = np.array([0.0, 0.25, 0.5, 1.0, 1.5])
RLIABLE = {
    (10, 5, 0.0): (
        1.1018789615384617, 1.10294612, 1.0735465000000002, 0.2041025999999999, 0.49800000000000005,
        [1.0, 0.94, 0.82, 0.54, 0.34],
    ),
    (5, 26, 1.0): (
        2.149653424242424, 2.157912830769231, 2.170029, 0.045080223076923165, 0.49538461538461537,
        [1.0, 0.9846153846153847, 0.9615384615384616, 0.8769230769230769, 0.7461538461538462],
    ),
    (3, 1, 2.0): (
        0.795119, 0.795119, 0.795119, 0.41402700000000003, 0.5555555555555556,
        [1.0, 1.0, 0.3333333333333333, 0.3333333333333333, 0.3333333333333333],
    ),
    (7, 4, 0.5): (
        1.0757255714285714, 1.0549567499999999, 1.0425604285714285, 0.23252117857142862, 0.5,
        [1.0, 0.8928571428571429, 0.7142857142857143, 0.5714285714285714, 0.25],
    ),
}  # fmt: skip
"""(runs, games, phase) -> figures of rliable 1.2.0: IQM, mean, median, optimality gap, P(X > Y), score distribution."""


def synthetic_scores(runs: int, games: int, phase: float) -> list[np.ndarray]:
    run, game = np.arange(runs)[:, None], np.arange(games)[None, :]
    table = np.round(0.9 + 0.8 * np.sin(1.7 * run + 2.3 * game + phase) + 0.1 * game, 6)
    return list(table.T)


@pytest.mark.parametrize("case", RLIABLE)
def test_estimates_equal_those_of_rliable(case: tuple[int, int, float]) -> None:
    runs, games, phase = case
    x, y = synthetic_scores(runs, games, phase), synthetic_scores(runs, games, phase + 0.4)
    *estimates, distribution = RLIABLE[case]
    computed = [st.iqm(x), st.mean(x), st.median(x), st.optimality_gap(x), st.probability_of_improvement(x, y)]
    assert computed == pytest.approx(estimates, abs=1e-9)
    assert st.performance_profile(x, THRESHOLDS) == pytest.approx(distribution, abs=1e-9)

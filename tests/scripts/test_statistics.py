"""Estimates against numbers worked out by hand, and reading of run folders, whole and broken."""

from __future__ import annotations

import csv
import json
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.report import statistics as st


def task(*scores: float) -> np.ndarray:
    return np.array(scores, float)


def test_iqm_is_the_mean_of_the_middle_half_over_all_tasks() -> None:
    assert float(st.iqm([task(0, 1, 2, 100)])) == 1.5
    assert float(st.iqm([task(0, 100), task(1, 2)])) == 1.5
    assert float(st.iqm([task(7, -3, 5, 6, 100, 4, 3, 9)])) == (4 + 5 + 6 + 7) / 4
    # three scores: a quarter of three is no whole score, so none is cut
    assert float(st.iqm([task(0, 0, 9)])) == 3.0


def test_mean_and_median_go_over_the_means_of_tasks() -> None:
    tasks = [task(0, 2), task(10, 20, 30), task(100)]
    assert float(st.mean(tasks)) == pytest.approx((1 + 20 + 100) / 3)
    assert float(st.median(tasks)) == 20.0


def test_optimality_gap_counts_what_lies_above_as_reached() -> None:
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


def test_bootstrap_draws_within_each_task_only() -> None:
    drawn = st.resample([task(0, 1, 2), task(10, 11)], 500, np.random.default_rng(0))
    assert [part.shape for part in drawn] == [(500, 3), (500, 2)]
    assert set(drawn[0].ravel()) == {0.0, 1.0, 2.0}
    assert set(drawn[1].ravel()) == {10.0, 11.0}


def test_bootstrap_interval_agrees_with_all_resamples_enumerated() -> None:
    scores = task(1, 2, 4, 8)
    means = [np.mean(draw) for draw in product(scores, repeat=4)]
    low, high = st.bootstrap([scores], st.mean, np.random.default_rng(0), 20_000) or (0.0, 0.0)
    assert (low, high) == pytest.approx(tuple(np.percentile(means, (2.5, 97.5))), abs=0.26)
    assert low < np.mean(scores) < high


def test_bootstrap_follows_its_generator_and_needs_two_runs() -> None:
    first, second = (st.bootstrap([task(1, 5, 9)], st.iqm, np.random.default_rng(3), 200) for _ in range(2))
    assert first == second
    assert st.bootstrap([task(1), task(2)], st.iqm, np.random.default_rng(0)) is None
    assert st.improvement_interval([task(1)], [task(2, 3)], np.random.default_rng(0)) is None


def test_improvement_interval_of_separate_sides_is_certain() -> None:
    assert st.improvement_interval([task(5, 6, 7)], [task(1, 2)], np.random.default_rng(0)) == (1.0, 1.0)
    low, high = st.improvement_interval([task(0, 4)], [task(1, 3)], np.random.default_rng(0)) or (0.5, 0.5)
    assert low == 0.0
    assert high == 1.0


def test_running_mean_looks_back_only() -> None:
    assert st.running_mean(task(2, 4, 9, -3), 2).tolist() == [2.0, 3.0, 6.5, 3.0]
    assert st.running_mean(task(), 5).tolist() == []


def test_human_normalised_score_of_pong() -> None:
    assert st.human_normalized("ALE/Pong-v5", -20.7) == pytest.approx(0.0)
    assert st.human_normalized("ALE/Pong-v5", 14.6) == pytest.approx(1.0)
    assert st.human_normalized("CartPole-v1", 500.0) is None
    assert st.human_normalized("ALE/Tetris-v5", 5.0) is None
    assert len(st._atari_table()) == 57


def write_run(folder: Path, lines: list[str], seed: int = 0, fingerprint: str = "aaa", **config: object) -> Path:
    folder.mkdir(parents=True)
    card = {"env_id": "CartPole-v1", "protocol": {"name": "native"}, "fingerprint": fingerprint}
    meta = {"algo": "ppo", "env_id": "CartPole-v1", "seed": seed, "config": {"seed": seed, **config}, "card": card}
    (folder / "config.json").write_text(json.dumps(meta))
    (folder / "metrics.jsonl").write_text("\n".join(lines))
    return folder


def game(steps: int, score: float) -> str:
    return json.dumps({"env_steps": steps, "wall_seconds": steps / 10, "episode/return": score})


def test_reading_keeps_games_evaluations_and_the_last_shares(tmp_path: Path) -> None:
    share = '{"env_steps": 30, "wall_seconds": 3.5, "time/env_share": %s, "time/learn_share": 0.5}'
    evaluation = '{"env_steps": 40, "wall_seconds": 4.0, "eval/return_mean": 7.5}'
    run = st.read_run(write_run(tmp_path / "r", [game(10, 1), share % 0.1, game(20, 3), share % 0.25, evaluation, ""]))
    assert run.games.tolist() == [[10, 1.0, 1], [20, 2.0, 3]]
    assert (run.score, run.best_eval, run.env_steps, run.wall_seconds) == (2.0, 7.5, 40, 4.0)
    assert run.shares == {"env": 0.25, "learn": 0.5}
    assert run.notes == ()


def test_final_score_is_of_the_last_hundred_games(tmp_path: Path) -> None:
    run = st.read_run(write_run(tmp_path / "r", [game(i, -1000 if i < 50 else i) for i in range(150)]))
    assert run.score == np.mean(range(50, 150))


def test_half_written_last_line_is_no_corruption(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    run = st.read_run(write_run(tmp_path / "r", [game(10, 1), '{"env_steps": 20, "wall_sec']))
    assert len(run.games) == 1
    assert run.notes == ()
    assert not recwarn.list


@pytest.mark.parametrize("bad", ["{oops", '"text"', '{"env_steps": 5}', '{"env_steps": NaN, "wall_seconds": 1}'])
def test_corrupted_line_in_the_middle_is_named_and_skipped(tmp_path: Path, bad: str) -> None:
    folder = write_run(tmp_path / "r", [game(10, 1), bad, game(20, 2)])
    with pytest.warns(UserWarning, match=r"skipped corrupted line 2$"):
        run = st.read_run(folder)
    assert run.games[:, 2].tolist() == [1, 2]
    assert "line 2" in run.notes[0]


def test_bytes_that_are_no_text_are_a_corrupted_line(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "r", [])
    (folder / "metrics.jsonl").write_bytes(game(10, 1).encode() + b"\n\x00\xff\xfe\n" + game(20, 2).encode() + b"\n")
    with pytest.warns(UserWarning, match="line 2"):
        assert len(st.read_run(folder).games) == 2


def test_numbers_that_are_none_are_left_out(tmp_path: Path) -> None:
    run = st.read_run(write_run(tmp_path / "r", [game(10, 1), game(20, float("nan")), game(30, 3)]))
    assert run.games[:, 2].tolist() == [1, 3]
    assert run.env_steps == 30


def test_what_is_no_run_says_so(tmp_path: Path) -> None:
    with pytest.raises(st.ReportError, match="not a folder"):
        st.read_run(tmp_path / "absent")
    (tmp_path / "plain").mkdir()
    with pytest.raises(st.ReportError, match=r"not a run: it has no config\.json"):
        st.read_run(tmp_path / "plain")
    (tmp_path / "plain" / "config.json").write_text("{")
    with pytest.raises(st.ReportError, match="not valid JSON"):
        st.read_run(tmp_path / "plain")
    for text in ("[]", '{"algo": "x"}', '{"algo": "x", "env_id": "y", "card": {}}'):
        (tmp_path / "plain" / "config.json").write_text(text)
        with pytest.raises(st.ReportError, match="lacks"):
            st.read_run(tmp_path / "plain")


@pytest.mark.parametrize("lines", [[], [""], ['{"env_st']])
def test_a_run_without_metrics_says_so(tmp_path: Path, lines: list[str]) -> None:
    with pytest.raises(st.ReportError, match="has no metrics"):
        st.read_run(write_run(tmp_path / "r", lines))


def test_groups_are_runs_that_differ_by_seed_only(tmp_path: Path) -> None:
    made = [(0, 1e-3), (1, 1e-3), (0, 1e-4)]
    runs = [st.read_run(write_run(tmp_path / f"{s}{lr}", [game(9, s)], s, learning_rate=lr)) for s, lr in made]
    groups = st.group_runs(runs)
    assert [group.label for group in groups] == ["ppo · learning_rate=0.001", "ppo · learning_rate=0.0001"]
    assert [group.scores.tolist() for group in groups] == [[0.0, 1.0], [0.0]]


def test_groups_never_mix_fingerprints(tmp_path: Path) -> None:
    runs = [st.read_run(write_run(tmp_path / f, [game(9, 1)], fingerprint=f)) for f in ("aaaaaaaa", "bbbbbbbb")]
    assert [group.label for group in st.group_runs(runs)] == ["ppo · native aaaaaa", "ppo · native bbbbbb"]


def test_labels_that_would_be_equal_are_numbered() -> None:
    assert st.unique(["a", "b", "a"]) == ["a #1", "b", "a #2"]


def test_differences_are_found_in_depth() -> None:
    tables: list[dict[str, Any]] = [{"a": {"b": 1, "c": 2}, "d": 5}, {"a": {"b": 1, "c": 3}}]
    assert st.differences(tables) == {"a.c": [2, 3], "d": [5, "-"]}


def test_published_scores_are_of_one_protocol_and_best_first() -> None:
    classic, sticky = st.published("ALE/Pong-v5", "classic"), st.published("ALE/Pong-v5", "machado")
    assert {line.sticky for line in classic} == {"no"}
    assert {line.sticky for line in sticky} == {"yes"}
    assert [line.score for line in classic] == sorted((line.score for line in classic), reverse=True)
    told = {line.agent: (line.score, line.frames) for line in classic}
    assert told["DQN"] == (18.9, "200M")  # Mnih et al. 2015
    assert told["Rainbow"] == (20.9, "200M")  # Hessel et al. 2018
    assert all(line.source and line.protocol for line in (*classic, *sticky))
    assert st.published("ALE/Pong-v5", "native") == st.published("CartPole-v1", "classic") == []


def test_every_column_of_scores_is_described() -> None:
    with open(st.DATA / "atari_columns.csv", newline="", encoding="utf-8") as file:
        described = [line["column"] for line in csv.DictReader(file)]
    assert sorted(described) == sorted(st._atari_table()["Pong"].keys() - {"game", "random", "human"})


def test_performance_profiles_count_what_lies_above() -> None:
    tasks = [task(0.0, 1.0), task(0.5, 2.0)]
    assert st.performance_profile(tasks, np.array([-1.0, 0.0, 0.5, 0.75, 2.0])).tolist() == [1.0, 0.75, 0.5, 0.5, 0.0]
    drawn = st.resample(tasks, 7, np.random.default_rng(0))
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
"""(runs, games, phase) -> what rliable 1.2.0 says: IQM, mean, median, optimality gap, P(X > Y), score distribution."""


def made_up_scores(runs: int, games: int, phase: float) -> list[np.ndarray]:
    run, game = np.arange(runs)[:, None], np.arange(games)[None, :]
    table = np.round(0.9 + 0.8 * np.sin(1.7 * run + 2.3 * game + phase) + 0.1 * game, 6)
    return list(table.T)


@pytest.mark.parametrize("about", RLIABLE)
def test_estimates_are_those_of_rliable(about: tuple[int, int, float]) -> None:
    runs, games, phase = about
    x, y = made_up_scores(runs, games, phase), made_up_scores(runs, games, phase + 0.4)
    *estimates, distribution = RLIABLE[about]
    found = [st.iqm(x), st.mean(x), st.median(x), st.optimality_gap(x), st.probability_of_improvement(x, y)]
    assert found == pytest.approx(estimates, abs=1e-9)
    assert st.performance_profile(x, THRESHOLDS) == pytest.approx(distribution, abs=1e-9)

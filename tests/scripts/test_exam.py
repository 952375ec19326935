"""The memory exam trains every task at every horizon, and scores evaluations between chance and optimum."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scripts.experiments.memory_exam import TASKS, Paper, useful_horizon
from tests.scripts.inside import assert_one_line

QUICK = ("--preset", "tiny", "--total-steps", "400", "--eval-episodes", "2", "--seeds", "2")


def test_scores_lie_between_chance_and_optimum() -> None:
    assert TASKS["recall"].score(-0.5) == -0.5
    assert TASKS["t-maze"].score(0.5) == 0.0
    assert TASKS["t-maze"].score(0.875) == 0.75
    assert TASKS["repeat-previous"].score(1.0) == 1.0
    assert TASKS["flickering-pong"].score(0.0) == 0.5


def test_the_useful_horizon_ends_at_the_first_failure() -> None:
    def papers(**scores: float | None) -> list[Paper]:
        return [Paper("ppo", "recall", int(level[1:]), [], score, None) for level, score in scores.items()]

    assert useful_horizon(papers(h2=1.0, h4=0.9, h8=0.89, h16=1.0), "ppo", "recall") == 4
    assert useful_horizon(papers(h16=1.0, h2=0.95), "ppo", "recall") == 16
    assert useful_horizon(papers(h2=0.2, h4=1.0), "ppo", "recall") == 0
    assert useful_horizon(papers(h2=1.0, h4=None), "ppo", "recall") == 2
    assert useful_horizon(papers(h2=1.0), "dqn", "recall") == 0
    assert useful_horizon(papers(h2=1.0), "ppo", "flickering-pong") is None


def test_exam_trains_evaluates_and_prints_scores(bench: Any, tmp_path: Path) -> None:
    out = tmp_path / "exam.json"
    command = ("exam", "a2c", "--tasks", "t-maze", "repeat-previous", "--horizons", 3, 1, 3, *QUICK, "--out", out)
    done = bench(*command, "--", "--core", "gru", "--core-size", 8)
    assert done.code == 0, done.err
    assert len(bench.commands) == 2 * 2 * 2
    result = json.loads(out.read_text())
    assert [(paper["task"], paper["level"]) for paper in result["papers"]] == [
        ("t-maze", 1), ("t-maze", 3), ("repeat-previous", 1), ("repeat-previous", 3),
    ]  # fmt: skip
    for paper, row in zip(result["papers"], result["rows"], strict=True):
        assert row["config"]["env_kwargs"] == {"horizon": paper["level"]}
        assert row["config"]["core"] == "gru"
        returns = [run["evaluation"]["return_mean"] for run in row["runs"]]
        assert paper["scores"] == [TASKS[paper["task"]].score(value) for value in returns]
        assert paper["score"] == pytest.approx(sum(paper["scores"]) / 2)
    assert set(result["useful_horizon"]["a2c"]) == {"t-maze", "repeat-previous"}
    assert len({print for row in result["rows"] for print in row["fingerprints"]}) == 4
    line = next(line for line in done.out.splitlines() if line.split()[:2] == ["a2c", "t-maze"])
    assert f"{result['papers'][0]['score']:.2f}" in line
    again = bench(*command, "--", "--core", "gru", "--core-size", 8)
    assert again.code == 0
    assert bench.commands == []


@pytest.mark.parametrize(
    ("words", "fragment"),
    [
        (("sb3-dqn",), "the exam is for our own algorithms"),
        (("ppo", "--horizons", "0"), "--horizons must be at least 1, not 0"),
        (("ppo", "--eval-episodes", "0"), "--eval-episodes must be at least 1"),
        (("ppo", "--tasks", "maths"), "maths"),
        (("ppo", "--", "--core", "elephant"), "--core must be one of"),
    ],
)
def test_bad_input_is_one_line(bench: Any, tmp_path: Path, words: tuple, fragment: str) -> None:
    place = words.index("--") if "--" in words else len(words)
    done = bench("exam", *words[:place], "--total-steps", 400, *words[place:])
    assert_one_line(done, 2, fragment)
    assert not (tmp_path / "bench").exists()

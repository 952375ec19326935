"""The display of trainings side by side."""

from __future__ import annotations

import io
import json
import time
from pathlib import Path

import pytest
from rich.console import Console

from scripts.experiments.progress import Board, Running, State, describe, read


def write(path: Path, count: int) -> None:
    lines = [{"env_steps": 10 * k, "wall_seconds": k, "episode/return": float(k)} for k in range(count)]
    lines.insert(-1, {"env_steps": lines[-1]["env_steps"], "wall_seconds": 9.0, "time/steps_per_second": 50.0})
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))


@pytest.mark.parametrize("count", [3, 10_000])
def test_the_state_comes_from_the_last_complete_line(tmp_path: Path, count: int) -> None:
    path = tmp_path / "metrics.jsonl"
    write(path, count)
    with open(path, "a") as file:
        file.write('{"env_steps": 99')  # being written
    recent = range(max(count - 100, 0), count)
    assert read(path) == State(10 * (count - 1), count - 1, sum(recent) / len(recent), 50.0)


def test_without_metrics_the_state_is_initial(tmp_path: Path) -> None:
    assert read(tmp_path / "none.jsonl") == State()
    (tmp_path / "empty.jsonl").write_text("")
    assert read(tmp_path / "empty.jsonl") == State()
    (tmp_path / "broken.jsonl").write_text("garbage\n")
    assert read(tmp_path / "broken.jsonl") == State()
    assert describe(State(), 100) == ""


def test_remaining_time_is_in_fitting_units() -> None:
    assert describe(State(400, 4, 12.345, 10.0), 1000) == "training score 12.35, 10 steps/s, 60 s left"
    assert describe(State(400, 4, None, 10.0), 10_000) == "10 steps/s, 16 min left"
    assert describe(State(0, 4, None, 10.0), 10_000_000) == "10 steps/s, 277.8 h left"
    assert describe(State(1010, 4, None, 10.0), 1000) == "10 steps/s, 0 s left"


def board_on(terminal: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return the output for one job that is shown twice and then ends."""
    write(tmp_path / "metrics.jsonl", 5)
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    console = Console(file=io.StringIO(), force_terminal=terminal, width=120)
    with Board(console, 2) as board:
        board.update([Running("ppo, seed 0", tmp_path / "metrics.jsonl", 80)], 0)  # too early
        for done, seconds in ((0, 61.0), (0, 62.0), (1, 122.0)):
            clock[0] = seconds
            names = ["ppo, seed 0"] if not done else ["ppo, seed 1"]
            board.update([Running(name, tmp_path / "metrics.jsonl", 80) for name in names], done)
    return console.file.getvalue()  # type: ignore[attr-defined]


def test_a_log_file_gets_a_plain_line_each_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert board_on(False, tmp_path, monkeypatch).splitlines() == [
        "ppo, seed 0: 40/80 (50%), training score 2.00, 50 steps/s, 1 s left",
        "ppo, seed 1: 40/80 (50%), training score 2.00, 50 steps/s, 1 s left",
    ]


def test_a_terminal_gets_a_bar_for_each_job(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shown = board_on(True, tmp_path, monkeypatch)
    assert "ppo, seed 1" in shown
    assert "all runs" in shown
    assert "1 done" in shown
    assert "━" in shown
    assert "\x1b[2K" in shown  # the bars are taken away in the end

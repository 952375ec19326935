"""Test `compare.py --picture`: the learning curves alone, as SVG or PNG, and its refusals."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from scripts.report.picture import write_picture
from scripts.report.run_data import ReportError
from tests.scripts.inside import assert_one_line, call
from tests.scripts.test_report import STICKY, sides, write_run


def test_the_ending_chooses_the_format(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", [float(n) for n in range(100)])
    for name, start in (("c.svg", b"<?xml"), ("c.png", b"\x89PNG"), ("C.PNG", b"\x89PNG")):
        done = call("compare", run, "--picture", tmp_path / name)
        assert (done.code, done.err) == (0, "")
        assert done.out == f"{tmp_path / name}\n"
        assert (tmp_path / name).read_bytes().startswith(start)
    assert not list(tmp_path.glob("*.html"))


def test_the_curve_ends_at_the_smoothed_final_return(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", [float(n) for n in range(100)])
    svg = write_picture([run], tmp_path / "c.svg").read_text()
    line = re.search(r'<path d="(M [^"]*)"[^>]*stroke: #3b82f6; stroke-width: 1.7', svg)
    assert line is not None
    points = np.array([[float(n) for n in step.split()] for step in re.split("[ML]", line[1])[1:]])
    assert (np.diff(points[:, 0]) > 0).all()
    ticks = {float(label): float(y) for y, label in re.findall(r'<text[^>]*y="([\d.]+)"[^>]*>([\d−]+)</text>', svg)}
    scale = (ticks[80.0] - ticks[0.0]) / 80.0
    assert (points[-1, 1] - points[0, 1]) / scale == pytest.approx(97.0, abs=1.0)  # window of 5 games
    assert "episode return, mean of 5 games" in svg
    assert "ppo on ALE/Pong-v5" in svg


def test_several_runs_share_a_legend_and_one_needs_none(tmp_path: Path) -> None:
    runs = sides(tmp_path, [10, 11], [1])
    svg = write_picture(runs, tmp_path / "c.svg", title="A $ or two: $x^$").read_text()
    assert re.findall(r">(ppo|dqn)</text>", svg) == ["ppo", "dqn"]
    assert "A $ or two: $x^$" in svg
    assert ">dqn</text>" not in write_picture(runs[2:], tmp_path / "c.svg").read_text()


def test_a_picture_is_small_and_the_same_each_time(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", list(np.random.default_rng(0).normal(size=20_000)))
    first = write_picture([run], tmp_path / "a.svg").read_bytes()
    assert len(first) < 60_000
    assert write_picture([run], tmp_path / "b.svg").read_bytes() == first


def test_runs_without_a_finished_game_are_left_out(tmp_path: Path) -> None:
    empty, played = write_run(tmp_path / "e", []), write_run(tmp_path / "p", [3.0] * 5, "dqn")
    assert "stroke: #3b82f6" in write_picture([empty, played], tmp_path / "c.svg").read_text()
    with pytest.raises(ReportError, match="no curve to draw"):
        write_picture([empty], tmp_path / "d.svg")
    assert not (tmp_path / "d.svg").exists()


def test_mistakes_end_in_one_line(tmp_path: Path) -> None:
    run, sticky = write_run(tmp_path / "r", [1.0] * 5), write_run(tmp_path / "s", [1.0], card=STICKY)
    (tmp_path / "folder.svg").mkdir()
    for runs, picture, message in (
        ([run], "c.jpg", "must end in .svg or .png"),
        ([run], "c", "must end in .svg or .png"),
        ([run], "absent/c.svg", "absent is not a folder"),
        ([run], "folder.svg", "is a folder; --picture names the picture's file"),
        ([tmp_path / "nothing"], "c.svg", "nothing is not a folder"),
        ([run, sticky], "c.svg", "not comparable"),
        ([], "c.svg", "name run folders"),
        ([run, "--duel", "ppo", "dqn"], "c.svg", "give no --duel beside it"),
    ):
        assert_one_line(call("compare", *runs, "--picture", tmp_path / picture), 2, message)
    assert not [path for path in tmp_path.glob("c*")]
    assert call("compare", run, sticky, "--allow-mixed", "--picture", tmp_path / "c.svg").code == 0

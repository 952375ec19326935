"""Duels: both sides train under one protocol and one budget, and the verdict claims no more than the runs allow."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scripts.experiments import training_jobs
from tests.scripts.inside import assert_one_line, call

GAME = "CartPole-v1"


def duel(tmp_path: Path, *words: object) -> Any:
    return call("compare", "--duel", *words, "--dir", tmp_path / "bench", "--out", tmp_path / "page.html")


def test_a_duel_trains_both_sides_and_prints_a_verdict(bench: Any, tmp_path: Path) -> None:
    bench.commands = []
    words = ("dqn:tiny", "sb3-dqn:tiny", "--env", GAME, "--seeds", 2, "--total-steps", 400, "--eval-episodes", 2)
    done = duel(tmp_path, *words, "--json", tmp_path / "duel.json")
    assert done.code == 0, done.err
    assert len(bench.commands) == 4
    result = json.loads((tmp_path / "duel.json").read_text())
    ours, theirs = result["rows"]
    assert (ours["label"], theirs["label"]) == ("dqn:tiny", "sb3-dqn:tiny")
    assert ours["fingerprints"] == theirs["fingerprints"]
    scores = [np.array([run["score"] for run in row["runs"]]) for row in result["rows"]]
    assert result["probability_of_improvement"] is result["probability_interval"] is None  # two seeds a side
    for row, each in zip(result["rows"], scores, strict=True):
        assert row["mean"] == pytest.approx(each.mean())
        assert row["mean_interval"][0] <= row["mean"] <= row["mean_interval"][1]
        assert 0.1 < row["peak_memory_gb"] < 50
        assert row["wall_seconds"] > 0
    assert "cannot tell: 2 and 2 runs" in result["verdict"]
    assert result["verdict"] in done.out
    assert "beats one of sb3-dqn:tiny: needs 3 seeds a side" in done.out
    assert "with probability" not in done.out
    assert "RAM, GB" in done.out
    assert "needs 3 seeds or more a side" in (tmp_path / "page.html").read_text()
    bench.commands = []
    assert duel(tmp_path, *words).code == 0
    assert bench.commands == []


def test_the_side_of_stable_baselines_takes_the_zoo_preset_by_itself(monkeypatch: Any, tmp_path: Path) -> None:
    contenders: list[Any] = []

    def compete(pair: Any, *_: Any) -> Any:
        contenders.extend(pair)
        raise KeyboardInterrupt

    monkeypatch.setattr("scripts.experiments.duel.compete", compete)
    done = duel(tmp_path, "ppo", "sb3-ppo", "--env", GAME, "--total-steps", 400)
    assert "sb3-ppo: the preset zoo" in done.out
    assert "ppo: settings for classic games" in done.out
    assert contenders[1].config["n_epochs"] == 20


BAD: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "no game": (("--duel", "ppo", "sb3-ppo", "--total-steps", "10"), ("--env ID",)),
    "no steps": (("--duel", "ppo", "sb3-ppo", "--env", GAME), ("--total-steps N",)),
    "one side": (("--duel", "ppo", "ppo", "--env", GAME, "--total-steps", "10"), ("takes two sides",)),
    "unknown side": (("--duel", "ppo", "sb3-pqo", "--env", GAME, "--total-steps", "10"), ("did you mean sb3-ppo",)),
    "unknown preset": (("--duel", "ppo:huge", "a2c", "--env", GAME, "--total-steps", "10"), ("no preset 'huge'",)),
    "other protocols": (
        ("--duel", "ppo:fast", "sb3-ppo", "--env", "ALE/Pong-v5", "--total-steps", "10"), ("one protocol", "42 and 84"),
    ),
    "runs beside it": (("x", "--duel", "ppo", "a2c", "--env", GAME, "--total-steps", "10"), ("no run folders",)),
    "nothing": ((), ("name run folders", "--duel")),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_trains_nothing(case: str, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(training_jobs, "start", None)
    words, fragments = BAD[case]
    monkeypatch.chdir(tmp_path)
    assert_one_line(call("compare", *words), 2, *fragments)
    assert not list(tmp_path.iterdir())


def test_a_side_takes_settings_of_its_own(monkeypatch: Any, tmp_path: Path) -> None:
    contenders: list[Any] = []

    def compete(pair: Any, *_: Any) -> Any:
        contenders.extend(pair)
        raise KeyboardInterrupt

    monkeypatch.setattr("scripts.experiments.duel.compete", compete)
    options = ("--env", GAME, "--total-steps", 400)
    call("compare", "--duel", "dqn", "dqn:tiny,double=false,n-step=3", *options, "--", "--gamma", 0.9)
    one, other = contenders
    assert (one.config["double"], one.config["n_step"], one.config["gamma"]) == (True, 1, 0.9)
    assert (other.config["double"], other.config["n_step"], other.config["gamma"]) == (False, 3, 0.9)
    assert other.preset == "tiny"
    assert one.folder(tmp_path, 0) != other.folder(tmp_path, 0)
    assert_one_line(duel(tmp_path, "dqn", "dqn,seed=3", *options), 2, "--seed is an option of the suite")
    assert_one_line(duel(tmp_path, "dqn", "dqn,lr=3", *options), 2, "it is called --learning-rate here")

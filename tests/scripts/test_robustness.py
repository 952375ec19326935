"""Agents whose sensors fail: the same games at every level, repairs that help, and errors in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.inside import assert_one_line, call


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A CartPole agent that stands for a while."""
    folder = tmp_path_factory.mktemp("robust") / "run"
    done = call("train", "ppo", "--env", "CartPole-v1", "--total-steps", 12_000, "--threads", 1, "--track", "disabled",
                "--run-dir", folder)  # fmt: skip
    assert done.code == 0, done.err
    return folder


def evaluated(run: Path, *words: object) -> dict[str, Any]:
    done = call("evaluate", run, "--episodes", 6, "--json", *words)
    assert done.code == 0, done.err
    return json.loads(done.out)


def test_games_under_a_fault_are_kept_apart_from_the_run_s_own(run: Path) -> None:
    whole = evaluated(run)
    kept = (run / "replays" / "eval.jsonl").read_text()
    broken = evaluated(run, "--env-kwargs", "drop", 0.6)
    assert broken["return_mean"] < whole["return_mean"]
    assert broken["fingerprint"] != whole["fingerprint"]
    assert (run / "replays" / "eval.jsonl").read_text() == kept
    repaired = evaluated(run, "--env-kwargs", "drop", 0.6, "--repair", "knn")
    assert repaired["return_mean"] > broken["return_mean"]
    assert repaired["fingerprint"] == broken["fingerprint"]


def test_each_repair_has_a_curve_and_there_is_a_plot(run: Path, tmp_path: Path) -> None:
    out = tmp_path / "curve.json"
    done = call("benchmark", "robustness", run, "--damage", "drop", "--levels", 0, 0.6, "--repair", "zero", "knn",
                "--eval-episodes", 6, "--out", out)  # fmt: skip
    assert done.code == 0, done.err
    curves = json.loads(out.read_text())["curves"]
    assert curves["zero"][0]["mean"] == curves["knn"][0]["mean"]  # where nothing is missing there is nothing to do
    assert curves["knn"][1]["mean"] > curves["zero"][1]["mean"]
    assert curves["zero"][1]["mean"] == evaluated(run, "--env-kwargs", "drop", 0.6)["return_mean"]
    assert out.with_suffix(".png").read_bytes().startswith(b"\x89PNG")


def test_bad_input_is_one_line(run: Path) -> None:
    words = ("evaluate", run, "--episodes", 1)
    assert_one_line(call(*words, "--env-kwargs", "drop", 0.1, "--repair", "wiener"), 2, "not by wiener")
    assert_one_line(call(*words, "--env-kwargs", "salt", 0.1), 2, "salt needs pixels")
    bench = ("benchmark", "robustness", run, "--damage", "drop", "--levels", 0.1)
    assert_one_line(call(*bench, "--eval-episodes", 0), 2, "must be at least 1")
    assert_one_line(call("benchmark", "robustness", run.parent, *bench[3:]), 2, "is not a run folder")


def test_an_agent_is_trained_with_failing_sensors(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = call("train", "dqn", "--env", "CartPole-v1", "--preset", "tiny", "--env-kwargs", "drop", 0.3, "--repair",
                "last", "--threads", 1, "--track", "disabled", "--run-dir", folder)  # fmt: skip
    assert done.code == 0, done.err
    assert evaluated(folder)["return_mean"] > 0
    done = call("train", "ppo", "--env", "BabyAI-GoToLocal-v0", "--preset", "tiny", "--repair", "knn", "--track",
                "disabled", "--run-dir", tmp_path / "x")  # fmt: skip
    assert_one_line(done, 2, "--repair is for observations of one array")


def test_evaluation_keeps_the_faults_of_the_training(tmp_path: Path) -> None:
    done = call("train", "dqn", "--env", "CartPole-v1", "--preset", "tiny", "--env-kwargs", "drop", 0.3, "--track",
                "disabled", "--run-dir", tmp_path / "run")  # fmt: skip
    assert done.code == 0, done.err
    as_trained = evaluated(tmp_path / "run")
    assert evaluated(tmp_path / "run", "--env-kwargs", "drop", 0.3)["fingerprint"] == as_trained["fingerprint"]
    assert evaluated(tmp_path / "run", "--env-kwargs", "noise", 0.5)["fingerprint"] != as_trained["fingerprint"]
    assert evaluated(tmp_path / "run", "--env-kwargs", "drop", 0.0)["fingerprint"] != as_trained["fingerprint"]

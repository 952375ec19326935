"""benchmark.py transfer: arms with and without encoders, their pretraining, and ratios that are bounds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

from agents.errors import ConfigError
from networks.encoders import store
from networks.encoders.base import build
from scripts.experiments import transfer
from scripts.experiments.results import RunOutcome, summarise
from scripts.experiments.training_jobs import Contender
from scripts.experiments.transfer import ArmResult, Plan
from tests.scripts.inside import assert_one_line, call

PLAN = Plan(
    algorithm="ppo", env="CartPole-v1", total_steps=1_000, thresholds=[0.5], arms={"a": "", "b": "", "c": ""},
    against=["a", "b"], measure="success", window=2,
)  # fmt: skip


def arm(label: str, steps: list[int | None], pretraining: int = 0) -> ArmResult:
    contender = Contender(label, "ppo", "CartPole-v1", None, (), {"stop_return": None})
    outcome = RunOutcome(0, 1.0, None, 1, 1.0, 1.0, False, 9, "abc", None, "", None, None, None, None, None, "")
    return ArmResult(summarise(contender, [outcome] * len(steps)), pretraining, {"0.5": steps}, [], {})


def test_ratios_are_of_the_better_rival_and_count_pretraining() -> None:
    rows = [arm("a", [400, 600]), arm("b", [300, 500]), arm("c", [100, 100], pretraining=100)]
    result = transfer.compare_arms(rows, PLAN, 0.5)
    assert result.against == "b"
    assert set(result.ratios) == {"c"}
    ratio = result.ratios["c"]
    assert ratio.ratio == pytest.approx(400 / 200)
    assert ratio.bound == ""
    assert ratio.interval == pytest.approx((1.5, 2.5))


@pytest.mark.parametrize(("rival", "own", "bound", "ratio"), [
    ([300, None], [100, 100], ">=", 6.5), ([300, 300], [100, None], "<=", 300 / 550), ([None, 1], [None, 1], "?", 1.0),
])  # fmt: skip
def test_a_run_that_never_reaches_the_threshold_makes_a_bound(
    rival: list, own: list, bound: str, ratio: float
) -> None:  # fmt: skip
    result = transfer.compare_arms([arm("a", rival), arm("c", own)], replace(PLAN, against=["a"]), 0.5)
    assert result.ratios["c"].bound == bound
    assert result.ratios["c"].ratio == pytest.approx(ratio)


def test_steps_are_those_at_the_end_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    games = np.array([[10, 0, 1.0], [20, 0, 0.0], [30, 0, 0.0], [40, 0, 0.5], [50, 0, 2.0]])
    monkeypatch.setattr(transfer, "read_run", lambda folder: type("Run", (), {"games": games}))
    plan = replace(PLAN, thresholds=[0.5, 1.0, 1.25])
    assert transfer.steps_to(Path(), plan) == {0.5: 20, 1.0: 50, 1.25: None}
    assert transfer.steps_to(Path(), replace(plan, measure="return")) == {0.5: 20, 1.0: 50, 1.25: 50}
    assert transfer.steps_to(Path(), replace(plan, window=9)) == dict.fromkeys(plan.thresholds)
    assert transfer.final_score(Path(), replace(plan, measure="return")) == 1.25


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """An encoder of CartPole's four numbers; its config claims 120 frames of training."""
    space = gym.make("CartPole-v1").observation_space
    torch.manual_seed(0)
    encoder = build("mlp", space, out_dim=8)
    store.save(tmp_path / "numbers", encoder, {}, {"task": "numbers", "data": {"env_frames": 120}}, {})
    return tmp_path / "numbers"


def test_arms_are_trained_evaluated_and_compared(bench: Any, tmp_path: Path, numbers: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text(f"""
algorithm: ppo
env: CartPole-v1
preset: tiny
total_steps: 1500
options: --num-envs 2
thresholds: [8, 600]
window: 5
arms:
  scratch:
  frozen: --encoder obs={numbers}
judged:
  as it is: {{}}
  of another rate: {{gamma: 0.5}}
""")
    words = ("transfer", file, "--seeds", 2, "--threads", 1, "--eval-episodes", 2, "--out",
             tmp_path / "out.json")  # fmt: skip
    done = bench(*words)
    assert done.code == 0, done.err
    result = json.loads((tmp_path / "out.json").read_text())
    scratch, frozen = result["rows"]
    assert scratch["pretraining_steps"] == 0
    assert frozen["pretraining_steps"] == 120
    assert all(steps is not None for each in result["rows"] for steps in each["steps_to"]["8"])
    assert scratch["steps_to"]["600"] == [None, None]
    easy, hard = result["ratios"]
    spent = [np.mean(each["steps_to"]["8"]) + each["pretraining_steps"] for each in result["rows"]]
    assert easy["ratios"]["frozen"]["ratio"] == pytest.approx(spent[0] / spent[1])
    assert hard["ratios"]["frozen"]["bound"] == "?"
    assert scratch["judged"]["as it is"] == scratch["judged"]["of another rate"]  # the same games
    assert scratch["judged"]["as it is"] == pytest.approx([run["evaluation"]["return_mean"] for run in scratch["runs"]])
    assert "(2/2)" in done.out
    assert "(0/2)" in done.out
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "bench").glob("*/judged-as-it-is.json")}
    assert len(times) == 4
    assert bench(*words).code == 0
    assert bench.commands == []
    assert {path: path.stat().st_mtime_ns for path in times} == times  # nothing is trained or evaluated twice


GOOD = {"algorithm": "ppo", "env": "CartPole-v1", "total_steps": 100, "thresholds": [1], "arms": {"a": "", "b": ""}}


@pytest.mark.parametrize(("changes", "words"), [
    ({"arms": None}, "two arms at least"), ({"arms": {"a": ""}}, "two arms at least"),
    ({"measure": "joy"}, "measure takes one of return, success, not 'joy'"), ({"against": ["z"]}, "not z"),
    ({"against": []}, "not nothing"), ({"colour": 1}, "unknown keys: colour"),
    ({"thresholds": 3}, "thresholds takes values, not 3"), ({"window": 0}, "window must be at least 1"),
    ({"total_steps": "many"}, "total_steps takes a whole number, not 'many'"),
])  # fmt: skip
def test_a_file_that_cannot_be_used_is_refused(changes: dict, words: str, tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text(json.dumps({**GOOD, **changes}))
    with pytest.raises(ConfigError, match=words):
        transfer.read_plan(file)


def test_a_missing_or_invalid_file_is_one_line(tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    assert_one_line(call("benchmark", "transfer", file), 2, "cannot be read")
    file.write_text("a: [")
    assert_one_line(call("benchmark", "transfer", file), 2, "is not YAML")
    file.write_text("env: CartPole-v1")
    assert_one_line(call("benchmark", "transfer", file), 2, "it lacks algorithm, arms, thresholds, total_steps")
    file.write_text(json.dumps({**GOOD, "arms": {"a": "--no-such 1", "b": ""}}))
    assert call("benchmark", "transfer", file).code == 2
    file.write_text(json.dumps({**GOOD, "judged": {"brighter": {"light": 2}}}))
    assert_one_line(call("benchmark", "transfer", file), 2, "judged changes light, which ppo does not have")


def test_the_shipped_files_can_be_read() -> None:
    files = sorted((Path(transfer.__file__).parents[1] / "transfers").glob("*.yaml"))
    assert [file.stem for file in files] == ["missions", "pong", "speech", "teacher"]
    for file in files:
        assert transfer.read_plan(file).arms

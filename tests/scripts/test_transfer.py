"""benchmark.py transfer: arms with and without encoders, what they cost, and how ratios with failures are marked."""

from __future__ import annotations

import json
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
from tests.scripts.inside import assert_one_line, call

PLAN: dict[str, Any] = {"thresholds": [0.5], "against": ["a", "b"], "measure": "success", "window": 2}


def row(label: str, steps: list[int | None], paid: int = 0) -> dict[str, Any]:
    return {"label": label, "steps_to": {"0.5": steps}, "pretraining_steps": paid, "runs": steps}


def test_ratios_are_of_the_better_rival_and_count_pretraining() -> None:
    rows = [row("a", [400, 600]), row("b", [300, 500]), row("c", [100, 100], paid=100)]
    found = transfer.compare(rows, PLAN, 0.5, 1_000)
    assert found["against"] == "b"
    assert set(found["ratios"]) == {"c"}
    ratio = found["ratios"]["c"]
    assert ratio["ratio"] == pytest.approx(400 / 200)
    assert ratio["bound"] == ""
    low, high = ratio["interval"]
    assert (low, high) == pytest.approx((1.5, 2.5))


@pytest.mark.parametrize(("rival", "own", "bound", "ratio"), [
    ([300, None], [100, 100], ">=", 6.5), ([300, 300], [100, None], "<=", 300 / 550), ([None, 1], [None, 1], "?", 1.0),
])  # fmt: skip
def test_a_run_that_never_gets_there_makes_a_bound(rival: list, own: list, bound: str, ratio: float) -> None:
    found = transfer.compare([row("a", rival), row("c", own)], {**PLAN, "against": ["a"]}, 0.5, 1_000)
    assert found["ratios"]["c"]["bound"] == bound
    assert found["ratios"]["c"]["ratio"] == pytest.approx(ratio)


def test_steps_are_those_at_the_end_of_the_window(monkeypatch: pytest.MonkeyPatch) -> None:
    games = np.array([[10, 0, 1.0], [20, 0, 0.0], [30, 0, 0.0], [40, 0, 0.5], [50, 0, 2.0]])
    monkeypatch.setattr(transfer, "read_run", lambda folder: type("Run", (), {"games": games}))
    plan = {**PLAN, "thresholds": [0.5, 1.0, 1.25]}
    assert transfer.steps_to(Path(), plan) == {0.5: 20, 1.0: 50, 1.25: None}
    assert transfer.steps_to(Path(), {**plan, "measure": "return"}) == {0.5: 20, 1.0: 50, 1.25: 50}
    assert transfer.steps_to(Path(), {**plan, "window": 9}) == dict.fromkeys(plan["thresholds"])
    assert transfer.final(Path(), {**plan, "measure": "return"}) == 1.25


@pytest.fixture
def numbers(tmp_path: Path) -> Path:
    """An encoder of CartPole's four numbers, said to be trained on 120 frames."""
    space = gym.make("CartPole-v1").observation_space
    torch.manual_seed(0)
    encoder = build("mlp", space, out_dim=8)
    store.save(tmp_path / "numbers", encoder, {}, {"task": "numbers", "data": {"env_frames": 120}}, {})
    return tmp_path / "numbers"


def test_arms_are_trained_judged_and_compared(tmp_path: Path, numbers: Path) -> None:
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
    words = ("transfer", file, "--seeds", 2, "--threads", 1, "--eval-episodes", 2, "--dir", tmp_path / "bench",
             "--out", tmp_path / "out.json")  # fmt: skip
    done = call("benchmark", *words)
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
    assert call("benchmark", *words).code == 0
    assert {path: path.stat().st_mtime_ns for path in times} == times  # nothing is trained or judged twice


GOOD = {"algorithm": "ppo", "env": "CartPole-v1", "total_steps": 100, "thresholds": [1], "arms": {"a": "", "b": ""}}


@pytest.mark.parametrize(("changes", "words"), [
    ({"arms": None}, "two arms at least"), ({"arms": {"a": ""}}, "two arms at least"),
    ({"measure": "joy"}, "is return or success, not joy"), ({"against": ["z"]}, "compared with z, which is none"),
    ({"against": []}, "compared with nobody"), ({"colour": 1}, "nothing here is called colour"),
])  # fmt: skip
def test_a_file_that_cannot_be_followed_is_refused(changes: dict, words: str, tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    file.write_text(json.dumps({**GOOD, **changes}))
    with pytest.raises(ConfigError, match=words):
        transfer.read(file)


def test_no_file_no_yaml_and_no_plan_are_refused_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "arms.yaml"
    assert_one_line(call("benchmark", "transfer", file), 2, "cannot be read")
    file.write_text("a: [")
    assert_one_line(call("benchmark", "transfer", file), 2, "is not YAML")
    file.write_text("env: CartPole-v1")
    assert_one_line(call("benchmark", "transfer", file), 2, "it lacks algorithm, arms, thresholds, total_steps")
    file.write_text(json.dumps({**GOOD, "arms": {"a": "--no-such 1", "b": ""}}))
    assert call("benchmark", "transfer", file).code == 2


def test_the_files_that_come_with_it_can_be_read() -> None:
    files = sorted((Path(transfer.__file__).parents[1] / "transfers").glob("*.yaml"))
    assert [file.stem for file in files] == ["missions", "pong", "speech", "teacher"]
    for file in files:
        assert transfer.read(file)["arms"]

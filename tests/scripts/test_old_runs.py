"""Runs of the layout before 0.2 (tests/data/old_layout, made at 7fb6bab): they load, play, and resume bit for bit."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from agents.run import machine
from tests.scripts.inside import call

OLD = Path(__file__).parents[1] / "data" / "old_layout"
FINAL = {
    "dqn": ("step_000000000401", "00e25f4947c7108d43151a6fb9e29c7917c064dfed7aa2e606b1166c2fe04908"),
    "ppo-lstm": ("step_000000000400", "c448cc96712887b678a397956b97e3887024bb835fb75d62a82d9cf5165f25bf"),
    "r2d2": ("step_000000000400", "15533b20cf2bab474717c6133b0719b389fe85d813fd63e9b130bd8850eb5e27"),
}
"""Run -> its last checkpoint and the hash of the weights there, as the unbroken training ended: of the
old layout, but for ppo-lstm, whose last rollout now keeps to the budget of 400 steps (it ended at 428)."""


@pytest.fixture
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    shutil.copytree(OLD / request.param, tmp_path / request.param)
    return tmp_path / request.param


@pytest.mark.parametrize("old", FINAL, indirect=True)
def test_a_run_of_the_old_layout_plays_and_resumes(old: Path) -> None:
    played = call("evaluate", old, "--episodes", 2, "--json")
    assert played.code == 0, played
    assert json.loads(played.out)["episodes"] == 2
    resumed = call("train", "--resume", old)
    assert resumed.code == 0, resumed
    step, weights = FINAL[old.name]
    assert (old / "checkpoints" / "latest").read_text() == step
    state = json.loads((old / "checkpoints" / step / "state.json").read_text())
    record = json.loads((old / "config.json").read_text())
    if record["machine"]["processor"] == machine.hardware()["processor"]:  # another processor rounds differently
        assert state["weights_sha256"] == weights

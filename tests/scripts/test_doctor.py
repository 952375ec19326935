"""doctor.py plays a real game of each family that is installed, and prints the command that mends the rest."""

from __future__ import annotations

from pathlib import Path

import gymnasium as gym
import pytest

from agents.errors import ConfigError
from scripts import doctor
from tests.scripts.inside import call


def test_each_family_works_is_missing_or_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    families = {
        "good": ("CartPole-v1", "gymnasium", "-e ."),
        "absent": ("CartPole-v1", "no_such_package", "-e '.[games]'"),
        "bad": ("CartPole-v77", "gymnasium", "-e ."),
    }
    monkeypatch.setattr(doctor, "GAMES", families)
    done = call("doctor")
    assert done.code == 1
    lines = [line.split(": ", 1) for line in done.out.splitlines() if ": " in line]
    found = {head.split(maxsplit=1)[1]: (head.split()[0], text) for head, text in lines}
    assert found["torch"][0] == found["Weights & Biases"][0] == "works"
    assert found["good"][0] == "works"
    assert found["good"][1].startswith("CartPole-v1: score ")
    assert "video 600x400, no sound" in found["good"][1]
    assert found["absent"] == ("missing", "pip install -c constraints.txt -e '.[games]'")
    assert found["bad"][0] == "broken"
    assert found["bad"][1].endswith("; try pip install -c constraints.txt -e .")
    del families["bad"]
    assert call("doctor").code == 0


def test_a_game_without_an_end_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gym.spec("MountainCar-v0"), "max_episode_steps", 1_000_000)
    with pytest.raises(ConfigError, match="MountainCar-v0 did not end"):
        doctor.play("MountainCar-v0")


@pytest.mark.parametrize("key", ["", "secret"])
def test_an_account_of_wandb_is_seen(key: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("WANDB_API_KEY", key)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert doctor.tracking().endswith("an account is set up" if key else "no account: runs stay offline")

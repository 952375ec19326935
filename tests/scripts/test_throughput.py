"""benchmark.py speed, with small settings: what is measured, not how fast it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from agents.presets.registry import preset, tiny
from scripts.experiments import throughput
from tests.scripts.inside import assert_one_line, call


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    def settings(algorithm: str, name: str) -> object:
        config = tiny(preset(algorithm, name))
        return config if algorithm == "ppo" else replace(config, replay_ratio=0.5)

    monkeypatch.setattr(throughput, "preset", settings)
    monkeypatch.setattr(throughput, "SB3_REPLAY", 1_000)
    monkeypatch.setattr(throughput, "LEARNING_STARTS", 100)


@pytest.mark.parametrize("algorithm", ["ppo", pytest.param("dqn", marks=pytest.mark.slow)])
def test_all_four_rates_are_measured_in_turns(algorithm: str, tmp_path: Path) -> None:
    out = tmp_path / "speed.json"
    done = call("benchmark", "speed", "--algorithm", algorithm, "--repeats", 2, "--seconds", 0.01, "--out", out)
    assert done.code == 0, done.err
    (result,) = json.loads(out.read_text())["results"]
    rates = result["rates"]
    assert set(rates) == {"ours", "emulator alone", "network alone", "stable-baselines3"}
    assert all(len(turns) == 2 and min(turns) > 0 for turns in rates.values())
    limit = 1 / (1 / result["medians"]["emulator alone"] + 1 / result["medians"]["network alone"])
    assert result["limit"] == pytest.approx(limit)
    assert result["share_of_limit"] == pytest.approx(result["medians"]["ours"] / limit)
    ratios = [a / b for a, b in zip(rates["ours"], rates["stable-baselines3"], strict=True)]
    assert result["times_sb3"] == pytest.approx(sum(ratios) / 2)
    assert sum(result["time_shares"].values()) == pytest.approx(1.0, abs=0.05)
    assert "x Stable-Baselines3" in done.out


def test_a_chunk_is_a_rollout_or_a_step_with_its_updates() -> None:
    ppo, dqn = throughput.Ours("ppo"), throughput.Ours("dqn")
    config = ppo.config
    assert ppo.chunk() == ppo.network_chunk() == config.rollout_length * config.num_envs
    assert ppo.agent.updates > 0
    before = dqn.agent.updates
    assert dqn.chunk() == dqn.config.num_envs
    assert dqn.agent.updates - before == dqn.updates_per_chunk == 1
    assert throughput.emulator(2, config)() == 64 * 2


def test_without_stable_baselines_there_is_no_ratio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_one_line(call("benchmark", "speed"), 2, "no Stable-Baselines3", "or --no-sb3")

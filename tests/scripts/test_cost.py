"""`benchmark.py cost` times the named agents on their rows, and draws from a full prioritized replay."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from scripts.experiments import update_cost
from tests.scripts.inside import assert_one_line, call


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(update_cost, "ROWS", 4_000)


def test_costs_are_printed_and_written(tmp_path: Path) -> None:
    out = tmp_path / "cost.json"
    command = ["--repeats", 1, "--seconds", 0.01, "--batch-size", 4, "--algorithm", "dqn", "rainbow", "--out", out]
    done = call("benchmark", "cost", *command, "--", "--head-hidden", 16)
    assert done.code == 0, done.err
    assert "times dqn" in done.out
    found = json.loads(out.read_text())
    assert found["updates"].keys() == {"dqn", "rainbow"}
    assert found["updates"]["dqn"]["times"] == 1.0
    assert found["updates"]["rainbow"]["rows"] == 4
    assert found["updates"]["rainbow"]["times"] > 0
    assert found["overrides"] == ["--head-hidden", "16"]
    assert all(0 < value < 100 for value in found["sampling_ms"].values())


def test_an_update_uses_the_named_agent_and_batch_size() -> None:
    update = update_cost.timed_update("rainbow", "ALE/Pong-v5", 4, ("--head-hidden", "16"))
    assert isinstance(update, update_cost.Update)
    assert update.agent.config.head_hidden == 16
    assert update.replay.layout.sampling == "prioritized"
    before = update.replay.tree.leaves.copy()
    update()
    assert update.agent.updates == 1
    assert update.rows == update.batch_size == 4
    assert 1 <= (update.replay.tree.leaves != before).sum() <= 4  # the batch's priorities are new, and no others


def test_an_agent_with_rollouts_is_compared_with_itself_with_a_memory(tmp_path: Path) -> None:
    out = tmp_path / "cost.json"
    shown = ["--env", "MinAtar/Breakout-v1", "--repeats", 1, "--seconds", 0.01, "--out", out]
    memory = ["--core", "gru", "--core-size", 8, "--rollout-length", 8, "--sequence-length", 4]
    done = call("benchmark", "cost", "--algorithm", "a2c", "a2c", "ppo", *shown, "--", *memory)
    assert done.code == 0, done.err
    found = json.loads(out.read_text())["updates"]
    recurrent = "a2c --core gru --core-size 8 --rollout-length 8 --sequence-length 4"
    assert found.keys() == {"a2c", recurrent, "ppo"}
    assert (found["a2c"]["rows"], found[recurrent]["rows"], found["ppo"]["rows"]) == (5 * 64, 8 * 64, 8 * 64)
    learning = update_cost.timed_update("a2c", "MinAtar/Breakout-v1", None)
    assert isinstance(learning, update_cost.Learning)
    learning()
    assert learning.agent.updates == 1


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("--repeats", "0"), ("--repeats must be at least 1",)),
        (("--seconds", "0"), ("--seconds above 0",)),
        (("--algorithm", "sb3-dqn"), ("--algorithm takes", "rainbow", "sb3-dqn")),
        (("--algorithm", "dqn", "c51", "--", "--atom", "3"), ("c51 has no option --atom", "--atoms")),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], fragments: tuple[str, ...]) -> None:
    assert_one_line(call("benchmark", "cost", *arguments), 2, *fragments)

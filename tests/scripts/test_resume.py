"""A run killed by SIGKILL at any moment and resumed equals the unbroken one: weights, replay, metrics."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from agents.errors import ConfigError
from agents.run.run import Run
from agents.value.dqn import DQNConfig
from tests.scripts.inside import call
from tests.scripts.runner import ROOT, forked, kill_once_beyond

CASES = {
    "dqn": ("dqn",),
    "dqn-lstm": ("dqn", "--core", "lstm", "--core-size", 16, "--n-step", 3),
    "rainbow": ("rainbow",),
    "iqn-disk": ("iqn", "--prioritized", "--replay-storage", "disk"),
    "r2d2": ("r2d2",),
    "pqn": ("pqn",),
    "ppo": ("ppo",),
    "sac-gru": ("sac", "--core", "gru", "--core-size", 16, "--prioritized", "--n-step", 3),
    "rnd": ("rnd", "--input-norm", "running", "--value-scale", "normalize"),
    "a2c-gru": ("a2c", "--core", "gru", "--core-size", 16, "--value-scale", "normalize", "--entropy-coef-end", 0),
    "ppo-lstm": ("ppo", "--core", "lstm", "--core-size", 16),
}
SIZES = {
    "CartPole-v1": (600, ("--total-steps", 600, "--checkpoint-steps", 200, "--log-steps", 100)),
    "MinAtar/Breakout-v1": (600, ("--total-steps", 600, "--checkpoint-steps", 200, "--log-steps", 100)),
    "ALE/Pong-v5": (600, ("--total-steps", 600, "--checkpoint-steps", 200, "--log-steps", 100, "--image-size", 44)),
}


def arguments(case: str, env: str, folder: Path) -> list[object]:
    algorithm, *rest = CASES[case]
    common = ("--preset", "tiny", "--track", "disabled", "--run-dir", folder, "--seed", 3)
    return [algorithm, "--env", env, *common, *SIZES[env][1], *rest]


def final_state(folder: Path) -> dict:
    latest = (folder / "checkpoints" / "latest").read_text()
    state = json.loads((folder / "checkpoints" / latest / "state.json").read_text())
    rows: dict[int, dict[str, np.ndarray]] = {}
    for piece in state["replay"]:
        arrays = safetensors.numpy.load_file(folder / "checkpoints" / "replay" / piece["file"])
        rows[piece["first_row"]] = arrays
    priorities = folder / "checkpoints" / latest / "replay.safetensors"
    if priorities.exists():
        rows[-1] = safetensors.numpy.load_file(priorities)
    keep = ("env_steps", "updates", "episodes", "leg", "returns", "weights_sha256", "agent_updates", "best_return")
    return {"state": {key: state[key] for key in keep}, "model": state["model_sha256"], "replay": rows}


def metrics(folder: Path) -> list[dict]:
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timing = ("wall", "time/s", "time/env", "time/act", "time/learn", "time/log", "system/")
    return [{key: value for key, value in line.items() if not key.startswith(timing)} for line in lines]


def assert_equal_runs(a: Path, b: Path) -> None:
    assert metrics(a) == metrics(b)
    assert (a / "replays/train.jsonl").read_bytes() == (b / "replays/train.jsonl").read_bytes()
    one, two = final_state(a), final_state(b)
    assert one["state"] == two["state"]
    assert one["model"] == two["model"]
    assert one["replay"].keys() == two["replay"].keys()
    for first_row, arrays in one["replay"].items():
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, two["replay"][first_row][name], err_msg=name)


@pytest.mark.parametrize(
    ("case", "env"),
    [
        ("dqn", "CartPole-v1"), ("dqn-lstm", "CartPole-v1"), ("ppo", "CartPole-v1"), ("ppo-lstm", "CartPole-v1"),
        ("rainbow", "CartPole-v1"), ("iqn-disk", "CartPole-v1"), ("r2d2", "CartPole-v1"), ("pqn", "CartPole-v1"),
        ("sac-gru", "CartPole-v1"), ("rnd", "CartPole-v1"), ("a2c-gru", "CartPole-v1"),
        ("dqn", "ALE/Pong-v5"), ("ppo-lstm", "ALE/Pong-v5"),
        pytest.param("rainbow", "ALE/Pong-v5", marks=pytest.mark.slow),
        pytest.param("dqn", "MinAtar/Breakout-v1", marks=pytest.mark.slow),
        pytest.param("dqn-lstm", "ALE/Pong-v5", marks=pytest.mark.slow),
        pytest.param("ppo", "ALE/Pong-v5", marks=pytest.mark.slow),
    ],
)  # fmt: skip
@pytest.mark.usefixtures("no_report")
def test_killed_and_resumed_equals_unbroken(case: str, env: str, tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    done = call("train", *arguments(case, env, unbroken))
    assert done.code == 0, done.err
    total, third = SIZES[env][0], SIZES[env][0] // 3
    reached = kill_once_beyond(third, broken, *arguments(case, env, broken))
    # a kill can leave half a line of metrics, and the files of an unfinished checkpoint
    with open(broken / "metrics.jsonl", "a") as file:
        file.write('{"env_steps": 99')
    (broken / "checkpoints" / ".step_000000000777.tmp").mkdir()
    assert reached < total
    done = call("train", "--resume", broken)
    assert done.code == 0, done.err
    assert_equal_runs(unbroken, broken)


def test_killed_before_the_first_segment_ends(tmp_path: Path) -> None:
    unbroken, broken = tmp_path / "unbroken", tmp_path / "broken"
    assert call("train", *arguments("dqn", "CartPole-v1", unbroken)).code == 0
    kill_once_beyond(0, broken, *arguments("dqn", "CartPole-v1", broken))
    done = call("train", "--resume", broken)
    assert done.code == 0, done.err
    assert_equal_runs(unbroken, broken)


def test_an_interrupt_saves_a_checkpoint(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    command = [*arguments("ppo", "CartPole-v1", folder), "--total-steps", 400_000, "--checkpoint-steps", 400_000]
    process = forked("train", *command)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline and (not (folder / "metrics.jsonl").exists() or not metrics(folder)):
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGINT)  # type: ignore[arg-type]
    process.join(60)
    assert process.exitcode == 0
    steps = final_state(folder)["state"]["env_steps"]
    assert 0 < steps < 400_000
    assert metrics(folder)[-1]["env_steps"] <= steps


def test_one_process_at_a_time_trains_a_run_and_a_kill_frees_it(tmp_path: Path) -> None:
    code = f"import pathlib, sys; from agents.run.run import lock; held = lock(pathlib.Path({str(tmp_path)!r})); "
    with subprocess.Popen([sys.executable, "-c", code + "print('locked', flush=True); sys.stdin.read()"],
                          cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"locked\n"
        with pytest.raises(ConfigError, match="is being trained by another process; stop that first"):
            Run(tmp_path, DQNConfig())
        process.kill()
        process.wait()
    Run(tmp_path, DQNConfig()).close()

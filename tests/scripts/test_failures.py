"""A failure on the way (full disk, NaN, tracker) is one line and code 1, or a warning; saved checkpoints stay good."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import wandb

from agents.policy.ppo import PPO
from agents.run import checkpoint
from scripts.runner.saved_run import load_run
from tests.scripts.inside import QUIET, assert_one_line, call
from tests.scripts.runner import ENVIRONMENT, ROOT


@contextmanager
def disk_full_beyond(size: int) -> Iterator[None]:
    """No file can grow beyond `size` bytes: writes fail in the operating system, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def full_at_call(number: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """Return `function`, with the disk full during its call `number`."""
    calls = []

    def limited(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) != number:
            return function(*arguments)
        with disk_full_beyond(1000):
            return function(*arguments)

    return limited


def assert_intact_and_resumable(folder: Path, env_steps: int) -> None:
    """Fail unless the checkpoint at `env_steps` is the latest, loads, and nothing half-written lies beside it."""
    assert load_run(folder).state["env_steps"] == env_steps
    assert not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]
    done = call("train", "--resume", folder)
    assert done.code == 0, done.err


@pytest.mark.parametrize(("algorithm", "number"), [("dqn", 3), ("ppo", 2)])  # of a file; DQN's second is its replay
def test_a_full_disk_while_weights_are_saved(algorithm: str, number: int, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(checkpoint, "_save_tensors", full_at_call(number, checkpoint._save_tensors))
    done = call("train", algorithm, "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 1, "model.safetensors", "File too large", "checkpoints already saved are intact")
    assert_intact_and_resumable(tmp_path / "run", 0)


def test_a_full_disk_while_replay_is_saved(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(checkpoint, "_save_replay", full_at_call(2, checkpoint._save_replay))
    done = call("train", "dqn", "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 1, "rows_", "File too large", "checkpoints already saved are intact")
    assert_intact_and_resumable(tmp_path / "run", 0)


def test_a_full_disk_while_metrics_are_written(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "metrics.jsonl").symlink_to("/dev/full")
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", folder)
    assert_one_line(done, 1, "No space left on device", "checkpoints already saved are intact")
    (folder / "metrics.jsonl").unlink()
    assert_intact_and_resumable(folder, 0)


@pytest.mark.parametrize(
    ("command", "names"),
    [
        ("ppo --learning-rate 1e30", "the first bad numbers are in model."),
        ("dqn --learning-rate 1e30", "the first bad numbers are in model."),
        ("ppo --learning-rate 1e30 --epochs 1 --minibatches 1", "the first bad numbers are in model."),
    ],
)
def test_a_loss_that_is_no_number_stops_the_run(command: str, names: str, tmp_path: Path) -> None:
    algorithm, *rest = command.split()
    done = call("train", algorithm, "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run", *rest)
    assert_one_line(done, 1, names, "env step", "the last good checkpoint is", "step_000000000000")
    assert all(bool(torch.isfinite(p).all()) for p in load_run(tmp_path / "run").agent.model.parameters())


@pytest.mark.parametrize(
    ("name", "at"),
    [("head.value.bias", 4), ("head.policy.layer.weight", 2), ("torso.value.layers.0.weight", 2)],
    ids=["found when saving", "found when acting", "found in the loss"],
)
def test_a_poisoned_weight_is_named_and_never_saved(name: str, at: int, tmp_path: Path, monkeypatch: Any) -> None:
    update = PPO.update

    def poisoned(agent: PPO, *arguments: Any) -> Any:
        result = update(agent, *arguments)
        if agent.updates == at:
            agent.model.get_parameter(name).data.fill_(np.nan)
        return result

    monkeypatch.setattr(PPO, "update", poisoned)
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 1, f"model.{name}" if at == 4 else "model.", "env step", "the last good checkpoint is")
    saved = load_run(tmp_path / "run")
    assert checkpoint.non_finite(saved.agent) is None


def test_a_tracker_that_cannot_start_is_a_warning(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(**arguments: Any) -> None:
        raise OSError("the moon is in the wrong phase")

    monkeypatch.setattr(wandb, "init", refuse)
    with pytest.warns(UserWarning, match="W&B cannot run offline: the moon"):
        done = call("train", "ppo", "--env", "CartPole-v1", "--preset", "tiny", "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert load_run(tmp_path / "run").state["env_steps"] >= 400


def test_a_tracker_that_breaks_later_is_a_warning(tmp_path: Path, monkeypatch: Any) -> None:
    class Broken:
        dir, step = str(tmp_path / "files"), 0

        def define_metric(self, *arguments: Any, **more: Any) -> None: ...

        def log(self, values: Any, step: int) -> None:
            raise ConnectionError("gone")

        def finish(self) -> None:
            raise ConnectionError("gone")

    monkeypatch.setattr(wandb, "init", lambda **arguments: Broken())
    with pytest.warns(UserWarning, match="W&B failed"):
        done = call("train", "ppo", "--env", "CartPole-v1", "--preset", "tiny", "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err


def test_a_tracker_folder_that_cannot_be_written_does_not_stop_training(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "wandb").write_text("a file where W&B wants a folder")
    with pytest.warns(UserWarning, match="W&B"):
        done = call("train", "ppo", "--env", "CartPole-v1", "--preset", "tiny", "--run-dir", folder)
    assert done.code == 0, done.err
    assert load_run(folder).state["env_steps"] >= 400


def test_a_video_that_cannot_be_made_is_a_warning(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(*arguments: Any, **more: Any) -> None:
        raise RuntimeError("no codec")

    monkeypatch.setattr("scripts.runner.watching.record_video", refuse)
    with pytest.warns(UserWarning, match="no video of the trained agent: no codec"):
        done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--videos", "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err


def test_a_bug_is_no_bad_number(tmp_path: Path, monkeypatch: Any) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr(PPO, "update", fail)
    with pytest.raises(RuntimeError, match=r"^a bug$"):
        call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run")


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path, monkeypatch: Any) -> None:
    def refuse(*arguments: Any) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("scripts.runner.training._make_run", refuse)
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run")
    assert_one_line(done, 2, "cannot be made (Read-only file system); choose another --run-dir")


def test_games_that_cannot_be_saved_do_not_stop_an_evaluation(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", run).code == 0
    (run / "replays" / "eval.jsonl").unlink(missing_ok=True)
    (run / "replays" / "eval.jsonl").mkdir()
    with pytest.warns(UserWarning, match="the games were not saved"):
        done = call("evaluate", run, "--episodes", 2)
    assert json.loads(done.out.splitlines()[-1])["episodes"] == 2


def test_a_closed_pipe_ends_a_command_without_a_message() -> None:
    command = f"{sys.executable} {ROOT / 'scripts/train.py'} --help | true"
    shell = ["bash", "-c", f"set -o pipefail; {command}"]
    done = subprocess.run(shell, capture_output=True, text=True, check=False, env=ENVIRONMENT)
    assert done.stderr == ""


def test_a_run_of_stable_baselines_is_not_resumed(tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert call("train", "sb3-ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", run).code == 0
    assert_one_line(call("train", "--resume", run, "--total-steps", 999), 2, "cannot go on in the middle")

"""Tracking with Weights & Biases, read from its offline files with its own reader."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import wandb

from agents.run.tracking import Labels, WandbTracker, make_tracker
from tests.scripts.inside import assert_one_line, call
from tests.scripts.runner import kill_once_beyond

TINY = ("ppo", "--env", "CartPole-v1", "--preset", "tiny", "--eval-episodes", 0)
CONFIG = {"algo": "ppo", "env_id": "CartPole-v1", "protocol": "default", "learning_rate": 0.5}


def records(run: Path) -> list[dict[str, Any]]:
    """Return all records of the only offline folder of a run."""
    (path,) = (run / "wandb").glob("offline-run-*/*.wandb")
    command = [str(Path(sys.executable).parent / "wandb"), "leet", "inspect", "--json", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


def history(run: Path) -> dict[int, dict[str, Any]]:
    """Return the metrics by W&B step; fail if a step occurs twice."""
    rows = [record["history"]["item"] for record in records(run) if record["type"] == "history"]
    steps = [row["_step"] for row in rows]
    assert len(steps) == len(set(steps))
    return dict(zip(steps, rows, strict=True))


def lines(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_mirrored(run: Path) -> None:
    """Fail unless W&B has each line of metrics.jsonl once, under its number."""
    rows, truth = history(run), lines(run)
    assert sorted(rows) == list(range(len(truth)))
    for number, line in enumerate(truth):
        assert {key: rows[number][key] for key in line} == line


def test_wandb_gets_every_line_the_videos_the_report_and_the_labels(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = call("train", *TINY, "--videos", "--run-dir", run, "--group", "mine", "--tags", "a", "b")
    assert done.code == 0, done.err
    assert_mirrored(run)
    rows = history(run)
    assert rows[0]["video/untrained._type"] == "video-file"
    assert rows[max(rows)]["video/trained._type"] == "video-file"
    assert rows[max(rows)]["report._type"] == "html-file"
    (mirror,) = (run / "wandb").glob("offline-run-*")
    media = mirror / "files" / "media"
    assert {path.stat().st_size for path in media.rglob("*.mp4")} == {
        path.stat().st_size for path in (run / "videos").glob("*.mp4")
    }
    (page,) = media.rglob("*.html")
    assert page.read_text() == (run / "report.html").read_text()
    starts = [record["run"] for record in records(run) if record["type"] == "run"]
    assert starts[0]["run_group"] == "mine"
    assert starts[0]["job_type"] == "train"
    assert starts[0]["tags"] == ["ppo", "CartPole-v1", "native", "a", "b"]
    names = json.dumps(starts[0]["config"])
    assert "learning_rate" in names
    assert json.loads((run / "config.json").read_text())["card"]["fingerprint"] in names
    metrics = json.dumps([record for record in records(run) if record["type"] == "metric"])
    assert '"step_metric": "env_steps"' in metrics


def test_a_killed_run_resumes_without_repeated_or_lost_lines(tmp_path: Path) -> None:
    run = tmp_path / "run"
    given = [*TINY, "--total-steps", 4000, "--checkpoint-steps", 1000, "--stop-return", "None", "--run-dir", run]
    kill_once_beyond(2000, run, *given)
    (before,) = (run / "wandb").glob("offline-run-*")
    done = call("train", "--resume", run)
    assert done.code == 0, done.err
    assert not before.exists()
    assert_mirrored(run)
    assert lines(run)[-1]["env_steps"] >= 3900


def test_lines_that_wandb_has_are_not_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Resumed:
        """A fake of the run that wandb.init resumes online, with 3 rows."""

        dir, step = str(tmp_path), 3

        def __init__(self) -> None:
            self.rows: dict[int, Any] = {}

        def define_metric(self, *arguments: Any, **more: Any) -> None: ...

        def log(self, values: dict[str, float], step: int) -> None:
            self.rows[step] = values

    online = Resumed()
    monkeypatch.setattr(wandb, "init", lambda **arguments: online)
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"env_steps": {number}}}\n' for number in range(5)))
    tracker = make_tracker("online", tmp_path, "id", CONFIG, Labels())
    assert online.rows == {3: {"env_steps": 3}, 4: {"env_steps": 4}}  # the last two had not arrived
    tracker.log({"env_steps": 5})
    assert list(online.rows) == [3, 4, 5]


def test_a_run_that_was_not_tracked_before_is_sent_completely(tmp_path: Path) -> None:
    (tmp_path / "metrics.jsonl").write_text("".join(f'{{"env_steps": {8 * number}}}\n' for number in range(50)))
    WandbTracker(tmp_path, "id", CONFIG, "offline", Labels()).finish()
    assert_mirrored(tmp_path)


def test_no_login_falls_back_to_offline_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HOME": tmp_path, "NETRC": tmp_path / "none", "WANDB_CONFIG_DIR": tmp_path}.items():
        monkeypatch.setenv(name, str(value))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    with pytest.warns(UserWarning, match="W&B cannot run online.*wandb login") as warned:
        done = call("train", *TINY, "--track", "online", "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    (line,) = [str(each.message) for each in warned if "W&B" in str(each.message)]
    assert "\n" not in line
    assert_mirrored(tmp_path / "run")


def test_a_sweep_agent_names_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environ, "WANDB_RUN_ID", "given1")
    done = call("train", *TINY, "--run-dir", tmp_path / "run")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "run" / "config.json").read_text())["run_id"] == "given1"
    assert next((tmp_path / "run" / "wandb").glob("offline-run-*")).name.endswith("-given1")


def test_the_report_of_a_stopped_run_takes_no_step_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("<html>stopped</html>")
    tracker = WandbTracker(tmp_path, "id", CONFIG, "offline", Labels())
    for number in range(3):
        tracker.log({"env_steps": number})
    tracker.report(tmp_path / "page.html")
    tracker.finish()
    rows = history(tmp_path)
    assert list(rows) == [0, 1, 2]
    assert rows[2]["report._type"] == "html-file"
    assert rows[2]["env_steps"] == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--tags", "x" * 65), "W&B takes tags of 1 to 64 letters"),
        (("--tags", "good", ""), "W&B takes tags of 1 to 64 letters"),
        (("--project", "a/b"), "W&B's projects have no / in their names"),
        (("--group", "g" * 129), "--group: W&B takes names of 1 to 128 letters"),
    ],
)
def test_names_that_wandb_refuses_are_refused_before_the_training(
    words: tuple[str, ...], message: str, tmp_path: Path
) -> None:
    assert_one_line(call("train", *TINY, "--run-dir", tmp_path / "run", *words), 2, message)
    assert not (tmp_path / "run").exists()

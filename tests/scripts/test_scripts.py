"""A run from start to end: train, evaluate, watch, watch a recorded game, compare."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from agents.scores import SCORE_GAMES
from envs.video import check_video
from scripts.report.run_data import LAST_GAMES, read_run
from tests.scripts.inside import QUIET, assert_one_line, call
from tests.scripts.runner import script
from tests.scripts.test_resume import metrics


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = script(
        "train", "ppo", "--env", "CartPole-v1", "--preset", "tiny", "--run-dir", folder, "--videos",
        "--eval-episodes", 3, "--track", "offline",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for name in ("videos", "report", "W&B folder"):
        assert name in done.stdout
    return folder


def test_a_run_folder_is_complete(run: Path) -> None:
    record = json.loads((run / "config.json").read_text())
    assert {"config", "card", "spaces", "versions", "git", "machine", "command"} <= record.keys()
    assert record["card"]["fingerprint"]
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all({"env_steps", "wall_seconds"} <= line.keys() for line in lines)
    names = set().union(*lines)
    wanted = {"episode/return", "episode/length", "eval/return_mean", "train/loss", "train/entropy"}
    wanted |= {"time/steps_per_second", "time/env_share", "time/act_share", "time/learn_share", "time/log_share"}
    assert wanted <= names
    assert (run / "checkpoints" / "latest").read_text().startswith("step_")
    assert (run / "checkpoints" / "best").exists()
    assert len(list((run / "videos").glob("*.mp4"))) == 2
    assert (run / "report.html").stat().st_size > 10_000


def test_the_last_lines_are_the_next_commands_and_they_work(tmp_path: Path) -> None:
    run = tmp_path / "a run"
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", run, "--total-steps", 200)
    lines = done.out.splitlines()[-4:]
    assert lines[0] == "next:"
    assert [line[:14].strip() for line in lines[1:]] == ["watch:", "evaluate:", "extend:"]
    for line in lines[1:]:
        python, script_path, *words = shlex.split(line[14:])
        assert python == "python"
        ended = call(Path(script_path).stem, *words)
        assert ended.code == 0, ended
    assert "extended from 200 to 400 env steps" in ended.out
    assert ended.out.splitlines()[-1].endswith("--total-steps 800")


@pytest.mark.parametrize(("algorithm", "words"), [("ppo", ("--stop-return", 1, "--stop-episodes", 1)), ("sb3-ppo", ())])
def test_a_run_that_cannot_go_on_starts_another_from_its_weights(
    algorithm: str, words: tuple[object, ...], tmp_path: Path
) -> None:
    done = call("train", algorithm, "--env", "CartPole-v1", *QUIET, "--run-dir", tmp_path / "run", *words)
    assert done.out.splitlines()[-1] == f"  fine-tune:  python scripts/train.py --from {tmp_path / 'run'}"


def test_terminal_page_and_python_give_one_training_score(tmp_path: Path) -> None:
    run = tmp_path / "run"
    done = call("train", "ppo", "--env", "CartPole-v1", *QUIET, "--run-dir", run, "--total-steps", 4_000,
                "--learning-rate", 1e-9)  # fmt: skip
    (shown,) = re.findall(r"training score ([\d.]+) \(mean return of the last 100 training games\)", done.out)
    returns = [line["episode/return"] for line in metrics(run) if "episode/return" in line]
    assert len(returns) > 100
    assert float(shown) == pytest.approx(sum(returns[-100:]) / 100, abs=0.005)
    assert f"{read_run(run).score:.2f}" == shown
    page = (run / "report.html").read_text()
    assert f"<b>{shown}</b>" in page
    assert "<h2>Evaluations</h2>" not in page
    assert LAST_GAMES == SCORE_GAMES


def test_a_later_evaluation_is_on_the_page(run: Path, tmp_path: Path) -> None:
    before = read_run(run).evaluations
    done = call("evaluate", run, "--episodes", 4, "--seed", 7)
    (shown,) = re.findall(r"evaluation score ([\d.]+) \+- [\d.]+ \(mean return of 4 games of", done.out)
    played = read_run(run).evaluations[len(before) :]
    assert [len(each.returns) for each in played] == [4]
    assert f"{played[0].score:.2f}" == shown
    assert call("compare", run, "--out", tmp_path / "page.html").code == 0
    page = (tmp_path / "page.html").read_text()
    assert "<h2>Evaluations</h2>" in page
    assert f"<b>{shown}</b>" in page


def test_evaluate_prints_json_last_and_is_deterministic(run: Path) -> None:
    words = ("evaluate", run, "--episodes", 5, "--seed", 4)
    one, two = script(*words), call(*words, "--json")
    assert one.returncode == two.code == 0, one.stderr + two.err
    verdict = json.loads(one.stdout.splitlines()[-1])
    assert two.out.splitlines() == [one.stdout.splitlines()[-1]]
    assert verdict["episodes"] == 5
    keys = "return_mean return_std episodes human_normalized fingerprint weights_sha256 env_steps"
    assert set(keys.split()) <= verdict.keys()
    state = json.loads((run / "checkpoints" / (run / "checkpoints/latest").read_text() / "state.json").read_text())
    assert verdict["weights_sha256"] == state["weights_sha256"]
    assert verdict["env_steps"] == state["env_steps"]


def test_watch_writes_a_video_that_plays(run: Path, tmp_path: Path) -> None:
    done = call("watch", run, "--episodes", 2, "--out", tmp_path)
    assert done.code == 0, done.err
    videos = sorted(tmp_path.glob("*.mp4"))
    assert len(videos) == 2
    assert all(check_video(video).width == 600 for video in videos)


def test_watch_replays_any_training_episode_and_refuses_a_changed_one(run: Path, tmp_path: Path) -> None:
    replays = run / "replays" / "train.jsonl"
    count = len(replays.read_text().splitlines())
    assert count > 3
    for episode in (0, count - 1):
        done = call("watch", replays, "--episode", episode, "--verify")
        assert done.code == 0, done.err
        assert "verified" in done.out
    changed = tmp_path / "train.jsonl"
    changed.write_text(replays.read_text().replace('"episode_return":', '"episode_return":1', 1))
    assert_one_line(call("watch", changed, "--episode", 0), 2, "changed after it was written")
    assert not list(tmp_path.glob("**/*.mp4"))


def test_compare_writes_one_page(run: Path, tmp_path: Path) -> None:
    done = script("compare", run, "--out", tmp_path / "page.html")
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "page.html").read_text()
    assert "CartPole-v1" in page
    assert "http://" not in page.replace("http://www.w3.org", "")


def test_dry_run_writes_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = call("train", "dqn", "--env", "CartPole-v1", "--preset", "tiny", "--dry-run", "--run-dir", folder)
    assert done.code == 0, done.err
    for word in ("network", "parameters", "fingerprint", "updates", "epsilon", "replay (exact)", "disk", "predicted"):
        assert word in done.out
    assert not folder.exists()


def test_the_list_shows_installed_games() -> None:
    done = call("train", "--list")
    assert done.code == 0
    rows = {line.split()[0]: line.split()[1] for line in done.out.splitlines() if line.split()[:1]}
    assert rows["atari"] == "104"
    assert rows["toy"] == "7"
    assert "CartPole-v1" in done.out
    for foreign in ("HalfCheetah", "phys2d", "Environment-v0", "Defender-v0"):
        assert foreign not in done.out

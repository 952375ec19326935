"""Reward from a teacher's comments: labels, shaped rewards, and recorded games with their own rewards."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from minigrid.utils.baby_ai_bot import BabyAIBot

from agents.run import checkpoint
from envs.make import make_envs
from envs.teacher import TeacherReward
from tests.scripts.inside import assert_one_line, call
from tests.scripts.runner import kill_once_beyond
from tests.scripts.test_pretrain import pretrain

GAME = "BabyAI-GoToLocalS6N3-v0"
QUIET = ("--preset", "tiny", "--track", "disabled")
pytestmark = pytest.mark.usefixtures("no_report")


def add_teacher_reward(num_envs: int = 3, scale: float = 0.5) -> TeacherReward:
    """A teacher whose comments name their class, read without a network."""
    rewards = {"good": 1.0, "bad": -1.0, "neutral": 0.0}
    return TeacherReward(make_envs(GAME, num_envs), lambda rng, label, thing: f"{label} {thing}",
                  lambda line: rewards[line.split()[0]], scale)  # fmt: skip


def play(envs: TeacherReward, choose: Any, steps: int = 200) -> list[Any]:
    """Return (dead before the step, reward, ends, info) of each step; `choose` maps the bot's action to ours."""
    envs.reset(seed=[1, 2, 3])
    bots, last, dead, rows = [BabyAIBot(game) for game in envs.games], [None] * 3, np.zeros(3, bool), []
    for _ in range(steps):
        actions = [choose(int(bots[env].replan(last[env]))) if not dead[env] else 0 for env in range(3)]
        row = envs.step(np.array(actions))
        rows.append((dead, *row[1:]))
        bots = [BabyAIBot(envs.games[env]) if dead[env] else bots[env] for env in range(3)]
        last = [None if dead[env] else actions[env] for env in range(3)]
        dead = row[2] | row[3]
    return rows


@pytest.mark.parametrize(("choose", "words"), [
    (lambda plan: plan, {"good", "neutral"}), (lambda plan: (plan + 1) % 3, {"bad", "neutral"}),
])  # fmt: skip
def test_steps_of_the_bot_are_praised_and_others_are_not(choose: Any, words: set[str]) -> None:
    envs = add_teacher_reward()
    rows = play(envs, choose)
    comments = [line for dead, *_, info in rows for line in info["feedback"][~dead]]
    assert {line.split()[0] for line in comments} == words
    assert 0.15 < np.mean([line.startswith("neutral") for line in comments]) < 0.35
    assert {line.split()[-1] for line in comments} <= {"ball", "box", "key"}
    for dead, reward, *_, info in rows:
        assert all(line == "" for line in info["feedback"][dead])
        assert not reward[dead].any()
        shaping = [0.5 * {"g": 1, "b": -1, "n": 0}[line[0]] for line in info["feedback"][~dead]]
        won = reward[~dead] - shaping
        assert ((np.abs(won) < 1e-6) | (won > 0.05)).all()
    games = [record for *_, info in rows for record in info.get("episodes", ())]
    assert games
    assert all(0.0 <= record.episode_return <= 1.0 for record in games)


def test_comments_follow_from_the_seeds() -> None:
    def lines() -> list[list[str]]:
        return [list(row[-1]["feedback"]) for row in play(add_teacher_reward(), lambda plan: plan, 40)]

    assert lines() == lines()


def test_a_teacher_survives_states_that_its_bot_cannot_plan_from() -> None:
    envs = add_teacher_reward()
    envs.reset(seed=[1, 2, 3])
    rng = np.random.default_rng(0)
    for _ in range(300):  # picks up, drops and toggles whatever is there
        *_, info = envs.step(rng.integers(7, size=3))
        assert len(info["feedback"]) == 3


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reader") / "run"
    done = pretrain("feedback", "--examples", 300, "--epochs", 1, "--threads", 1, "--no-baselines", "--run-dir", folder)
    assert done.code == 0, done.err
    return folder


@pytest.mark.parametrize("algorithm", ["ppo", "dqn"])
def test_an_agent_trains_with_a_teacher_and_its_run_holds_a_copy(algorithm: str, reader: Path, tmp_path: Path) -> None:
    own = shutil.copytree(reader, tmp_path / "reader")
    run = tmp_path / "run"
    words = (algorithm, "--env", GAME, *QUIET, "--run-dir", run, "--teacher", own, "--teacher-scale", 0.1)
    done = call("train", *words)
    assert done.code == 0, done.err
    games = [json.loads(line) for line in (run / "replays/train.jsonl").read_text().splitlines()]
    assert games
    assert all(0.0 <= game["episode_return"] <= 1.0 for game in games)
    shutil.rmtree(own)  # the run has a copy
    done = call("evaluate", run, "--episodes", 2)
    assert done.code == 0, done.err
    done = call("compare", run, "--out", tmp_path / "page.html")  # the page shows runs with a teacher
    assert done.code == 0, done.err


def test_a_killed_run_with_a_teacher_resumes_exactly(reader: Path, tmp_path: Path) -> None:
    words = ["ppo", "--env", GAME, *QUIET, "--total-steps", 600, "--checkpoint-steps", 200, "--teacher", reader]
    done = call("train", *words, "--run-dir", tmp_path / "whole")
    assert done.code == 0, done.err
    kill_once_beyond(200, tmp_path / "cut", *words, "--run-dir", tmp_path / "cut", within=0.0)
    done = call("train", "--resume", tmp_path / "cut")
    assert done.code == 0, done.err
    found = [checkpoint.read_state(checkpoint.resolve(tmp_path / name / "checkpoints")) for name in ("whole", "cut")]
    assert found[0]["weights_sha256"] == found[1]["weights_sha256"]


def test_a_teacher_of_other_games_or_trained_on_something_else_is_refused(reader: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    for env in ("MiniGrid-Empty-5x5-v0", "CartPole-v1"):
        done = call("train", "ppo", "--env", env, *QUIET, "--run-dir", run, "--teacher", reader)
        assert_one_line(done, 2, "a teacher exists only for BabyAI's games", env)
    done = call("train", "ppo", "--env", GAME, *QUIET, "--run-dir", run, "--teacher", tmp_path)
    assert_one_line(done, 2, "holds no encoder")
    done = call("train", "ppo", "--env", GAME, *QUIET, "--run-dir", run, "--teacher-scale", 0)
    assert_one_line(done, 2, "--teacher-scale must be above 0")
    assert (
        pretrain(
            "digits",
            "--examples",
            100,
            "--epochs",
            1,
            "--threads",
            1,
            "--no-baselines",
            "--run-dir",
            tmp_path / "digits",
        ).code
        == 0
    )
    done = call("train", "ppo", "--env", GAME, *QUIET, "--run-dir", run, "--teacher", tmp_path / "digits")
    assert_one_line(done, 2, "was trained on digits, not on feedback")
    assert not run.exists()

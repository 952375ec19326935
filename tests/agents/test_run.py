"""A run by hand: the random draws of its segments, the steps that it counts, its end, and its best checkpoint."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from agents.build import build_agent
from agents.errors import ConfigError, RunError
from agents.evaluate import evaluate
from agents.loops import interact
from agents.run.run import Run, Segment
from agents.value.dqn import DQN, DQNConfig
from envs.make import make_envs
from envs.toy import CountingEnv
from scripts.runner.evaluation import evaluate_agent
from tests.machine import CPU

CONFIG = DQNConfig(num_envs=3, hidden=(4,), total_steps=1000)


def run(folder: Path, **options: Any) -> Run:
    config = DQNConfig(num_envs=3, hidden=(4,), stop_return=10.0, stop_episodes=3)
    return Run(folder, config, **options)


def game(score: float) -> Any:
    return SimpleNamespace(episode_return=score, length=1, to_json=lambda **extras: "{}")


def test_each_environment_segment_and_run_has_seeds_of_its_own() -> None:
    segments = [Segment(seed, index, 100, 8) for seed in range(3) for index in range(3)]
    seeds = [seed for segment in segments for seed in segment.seeds]
    assert len(set(seeds)) == 3 * 3 * 8
    assert all(0 <= seed < 2**31 for seed in seeds)
    assert seeds[:8] == Segment(0, 0, 100, 8).seeds


def test_each_use_segment_and_run_has_random_draws_of_its_own() -> None:
    cpu = torch.device("cpu")
    segments = [Segment(seed, index, 100, 1) for seed in range(3) for index in range(3)]
    draws = {int(torch.randint(2**60, (1,), generator=each.rng(cpu, "acting"))) for each in segments}
    draws |= {int(torch.randint(2**60, (1,), generator=each.rng(cpu, "learning"))) for each in segments}
    assert len(draws) == 2 * len(segments)
    assert len({int(each.numpy_rng().integers(2**60)) for each in segments}) == len(segments)


def test_steps_that_only_reset_are_not_counted(vector: Callable[..., Any], tmp_path: Path) -> None:
    envs, counted = vector(CountingEnv, 3), run(tmp_path)
    rng = torch.Generator().manual_seed(0)
    for row in islice(interact(build_agent("dqn", CONFIG, envs, CPU), envs, [1, 2, 3], rng, 0), 5):
        counted.observe(row)
    counted.close()
    assert counted.env_steps == 3 * 4  # three steps of an episode, the reset, and one step of the next


def test_a_run_is_solved_by_as_many_games_as_set(tmp_path: Path) -> None:
    solved = run(tmp_path)
    found = []
    for score in (0.0, 11.0, 10.0, 9.0, 8.0):
        solved.count(1, [game(score)])
        found.append(solved.solved)
    solved.close()
    assert found == [False, False, False, True, False]
    early = run(tmp_path)
    early.count(1, [game(50.0), game(50.0)])
    early.close()
    assert not early.solved


def test_the_best_checkpoint_has_the_highest_score_and_is_kept(vector: Callable[..., Any], tmp_path: Path) -> None:
    scores, folder = iter([3.0, 9.0, 9.0, 1.0, 2.0]), tmp_path / "checkpoints"
    agent = build_agent("dqn", CONFIG, vector(CountingEnv, 3), CPU)
    saved = run(tmp_path, evaluate=lambda _: {"eval/return_mean": next(scores)})
    saved.checkpoint(agent)
    best = []
    for index in range(5):
        saved.env_steps += 10
        saved.checkpoint(agent, Segment(0, index, saved.env_steps, 3))
        assert saved.segment_index == index + 1
        best.append(int((folder / "best").read_text().removeprefix("step_")))
    saved.close()
    assert best == [10, 20, 20, 20, 20]
    assert (folder / "latest").read_text() == "step_000000000050"
    assert sorted(path.name[-2:] for path in folder.glob("step_*")) == ["20", "40", "50"]


@pytest.mark.parametrize("episodes", [1, 4, 5])
def test_games_of_an_evaluation_are_shared_evenly_and_none_is_left_out(episodes: int) -> None:
    envs = make_envs("joypad/Chain-v0", 3)
    agent = build_agent("dqn", CONFIG, envs, CPU)
    assert isinstance(agent, DQN)
    played = [record.env for record in evaluate(agent, envs, episodes, seed=1).records]
    envs.close()
    assert played == (3 * [0, 1, 2])[:episodes]


def test_a_second_signal_ends_at_once(tmp_path: Path) -> None:
    signalled = run(tmp_path)
    signalled._stop(2, None)
    with pytest.raises(KeyboardInterrupt):
        signalled._stop(2, None)
    signalled.close()


def test_numbers_that_are_not_finite_are_named(tmp_path: Path) -> None:
    broken = run(tmp_path)
    broken.latest, broken.env_steps = {"train/loss": torch.tensor(torch.nan)}, 5_000
    with pytest.raises(RunError, match="train/loss is nan at env step 5,000"):
        broken.log_if_due()
    broken.close()


def test_a_segment_without_steps_is_not_saved_again(vector: Callable[..., Any], tmp_path: Path) -> None:
    agent = build_agent("dqn", CONFIG, vector(CountingEnv, 3), CPU)
    stopped = run(tmp_path)
    stopped.checkpoint(agent)
    before = (tmp_path / "checkpoints" / "latest").stat().st_mtime_ns
    stopped.checkpoint(agent, Segment(0, 0, 100, 3))
    assert (tmp_path / "checkpoints" / "latest").stat().st_mtime_ns == before
    stopped.close()


def test_damaged_older_checkpoints_keep_all_pieces_of_the_replay(vector: Callable[..., Any], tmp_path: Path) -> None:
    agent = build_agent("dqn", CONFIG, vector(CountingEnv, 3), CPU)
    saved = run(tmp_path)
    pieces = tmp_path / "checkpoints" / "replay"
    pieces.mkdir(parents=True)
    left = []
    for index, damaged in enumerate((False, True)):
        saved.checkpoint(agent, Segment(0, index, saved.env_steps, 3) if index else None)
        (pieces / "rows_unused").touch()
        if damaged:
            (tmp_path / "checkpoints" / f"step_{saved.env_steps:012d}" / "state.json").write_text("{")
        saved.env_steps += 10
        saved.checkpoint(agent, Segment(0, index, saved.env_steps, 3))
        left.append((pieces / "rows_unused").exists())
        saved.env_steps += 10
    saved.close()
    assert left == [False, True]


def test_an_episode_without_an_end_stops_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agents.evaluate.STUCK_STEPS", 5)
    envs = make_envs("CartPole-v1", 2)
    agent = build_agent("dqn", CONFIG, envs, CPU)
    with pytest.raises(ValueError, match="has not ended after 5 steps; this environment needs a time limit"):
        evaluate(agent, envs, 2, seed=1)  # type: ignore[arg-type]
    envs.close()


def test_an_agent_is_not_evaluated_on_other_observations() -> None:
    envs = make_envs("CartPole-v1", 2)
    agent = build_agent("dqn", CONFIG, envs, CPU)
    envs.close()
    with pytest.raises(ConfigError, match=r"the agent observes Box.*, the game shows Box"):
        evaluate_agent(agent, replace(CONFIG, env="Acrobot-v1"), 2, seed=0)

"""The measured speed: cold starts do not count, and the predicted time is the time of play and of all updates."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.build import build_agent
from agents.config import TrainConfig
from agents.presets.registry import PRESETS, tiny, with_core
from agents.run import preflight, speed
from agents.run.speed import measure, seconds_of
from envs.make import make_envs
from tests.machine import CPU


class Clock:
    """A clock that goes on only when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.now = 0.0
        monkeypatch.setattr(speed.time, "perf_counter", lambda: self.now)

    def calls(self, *seconds: float) -> Callable[[], None]:
        """Return a function whose calls take these seconds, and the last of them from then on."""
        rest = list(seconds)

        def call() -> None:
            self.now += rest.pop(0) if len(rest) > 1 else rest[0]

        return call


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


def test_the_first_call_is_a_warm_up(clock: Clock) -> None:
    assert seconds_of(clock.calls(6.5, 0.02), 0.3) == pytest.approx(0.02)
    assert clock.now < 6.5 + 1.0


def test_measurements_repeat_until_two_agree(clock: Clock) -> None:
    slow_start = clock.calls(0.0, 1.0, 0.5, 0.2)
    assert seconds_of(slow_start, 0.3) == pytest.approx((1.0 + 0.5) / 2)  # no time for more: 1.2 s are over
    assert seconds_of(clock.calls(0.0, *[0.03] * 10, *[0.015] * 20, 0.01), 0.3) == pytest.approx(0.01)


def test_without_time_one_call_is_measured(clock: Clock) -> None:
    assert seconds_of(clock.calls(9.0, 3.0, 1.0), 0.0) == 3.0


TRAININGS: list[tuple[str, str, dict[str, Any]]] = [
    ("ppo", "none", {"rollout_length": 32, "minibatches": 4, "epochs": 10}),
    ("ppo", "lstm", {"rollout_length": 32, "sequence_length": 8, "minibatches": 2, "epochs": 3}),
    ("pqn", "none", {}), ("impala", "none", {}), ("dqn", "none", {"learning_starts": 300}), ("dqn", "lstm", {}),
]  # fmt: skip


@pytest.mark.parametrize(("row", "sample"), [(0.01, 0.005), (0.001, 0.1), (0.2, 0.02)])
@pytest.mark.parametrize(("algorithm", "core", "changes"), TRAININGS)
def test_the_predicted_time_is_that_of_all_rows_and_updates(
    algorithm: str, core: Any, changes: dict[str, Any], row: float, sample: float, clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """A row takes `row` seconds, learning from it `sample`, and a reset 2; the first action is slow."""
    config: Any = replace(with_core(tiny(PRESETS[algorithm, "classic"]), core), env="CartPole-v1", core_size=8)
    config = replace(config, total_steps=640, **changes)
    envs = make_envs("CartPole-v1", config.num_envs)
    agent = build_agent(algorithm, config, envs, CPU)
    act, update = type(agent).act, type(agent).update
    calls = iter(range(10**9))

    def slow_act(self: Any, *arguments: Any) -> Any:
        clock.now += 30.0 if next(calls) == 0 else row
        return act(self, *arguments)

    def slow_update(self: Any, batch: Any, rng: Any) -> Any:
        clock.now += sample * (batch.dead.numel() * self.config.epochs if hasattr(batch, "dead") else 1)
        return update(self, batch, rng)

    def slow_reset(**options: Any) -> Any:
        clock.now += 2.0
        return reset(**options)

    reset = envs.reset
    monkeypatch.setattr(envs, "reset", slow_reset)
    monkeypatch.setattr(type(agent), "act", slow_act)
    monkeypatch.setattr(type(agent), "update", slow_update)
    seconds = measure(agent, envs, 0.3, 0.4).of_training(config)
    updates = 640 * config.epochs if hasattr(config, "epochs") else config.replay_ratio * (640 - config.learning_starts)
    assert config.checkpoint_steps == 200
    assert seconds == pytest.approx(4 * 2.0 + 640 / config.num_envs * row + updates * sample, rel=0.02)
    assert clock.now < 32.0 + 10 * max(row, 0.3) + 40 * sample * 32  # a few measurements, not whole rollouts
    envs.close()


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {"stop_return": 475.0, "stop_episodes": 30},
            "at most 50 seconds (stops at a mean score of 475 over 30 games)",
        ),
        ({"stop_return": None}, "about 50 seconds"),
    ],
)
def test_a_training_that_stops_at_a_score_takes_at_most_its_time(
    changes: dict[str, Any], line: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config: TrainConfig = replace(tiny(PRESETS["ppo", "classic"]), env="CartPole-v1", total_steps=5_000, **changes)
    envs = make_envs("CartPole-v1", config.num_envs)
    agent = build_agent("ppo", config, envs, CPU)
    monkeypatch.setattr(type(agent), "measure_speed", lambda self, envs: 100.0)
    predicted = preflight.plan(agent, envs, envs.game, tmp_path).lines["predicted"]
    assert predicted.startswith("100 env steps/s on cpu")
    assert predicted.endswith(f"done in {line}")
    envs.close()

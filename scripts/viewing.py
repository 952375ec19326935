"""Watching: play, keep the actions, render the replay. Every video comes from a verified action replay."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents.config import TrainConfig
from agents.evaluate import evaluate
from agents.learner import Learner
from envs.make import make_env
from envs.recording import check_video, render_replay
from scripts import common


def record_video(
    agent: Learner, config: TrainConfig, path: Path, seed: int, label: str = "", scale: int = 1
) -> dict[str, Any]:
    """Let the agent play one full game and write it as a video; return the recording's facts."""
    envs = common.environments(config, 1, threads=1)
    try:
        result = evaluate(agent, envs, 1, seed)
    finally:
        envs.close()
    record, values = result["records"][0], result["values"][0]
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = render_replay(record, [], path, make_env, scale=scale, overlay=score_and_value(values, label))
    check_video(path, facts["seconds"])
    return {**facts, "record": record, "weights_sha256": result["weights_sha256"]}


def score_and_value(values: Sequence[float], label: str = "") -> Callable[[int, float], list[str]]:
    """Return the overlay: the game's score so far, and the agent's value of what it sees."""

    def overlay(step: int, score: float) -> list[str]:
        value = f"value {values[step]:.2f}" if step < len(values) else ""
        return [part for part in (f"score {score:g}", value, label) if part]

    return overlay

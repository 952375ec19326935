"""Watching: play, keep the actions, render the replay. Every video comes from a verified action replay."""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.evaluate import evaluate
from agents.learner import Learner
from envs.action_replays import EpisodeRecord, load_replays, previous_episodes, resimulate, verify
from envs.errors import ReplayError
from envs.make import make_env
from envs.video import check_video, render_frame, render_replay
from scripts.runner import mission_channels
from scripts.runner.environments import environments
from scripts.runner.evaluation import keep_games, seed_of
from scripts.runner.saved_run import load_run

Overlay = Callable[[int, float], list[str]]


def watch_run(arguments: argparse.Namespace) -> None:
    """Let a run's agent play full games, and write a video of each, or show them."""
    saved = load_run(arguments.what, arguments.checkpoint)
    folder = arguments.out or saved.folder / "videos"
    config = mission_channels.chosen(arguments, saved.config)
    envs = environments(config, 1, threads=1, said=arguments.say)
    told = mission_channels.heard(config, arguments.say) if arguments.say is not None else None
    if told is not None:
        print(f'the agent is told "{told}"')
    for game in range(arguments.episodes):
        result = evaluate(saved.agent, envs, 1, seed_of(arguments.seed + game, 0xA7C4))
        record, overlay = result.records[0], score_and_value(result.values[0], told)
        print(f"game {game + 1}: score {record.episode_return:g} in {record.length} steps")
        name = f"{saved.checkpoint.name}_game_{arguments.seed + game}_return_{record.episode_return:g}"
        keep_games(saved, "watch", result)
        _present(record, [], folder / f"{name}.mp4", overlay, arguments)
    envs.close()


def watch_replay(arguments: argparse.Namespace) -> None:
    """Simulate a recorded game again, check it, and write its video or show it."""
    if not arguments.what.exists():
        raise ConfigError(f"{arguments.what} does not exist; give a run folder, or a .jsonl from its replays folder")
    records = load_replays(arguments.what)
    number = _chosen(records, arguments.episode)
    record, previous = records[number], previous_episodes(records, number)
    if arguments.verify:
        verify(record, previous, make_env)
        print(f"verified: {record.env_id}, score {record.episode_return:g} in {record.length} steps, all frames agree")
        return
    folder = arguments.out or arguments.what.resolve().parent.parent / "videos"
    name = f"{arguments.what.stem}_episode_{number}_return_{record.episode_return:g}.mp4"
    _present(record, previous, folder / name, lambda step, score: [f"score {score:g}"], arguments)


def record_video(agent: Learner, config: TrainConfig, path: Path, seed: int) -> dict[str, Any]:
    """Let the agent play one full game and write it as a video; return the recording's facts."""
    envs = environments(config, 1, threads=1)
    try:
        result = evaluate(agent, envs, 1, seed)
    finally:
        envs.close()
    return _write(result.records[0], [], path, score_and_value(result.values[0]))


def score_and_value(values: Sequence[float], said: str | None = None) -> Overlay:
    """Return the overlay: the score so far, and the agent's value of what it sees; above it what it was told."""

    def overlay(step: int, score: float) -> list[str]:
        value = f"  value {values[step]:.2f}" if step < len(values) else ""
        return [*([said] if said is not None else []), f"score {score:g}{value}"]

    return overlay


def _present(
    record: EpisodeRecord, previous: list[EpisodeRecord], path: Path, overlay: Overlay, arguments: argparse.Namespace
) -> None:
    if arguments.live:
        show(record, previous, arguments.scale)
        return
    facts = _write(record, previous, path, overlay, arguments.scale)
    sound = "with sound" if facts["has_audio"] else "silent"
    print(f"  {path} ({facts['width']}x{facts['height']}, {facts['seconds']:.0f} s, {sound})")


def _write(
    record: EpisodeRecord, previous: list[EpisodeRecord], path: Path, overlay: Overlay, scale: int = 1
) -> dict[str, Any]:
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = render_replay(record, previous, path, make_env, scale=scale, overlay=overlay)
    check_video(path, facts["seconds"])
    return facts


def _chosen(records: list[EpisodeRecord], which: str) -> int:
    if which == "best":
        return max(range(len(records)), key=lambda number: records[number].episode_return)
    if which == "last":
        return len(records) - 1
    if which.isdigit() and int(which) < len(records):
        return int(which)
    raise ReplayError(f"there is no episode '{which}'; give best, last or a number from 0 to {len(records) - 1}")


def show(record: EpisodeRecord, previous: list[EpisodeRecord], scale: int) -> None:
    """Play a recorded game in a window, at its own speed; closing the window ends it."""
    import pygame

    try:
        pygame.display.init()
    except pygame.error as error:
        raise ConfigError(f"no window can be opened here ({error}); leave out --live to write a video") from error
    window: Any = None
    try:
        for moment in resimulate(record, previous, make_env):
            frame = render_frame(moment.env)
            height, width = frame.shape[0] * scale * 2, frame.shape[1] * scale * 2
            if window is None:
                window = pygame.display.set_mode((width, height))
                pygame.display.set_caption(f"{record.env_id}: score {record.episode_return:g}")
            picture = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
            window.blit(pygame.transform.scale(picture, (width, height)), (0, 0))
            pygame.display.flip()
            if any(event.type == pygame.QUIT for event in pygame.event.get()):
                break
            time.sleep(1.0 / float(moment.env.metadata.get("render_fps", 30)))
    finally:
        pygame.display.quit()

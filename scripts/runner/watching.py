"""Watching: play, keep the actions, render the replay. Every video comes from a verified action replay."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.evaluate import evaluate
from agents.learner import Learner
from agents.settings import ChannelName
from envs.action_replays import EpisodeRecord, load_replays, previous_episodes, resimulate
from envs.action_replays import verify as verify_replay
from envs.errors import ReplayError
from envs.make import make_env
from envs.video import Recording, check_video, render_frame, render_replay
from scripts.runner import mission_channels
from scripts.runner.environments import environments
from scripts.runner.evaluation import keep_games, seed_of
from scripts.runner.saved_run import load_run

Overlay = Callable[[int, float], list[str]]


def watch_run(
    folder: Path,
    *,
    episodes: int = 1,
    seed: int = 0,
    checkpoint: str = "latest",
    scale: int = 1,
    out: Path | None = None,
    live: bool = False,
    mission_channel: ChannelName | None = None,
    interpreter: Path | None = None,
    mission: str | None = None,
) -> None:
    """Play `episodes` full games with a run's agent; write a video of each, or show them `live` in a window.

    `mission_channel` and `interpreter` replace the run's own; `mission` (text or a WAV file) replaces the game's.
    """
    saved = load_run(folder, checkpoint)
    config = mission_channels.with_channel(saved.config, mission_channel, interpreter)
    envs = environments(config, 1, threads=1, custom_mission=mission)
    understood = mission_channels.interpreted_mission(config, mission) if mission is not None else None
    if understood is not None:
        print(f'the agent is told "{understood}"')
    for game in range(episodes):
        result = evaluate(saved.agent, envs, 1, seed_of(seed + game, 0xA7C4))
        record, overlay = result.records[0], score_and_value(result.values[0], understood)
        print(f"game {game + 1}: score {record.episode_return:g} in {record.length} steps")
        name = f"{saved.checkpoint.name}_game_{seed + game}_return_{record.episode_return:g}"
        keep_games(saved, "watch", result)
        _present(record, [], (out or saved.folder / "videos") / f"{name}.mp4", overlay, scale, live)
    envs.close()


def watch_replay(
    path: Path,
    *,
    episode: str = "best",
    verify: bool = False,
    scale: int = 1,
    out: Path | None = None,
    live: bool = False,
) -> None:
    """Simulate a recorded game again and check it; then write its video or show it, unless only to `verify` it."""
    if not path.exists():
        raise ConfigError(f"{path} does not exist; give a run folder, or a .jsonl from its replays folder")
    records = load_replays(path)
    number = _chosen(records, episode)
    record, previous = records[number], previous_episodes(records, number)
    if verify:
        verify_replay(record, previous, make_env)
        print(f"verified: {record.env_id}, score {record.episode_return:g} in {record.length} steps, all frames agree")
        return
    folder = out or path.resolve().parent.parent / "videos"
    name = f"{path.stem}_episode_{number}_return_{record.episode_return:g}.mp4"
    _present(record, previous, folder / name, lambda step, score: [f"score {score:g}"], scale, live)


def record_video(agent: Learner, config: TrainConfig, path: Path, seed: int) -> Recording:
    """Let the agent play one full game and write it as a video."""
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
    record: EpisodeRecord, previous: list[EpisodeRecord], path: Path, overlay: Overlay, scale: int, live: bool
) -> None:
    if live:
        show(record, previous, scale)
        return
    video = _write(record, previous, path, overlay, scale)
    sound = "with sound" if video.has_audio else "silent"
    print(f"  {path} ({video.width}x{video.height}, {video.seconds:.0f} s, {sound})")


def _write(
    record: EpisodeRecord, previous: list[EpisodeRecord], path: Path, overlay: Overlay, scale: int = 1
) -> Recording:
    path.parent.mkdir(parents=True, exist_ok=True)
    video = render_replay(record, previous, path, make_env, scale=scale, overlay=overlay)
    check_video(path, video.seconds)
    return video


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
        for step in resimulate(record, previous, make_env):
            frame = render_frame(step.env)
            height, width = frame.shape[0] * scale * 2, frame.shape[1] * scale * 2
            if window is None:
                window = pygame.display.set_mode((width, height))
                pygame.display.set_caption(f"{record.env_id}: score {record.episode_return:g}")
            picture = pygame.surfarray.make_surface(frame.swapaxes(0, 1))
            window.blit(pygame.transform.scale(picture, (width, height)), (0, 0))
            pygame.display.flip()
            if any(event.type == pygame.QUIT for event in pygame.event.get()):
                break
            time.sleep(1.0 / float(step.env.metadata.get("render_fps", 30)))
    finally:
        pygame.display.quit()

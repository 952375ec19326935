"""Videos of agents and of recorded games; every video is rendered from a verified action replay."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from agents.config import TrainConfig
from agents.errors import ConfigError
from agents.evaluate import Evaluation, evaluate
from agents.learner import Learner
from agents.settings import ChannelName
from envs.action_replays import EpisodeRecord, load_replays, previous_episodes, resimulate
from envs.action_replays import verify as verify_replay
from envs.errors import ReplayError
from envs.make import make_env
from envs.video import Recording, check_video, render_frame, render_replay
from scripts.runner import mission_channels
from scripts.runner.environments import environments
from scripts.runner.evaluation import save_episodes, seed_of
from scripts.runner.files import check_folder
from scripts.runner.saved_run import load_run

Overlay = Callable[[int, float], list[str]]
"""(step, score) -> lines of text over the picture."""


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
    progress: bool = True,
) -> list[Path]:
    """Play `episodes` full games with a run's agent; return a video of each, or show them `live` in a window.

    `folder` may be RUN/checkpoints/NAME. `mission_channel` and `interpreter` replace the run's own; `mission` (text or
    a WAV file) replaces the game's. `progress` prints a line for each game and video.
    """
    if out is not None:
        check_folder(out, "--out")
    saved = load_run(folder, checkpoint)
    config = mission_channels.with_channel(saved.config, mission_channel, interpreter)
    envs = environments(config, 1, threads=1, custom_mission=mission)
    understood = mission_channels.interpreted_mission(config, mission) if mission is not None else None
    if progress and understood is not None:
        print(f'the agent receives the mission "{understood}"')
    videos = []
    for game in range(episodes):
        result = evaluate(saved.agent, envs, 1, seed_of(seed + game, 0xA7C4))
        record, overlay = _only_record(result), score_and_value(result.values[0], understood)
        if progress:
            print(f"game {game + 1}: score {record.episode_return:g} in {record.length} steps")
        name = f"{saved.checkpoint.name}_game_{seed + game}_return_{record.episode_return:g}"
        save_episodes(saved, "watch", result)
        if live:
            show(record, [], scale)
            continue
        path = (out or saved.folder / "videos") / f"{name}.mp4"
        video = _write(record, [], path, overlay, scale)
        if progress:
            _print_video(path, video)
        videos.append(path)
    envs.close()
    return videos


def watch_replay(
    path: Path,
    *,
    episode: str = "best",
    verify: bool = False,
    scale: int = 1,
    out: Path | None = None,
    live: bool = False,
) -> None:
    """Simulate a recorded game again, checking score and frames; then write its video or show it, unless `verify`.

    `episode` is best, last or a number. Raises ReplayError for a replay that does not match its digests.
    """
    if not path.exists():
        raise ConfigError(f"{path} does not exist; give a run folder, or a .jsonl from its replays folder")
    folder = out or path.resolve().parent.parent / "videos"
    check_folder(folder, "--out")
    records = load_replays(path)
    number = _episode_number(records, episode)
    record, previous = records[number], previous_episodes(records, number)
    if verify:
        verify_replay(record, previous, make_env)
        print(f"verified: {record.env_id}, score {record.episode_return:g} in {record.length} steps, all frames agree")
        return
    name = f"{path.stem}_episode_{number}_return_{record.episode_return:g}.mp4"
    if live:
        show(record, previous, scale)
        return
    video = _write(record, previous, folder / name, lambda step, score: [f"score {score:g}"], scale)
    _print_video(folder / name, video)


def record_video(agent: Learner, config: TrainConfig, path: Path, seed: int) -> Recording:
    """Play one full game with the agent and write its video; return it."""
    envs = environments(config, 1, threads=1)
    try:
        result = evaluate(agent, envs, 1, seed)
    finally:
        envs.close()
    return _write(_only_record(result), [], path, score_and_value(result.values[0]))


def _only_record(result: Evaluation) -> EpisodeRecord:
    (record,) = result.records
    assert isinstance(record, EpisodeRecord)
    return record


def score_and_value(values: Sequence[float], mission: str | None = None) -> Overlay:
    """Return the overlay: a custom mission, the score so far and the agent's value of the observation."""

    def overlay(step: int, score: float) -> list[str]:
        value = f"  value {values[step]:.2f}" if step < len(values) else ""
        return [*([mission] if mission is not None else []), f"score {score:g}{value}"]

    return overlay


def _print_video(path: Path, video: Recording) -> None:
    sound = "with sound" if video.has_audio else "silent"
    print(f"  {path} ({video.width}x{video.height}, {video.seconds:.0f} s, {sound})")


def _write(
    record: EpisodeRecord, previous: list[EpisodeRecord], path: Path, overlay: Overlay, scale: int = 1
) -> Recording:
    path.parent.mkdir(parents=True, exist_ok=True)
    video = render_replay(record, previous, path, make_env, scale=scale, overlay=overlay)
    check_video(path, video.seconds)
    return video


def _episode_number(records: list[EpisodeRecord], which: str) -> int:
    if which == "best":
        return max(range(len(records)), key=lambda number: records[number].episode_return)
    if which == "last":
        return len(records) - 1
    if which.isdigit() and int(which) < len(records):
        return int(which)
    raise ReplayError(f"there is no episode '{which}'; give best, last or a number from 0 to {len(records) - 1}")


def show(record: EpisodeRecord, previous: list[EpisodeRecord], scale: int) -> None:
    """Show a recorded game in a window, in real time; closing the window ends it."""
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

"""A recorded game is chosen by its number, as the last one, or as the best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pygame
import pytest

from agents.errors import ConfigError
from scripts.runner import watching
from scripts.runner.watching import watch_replay
from tests.envs.helpers import episodes, write


def test_the_best_game_has_the_highest_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    records = episodes("CartPole-v1", 6)
    scores = [record.episode_return for record in records]
    path = write(tmp_path / "games.jsonl", records)
    for episode, number in (("best", int(np.argmax(scores))), ("last", len(scores) - 1), ("1", 1)):
        watch_replay(path, episode=episode, verify=True)
        assert f"verified: CartPole-v1, score {scores[number]:g} in" in capsys.readouterr().out
    assert len({max(scores), scores[1], scores[-1], min(scores)}) == 4


def test_live_shows_every_frame_in_a_window(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    shown: list[np.ndarray] = []
    monkeypatch.setattr(pygame.display, "flip", lambda: shown.append(_screen()))
    monkeypatch.setattr(watching.time, "sleep", lambda seconds: None)
    record = episodes("CartPole-v1", 1)[0]
    path = write(tmp_path / "games.jsonl", [record])
    watch_replay(path, episode="0", live=True, out=tmp_path)
    assert len(shown) == record.length + 1
    assert shown[0].shape == (2 * 400, 2 * 600, 3)
    assert (shown[0] != shown[-1]).any()
    assert not list(tmp_path.glob("*.mp4"))
    assert not pygame.display.get_init()
    close = pygame.event.Event(pygame.QUIT)
    shown.clear()
    monkeypatch.setattr(pygame.event, "get", lambda: [close])
    watch_replay(path, episode="0", live=True, out=tmp_path)
    assert len(shown) == 1


def test_live_without_a_screen_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDL_VIDEODRIVER", "no_such_driver")
    path = write(tmp_path / "games.jsonl", episodes("CartPole-v1", 1))
    with pytest.raises(ConfigError, match="no window can be opened here"):
        watch_replay(path, live=True, out=tmp_path)


def _screen() -> np.ndarray:
    return pygame.surfarray.array3d(pygame.display.get_surface()).swapaxes(0, 1).copy()

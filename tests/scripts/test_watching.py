"""A recorded game is chosen by its number, as the last one, or as the best."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

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

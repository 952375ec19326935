"""Missions taken strictly, and missions of pairs that are held out."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import pytest

pytest.importorskip("minigrid")

from envs.errors import EnvError
from envs.make import make_env, make_envs
from envs.missions import HELD_OUT, mission_text
from networks.supervised import mission_grammar

GAME = "BabyAI-GoToLocalS6N3-v0"


def test_both_sides_hold_out_the_same_pairs() -> None:
    assert HELD_OUT == mission_grammar.HELD_OUT


def wander(env: Any, seed: int) -> tuple[float, bool, bool, bool]:
    """Turn and walk to the nearest thing ahead; return reward, whether it ended, was cut, and was the right thing."""
    env.reset(seed=seed)
    game = env.unwrapped
    for action in [2, 2, 1, 2, 2, 1, 2, 2, 0, 2, 2, 1, 2] * 5:
        _, reward, terminated, truncated, _ = env.step(action)
        cell = game.grid.get(*game.front_pos)
        faced = cell is not None and cell.type in ("ball", "box", "key")
        if terminated or truncated or faced:
            return reward, terminated, truncated, faced and cell in game.instrs.desc.obj_set
    return 0.0, False, False, False


def test_a_wrong_object_ends_a_strict_game_and_a_right_one_is_paid() -> None:
    strict, lenient = make_env(GAME, env_kwargs={"strict": True}), make_env(GAME)
    found = {True: 0, False: 0}
    for seed in range(40):
        reward, terminated, truncated, right = wander(strict, seed)
        as_it_was = wander(lenient, seed)
        if not terminated:
            continue
        found[right] += 1
        assert reward == as_it_was[0]
        assert (reward > 0) == right
        assert as_it_was[1] == right  # BabyAI's own game goes on after a wrong one
        assert not truncated
    assert found[True] > 2
    assert found[False] > 5


@pytest.mark.parametrize("pairs", ["seen", "unseen"])
def test_missions_are_of_the_pairs_that_were_asked_for(pairs: str) -> None:
    envs = make_envs(GAME, 4, env_kwargs={"pairs": pairs})
    obs, _ = envs.reset(seed=[1, 2, 3, 4])
    texts = {mission_text(mission) for mission in obs["mission"]}
    for _ in range(100):
        obs, *_ = envs.step(envs.action_space.sample() * 0 + 2)
        texts |= {mission_text(mission) for mission in obs["mission"]}
    assert len(texts) > 3
    for text in texts:
        assert mission_grammar.parse(text).held_out == (pairs == "unseen")
    envs.close()


def test_long_missions_are_shown_whole() -> None:
    env = make_env("BabyAI-SynthSeq-v0")
    for seed in range(30):
        obs, _ = env.reset(seed=seed)
        shown = mission_text(obs["mission"])
        assert shown == env.unwrapped.mission.replace(",", "")  # type: ignore[attr-defined]


def test_what_cannot_be_taken_strictly_is_told() -> None:
    with pytest.raises(EnvError, match="only for BabyAI"):
        make_env("MiniGrid-Empty-5x5-v0", env_kwargs={"strict": True})
    with pytest.raises(EnvError, match="seen or unseen, not all"):
        make_env(GAME, env_kwargs={"pairs": "all"})
    env = make_env("BabyAI-GoToRedBall-v0", env_kwargs={"pairs": "seen"})
    with pytest.raises(ValueError, match="no missions of seen pairs"):
        env.reset(seed=0)


def test_games_begin_without_remarks(capsys: pytest.CaptureFixture[str]) -> None:
    env = make_env("BabyAI-GoToLocalS6N3-v0", render_mode=None)
    loud = gym.make("BabyAI-GoToLocalS6N3-v0")
    capsys.readouterr()
    loud.reset(seed=199)
    assert "rejected" in capsys.readouterr().out  # MiniGrid does remark on this one
    env.reset(seed=199)
    assert capsys.readouterr().out == ""

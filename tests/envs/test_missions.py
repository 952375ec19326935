"""Strict missions, held-out pairs, and missions as tokens."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

pytest.importorskip("minigrid")

from envs.errors import EnvError
from envs.make import make_env, make_envs
from envs.missions import HELD_OUT, MissionChannel, mission_text
from networks.supervised import mission_grammar

GAME = "BabyAI-GoToLocalS6N3-v0"


def test_games_and_grammar_hold_out_the_same_pairs() -> None:
    assert HELD_OUT == mission_grammar.HELD_OUT


def wander(env: Any, seed: int) -> tuple[float, bool, bool, bool]:
    """Walk to the first object ahead; return reward, terminated, truncated, and whether it was the right object."""
    env.reset(seed=seed)
    game = env.unwrapped
    for action in [2, 2, 1, 2, 2, 1, 2, 2, 0, 2, 2, 1, 2] * 5:
        _, reward, terminated, truncated, _ = env.step(action)
        cell = game.grid.get(*game.front_pos)
        faced = cell is not None and cell.type in ("ball", "box", "key")
        if terminated or truncated or faced:
            return reward, terminated, truncated, faced and cell in game.instrs.desc.obj_set
    return 0.0, False, False, False


def test_a_wrong_object_ends_a_strict_game_and_the_right_one_pays() -> None:
    strict, lenient = make_env(GAME, env_kwargs={"strict": True}), make_env(GAME)
    counts = {True: 0, False: 0}
    for seed in range(40):
        reward, terminated, truncated, right = wander(strict, seed)
        without = wander(lenient, seed)
        if not terminated:
            continue
        counts[right] += 1
        assert reward == without[0]
        assert (reward > 0) == right
        assert without[1] == right  # the game without `strict` goes on after a wrong object
        assert not truncated
    assert counts[True] > 2
    assert counts[False] > 5


@pytest.mark.parametrize("pairs", ["seen", "unseen"])
def test_missions_name_only_pairs_of_the_chosen_set(pairs: str) -> None:
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


def test_long_missions_are_complete() -> None:
    env = make_env("BabyAI-SynthSeq-v0")
    for seed in range(30):
        obs, _ = env.reset(seed=seed)
        text = mission_text(obs["mission"])
        assert text == env.unwrapped.mission.replace(",", "")  # type: ignore[attr-defined]


def test_planes_show_type_colour_and_state_of_each_cell() -> None:
    env = make_env("MiniGrid-DoorKey-5x5-v0")
    obs, _ = env.reset(seed=0)
    cells = env.unwrapped.gen_obs()["image"]  # type: ignore[attr-defined]
    for layer, planes in enumerate(np.split(obs["image"], [11, 17])):
        assert (planes.sum(axis=0) == 1).all()
        np.testing.assert_array_equal(planes.argmax(axis=0), cells[:, :, layer])
    env.close()


def test_invalid_arguments_are_refused() -> None:
    with pytest.raises(EnvError, match="only for BabyAI"):
        make_env("MiniGrid-Empty-5x5-v0", env_kwargs={"strict": True})
    with pytest.raises(EnvError, match="seen or unseen, not all"):
        make_env(GAME, env_kwargs={"pairs": "all"})
    env = make_env("BabyAI-GoToRedBall-v0", env_kwargs={"pairs": "seen"})
    with pytest.raises(ValueError, match="no missions of seen pairs"):
        env.reset(seed=0)


def test_games_start_without_printing(capsys: pytest.CaptureFixture[str]) -> None:
    env = make_env("BabyAI-GoToLocalS6N3-v0", render_mode=None)
    loud = gym.make("BabyAI-GoToLocalS6N3-v0")
    capsys.readouterr()
    loud.reset(seed=199)
    assert "rejected" in capsys.readouterr().out  # MiniGrid prints for this seed
    env.reset(seed=199)
    assert capsys.readouterr().out == ""


def test_a_wrong_object_picked_up_ends_a_strict_game() -> None:
    env: Any = make_env("BabyAI-PickupDist-v0", env_kwargs={"strict": True})
    results = []
    for wanted in (False, True):
        env.reset(seed=3)
        game = env.unwrapped
        right = game.instrs.desc.obj_set
        position = next(
            place for place in ((x, y) for x in range(game.width) for y in range(game.height))
            if (thing := game.grid.get(*place)) is not None and thing.type in ("ball", "box", "key")
            and (thing in right) == wanted
        )  # fmt: skip
        thing = game.grid.get(*position)
        game.grid.set(*position, None)
        game.grid.set(*game.front_pos, thing)
        thing.cur_pos = np.array(game.front_pos)
        _, reward, terminated, truncated, _ = env.step(game.actions.pickup)
        results.append((reward > 0, terminated, truncated))
    assert results == [(False, True, False), (True, True, False)]


def test_a_restart_draws_a_new_mission_for_the_ended_game_only() -> None:
    texts: list[str] = []

    def render(text: str, seed: int) -> np.ndarray:
        texts.append(text)
        return np.full(1, len(texts))

    envs = MissionChannel(make_envs("BabyAI-GoToObj-v0", 2), render, spaces.Box(0, 999, (1,), np.int64))
    envs.reset(seed=[1, 2])
    before = len(texts)
    obs, _ = envs.restart(np.array([False, True]))
    assert len(texts) == before + 1
    assert obs["mission"][:, 0].tolist() == [1, 3]
    obs = envs.step(np.zeros(2, np.int64))[0]
    assert obs["mission"][:, 0].tolist() == [1, 3]

from dataclasses import replace

import cv2
import gymnasium as gym
import numpy as np
import pytest
from ale_py import roms
from gymnasium.wrappers import AtariPreprocessing, FrameStackObservation
from stable_baselines3.common.atari_wrappers import MaxAndSkipEnv, WarpFrame

from envs.ale import AtariGame, rom_name
from envs.make import make_envs
from envs.protocols import CLASSIC, MACHADO

PLAIN = replace(CLASSIC, noop_max=0, fire_reset=False)


def numbers(info: dict, row: int) -> dict[str, int]:
    return {key: int(info[key][row]) for key in ("lives", "frame_number", "episode_frame_number")}


def vector_games(env_id, protocol, games, seed=11):
    """Yield (start info, first obs, [(action, obs, reward, terminated, truncated, info)]) for each game of row 1."""
    envs = make_envs(env_id, 2, protocol, threads=1).env  # without the recorder, which hides lives under machado
    generator = np.random.default_rng(1)
    obs, info = envs.reset(seed=seed)
    for _ in range(games):
        start, steps, over = (numbers(info, 1), obs[1].copy()), [], False
        while not over:
            actions = generator.integers(envs.single_action_space.n, size=2)
            obs, reward, terminated, truncated, info = envs.step(actions)
            over = bool(terminated[1] or truncated[1])
            steps.append(
                (actions[1], obs[1], float(reward[1]), bool(terminated[1]), bool(truncated[1]), numbers(info, 1))
            )
        yield *start, steps
        obs, *_, info = envs.step(actions)
    envs.close()


def assert_same_game(game: AtariGame, seed, options, start, first, steps):
    obs, info = game.reset(seed=seed, options=options)
    assert info == start
    np.testing.assert_array_equal(obs, first)
    for number, (action, *expected) in enumerate(steps):
        obs, *rest = game.step(action)
        assert rest == expected[1:], f"step {number}"
        np.testing.assert_array_equal(obs, expected[0], err_msg=f"step {number}")


def test_rom_names_exist_for_all_games_and_no_other_environment():
    ids = [env_id for env_id in gym.registry if env_id.startswith("ALE/")]
    assert len(ids) == 104
    assert {rom_name(env_id) for env_id in ids} <= set(roms.get_all_rom_ids())
    assert rom_name("ALE/MsPacman-v5") == "ms_pacman"
    with pytest.raises(ValueError, match="CartPole-v1' is not an Atari game"):
        rom_name("CartPole-v1")
    with pytest.raises(ValueError, match="not an Atari game"):
        rom_name("ALE/NoSuch-v5")


# Berzerk spends frames on its menu, Yars' Revenge remembers the last game, Adventure is 250 high
@pytest.mark.parametrize("name", ["Pong", "MsPacman", "Berzerk", "YarsRevenge", "Adventure"])
@pytest.mark.parametrize("protocol", [CLASSIC, MACHADO], ids=["classic", "machado"])
def test_game_equals_a_row_of_the_vector_environment(name, protocol):
    env_id = f"ALE/{name}-v5"
    protocol = replace(protocol, max_frames=202)  # ends in the middle of a step
    game = AtariGame(env_id, protocol)
    for number, (start, first, steps) in enumerate(vector_games(env_id, protocol, games=2)):
        options = {"noop_frames": start["episode_frame_number"]}
        assert_same_game(game, 12 if number == 0 else None, options, start, first, steps)
        assert steps[-1][-2], "truncated"
        assert len(steps) == 51


@pytest.mark.parametrize("protocol", [CLASSIC, MACHADO], ids=["classic", "machado"])
def test_a_lost_game_equals_the_vector_environments_to_the_last_frame(protocol):
    start, first, steps = next(vector_games("ALE/Breakout-v5", protocol, games=1))
    assert steps[-1][3], "terminated"
    options = {"noop_frames": start["episode_frame_number"]}
    assert_same_game(AtariGame("ALE/Breakout-v5", protocol), 12, options, start, first, steps)


@pytest.mark.parametrize("name", ["Assault", "Berzerk", "Pong"])  # the first two start differently after each reset
@pytest.mark.parametrize("protocol", [CLASSIC, MACHADO], ids=["classic", "machado"])
def test_the_third_game_can_be_played_without_the_first_two(name, protocol):
    env_id, protocol = f"ALE/{name}-v5", replace(protocol, max_frames=160)
    start, first, steps = list(vector_games(env_id, protocol, games=3))[2]
    noops = start["episode_frame_number"]
    options = {"noop_frames": noops, "start_frame": start["frame_number"] - noops, "ordinal": 2}
    assert_same_game(AtariGame(env_id, protocol), 12, options, start, first, steps)


def test_sticky_actions_depend_on_earlier_games():
    """Otherwise the test above could not fail."""
    protocol = replace(MACHADO, max_frames=400)
    start, first, steps = list(vector_games("ALE/Pong-v5", protocol, games=2))[1]
    options = {"noop_frames": start["episode_frame_number"]}
    with pytest.raises(AssertionError):
        assert_same_game(AtariGame("ALE/Pong-v5", protocol), 12, options, start, first, steps)


def test_starts_vary_and_repeat_with_the_seed():
    game = AtariGame("ALE/Breakout-v5", CLASSIC)

    def starts():
        return [game.reset(seed=3 if k == 0 else None)[1]["episode_frame_number"] for k in range(8)]

    first = starts()
    assert first == starts()
    assert len(set(first)) > 3
    assert all(1 <= frames < 30 for frames in first)


@pytest.mark.parametrize("name", ["Breakout", "SpaceInvaders"])
def test_observations_equal_gymnasiums_wrappers(name):
    game = AtariGame(f"ALE/{name}-v5", PLAIN)
    env = gym.make(f"ALE/{name}-v5", frameskip=1, repeat_action_probability=0.0)
    env = FrameStackObservation(AtariPreprocessing(env, noop_max=0), 4, padding_type="zero")
    np.testing.assert_array_equal(game.reset(seed=0)[0], env.reset(seed=0)[0])
    for action in np.random.default_rng(2).integers(game.action_space.n, size=150):
        ours, theirs = game.step(action), env.step(action)
        assert ours[1:3] == theirs[1:3]
        np.testing.assert_array_equal(ours[0], theirs[0])


def maximum_in_colour_differs(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return which pixels [H, W] have a maximum that equals neither frame's colour."""
    both = np.maximum(before, after)
    return (both != before).any(-1) & (both != after).any(-1)


@pytest.mark.parametrize(("name", "alike"), [("Breakout", 100), ("SpaceInvaders", 100), ("Seaquest", 20), ("Pong", 1)])
def test_frames_equal_sb3s_except_where_the_maximum_of_colour_and_luminance_differ(name, alike):
    game = AtariGame(f"ALE/{name}-v5", PLAIN, render_mode="rgb_array")
    screens: list[np.ndarray] = []
    game.on_frame = lambda frame, samples: screens.append(frame)
    sb3 = WarpFrame(MaxAndSkipEnv(gym.make(f"ALE/{name}-v5", frameskip=1, repeat_action_probability=0.0), skip=4))
    np.testing.assert_array_equal(game.reset(seed=0)[0][-1], sb3.reset(seed=0)[0][..., 0])
    equal = 0
    for action in np.random.default_rng(2).integers(game.action_space.n, size=100):
        ours, theirs = game.step(action), sb3.step(action)
        assert ours[1:4] == theirs[1:4]
        disputed = maximum_in_colour_differs(*screens[-2:])
        touched = cv2.resize(disputed.astype(np.float32), (84, 84), interpolation=cv2.INTER_AREA) > 0
        differs = ours[0][-1] != theirs[0][..., 0]
        assert not (differs & ~touched).any()
        equal += not differs.any()
    assert equal >= alike
    assert (equal == 100) == (name in ("Breakout", "SpaceInvaders")), "the other two games show the difference"


def test_rendering_with_sound_does_not_change_the_game():
    silent, loud = AtariGame("ALE/Pong-v5", CLASSIC), AtariGame("ALE/Pong-v5", CLASSIC, render_mode="rgb_array")
    frames: list[tuple[np.ndarray, np.ndarray]] = []
    loud.on_frame = lambda frame, samples: frames.append((frame, samples))
    options = {"noop_frames": 9}
    np.testing.assert_array_equal(silent.reset(seed=1, options=options)[0], loud.reset(seed=1, options=options)[0])
    for action in np.random.default_rng(4).integers(6, size=150):
        ours, theirs = silent.step(action), loud.step(action)
        assert ours[1:] == theirs[1:]
        np.testing.assert_array_equal(ours[0], theirs[0])
    assert len(frames) == 600
    assert all(frame.shape == (210, 160, 3) and samples.shape == (512,) for frame, samples in frames)
    assert len({samples.tobytes() for _, samples in frames}) > 5
    np.testing.assert_array_equal(frames[-1][0], loud.render())


def test_colour_observations_equal_the_vector_environments():
    protocol = replace(CLASSIC, grayscale=False, max_frames=100)
    start, first, steps = next(vector_games("ALE/MsPacman-v5", protocol, games=1))
    assert first.shape == (4, 84, 84, 3)
    options = {"noop_frames": start["episode_frame_number"]}
    assert_same_game(AtariGame("ALE/MsPacman-v5", protocol), 12, options, start, first, steps)


def test_action_names():
    assert AtariGame("ALE/Pong-v5", CLASSIC).get_action_meanings()[:2] == ["NOOP", "FIRE"]
    assert len(AtariGame("ALE/Pong-v5", MACHADO).get_action_meanings()) == 18

"""ObserveLast adds the last action and reward to every row and leaves everything else unchanged."""

from __future__ import annotations

import math
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces

from agents.build import frame_stack
from agents.config import TrainConfig
from agents.errors import ConfigError
from envs.action_replays import RecordEpisodes, verify
from envs.make import make_env, make_envs
from envs.toy import ChainEnv, CountingEnv
from envs.wrappers import ObserveLast
from scripts.runner.environments import environments


class SignedCounting(CountingEnv):
    """Pays 1, -3, 9 ... and 0 at every fourth step."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        obs, _, terminated, truncated, info = super().step(action)
        return obs, 0.0 if self.count % 4 == 0 else (-3.0) ** (self.count - 1), terminated, truncated, info


class PaysAlways(gym.vector.VectorWrapper):
    """Pays 10 more at every row, including dead rows."""

    def step(self, actions: Any) -> tuple[Any, Any, Any, Any, dict[str, Any]]:
        obs, reward, *rest = self.env.step(actions)
        return obs, reward + 10.0, *rest


def uneven(kind: type[CountingEnv] = SignedCounting) -> gym.vector.SyncVectorEnv:
    """Make three environments whose episodes end at different rows, some after one step."""
    lengths = [(3, 5, 2), (1, 4), (6, 1, 1)]
    return gym.vector.SyncVectorEnv([lambda each=each: kind(each) for each in lengths])


def actions_for(envs: gym.vector.VectorEnv, steps: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(envs.single_action_space.n, size=(steps, envs.num_envs))


def squash(reward: float) -> float:
    return math.copysign(math.log1p(abs(reward)), reward) if reward else 0.0


def check_rows(envs: gym.vector.VectorEnv, steps: int, seed: Any = 0) -> int:
    """Play at random and compare each row with the action before it; return the number of ended episodes."""
    count, ended = int(envs.single_action_space.n), 0
    obs, _ = envs.reset(seed=seed)
    assert not obs["last_action"].any()
    assert not obs["last_reward"].any()
    dead = [False] * envs.num_envs
    for actions in actions_for(envs, steps):
        obs, reward, terminated, truncated, _ = envs.step(actions)
        for env in range(envs.num_envs):
            one_hot = [float(number == actions[env]) for number in range(count)]
            assert obs["last_action"][env].tolist() == ([0.0] * count if dead[env] else one_hot)
            expected = 0.0 if dead[env] else squash(reward[env])
            assert obs["last_reward"][env].tolist() == pytest.approx([expected])
            dead[env] = bool(terminated[env] or truncated[env])
            ended += dead[env]
    return ended


def assert_obs_equal(part: Any, plain: Any) -> None:
    for a, b in zip(part.values(), plain.values(), strict=True) if isinstance(plain, dict) else [(part, plain)]:
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def assert_same_game(wrapped: gym.vector.VectorEnv, plain: gym.vector.VectorEnv, steps: int) -> None:
    """Play the same actions in both; compare everything but the added parts."""
    seeds = list(range(5, 5 + plain.num_envs))

    def without(obs: dict[str, Any]) -> Any:
        rest = {key: value for key, value in obs.items() if not key.startswith("last_")}
        return rest if isinstance(plain.single_observation_space, spaces.Dict) else rest.pop("obs")

    ours, game = wrapped.reset(seed=seeds), plain.reset(seed=seeds)  # type: ignore[arg-type]
    assert_obs_equal(without(ours[0]), game[0])
    for actions in actions_for(plain, steps):
        obs, *rest, info = wrapped.step(actions)
        plain_obs, *plain_rest, plain_info = plain.step(actions)
        assert_obs_equal(without(obs), plain_obs)
        for a, b in zip(rest, plain_rest, strict=True):
            assert a.dtype == b.dtype
            np.testing.assert_array_equal(a, b)
        assert info.keys() == plain_info.keys()


def test_every_row_has_the_last_action_and_reward(vector) -> None:
    assert check_rows(ObserveLast(vector(CountingEnv, 3)), 60) > 30


def test_episodes_that_end_at_different_rows_stay_separate(vector) -> None:
    assert check_rows(ObserveLast(uneven()), 80) > 40
    assert check_rows(ObserveLast(vector(ChainEnv, 4)), 80) > 40  # actions determine the end


def test_the_last_reward_is_0_at_the_start_even_if_resets_pay() -> None:
    assert check_rows(ObserveLast(PaysAlways(uneven())), 40) > 20


def test_rewards_are_squashed(vector) -> None:
    envs = ObserveLast(vector(SignedCounting, 1, lengths=(5,)))
    envs.reset(seed=0)
    rewards = [float(envs.step(np.array([1]))[0]["last_reward"][0, 0]) for _ in range(6)]
    log = math.log
    assert rewards == pytest.approx([log(2), -log(4), log(10), 0.0, log(82), 0.0])  # 1, -3, 9, 0, 81 and a reset


def test_a_reset_clears_the_last_action_and_reward(vector) -> None:
    envs = ObserveLast(vector(CountingEnv, 2, lengths=(3,)))
    for steps in (2, 3):
        envs.reset(seed=0)
        for _ in range(steps):
            obs, _, terminated, *_ = envs.step(np.array([1, 0]))
        assert terminated.all() == (steps == 3)
        obs, _ = envs.reset(seed=0)
        assert not obs["last_action"].any()
        assert not obs["last_reward"].any()
        assert obs["obs"].tolist() == [[0, 0], [0, 0]]
        obs = envs.step(np.array([0, 1]))[0]  # an ordinary step, although an episode ended before the reset
        assert obs["last_action"].tolist() == [[1, 0], [0, 1]]
        assert obs["last_reward"].flatten().tolist() == pytest.approx([math.log(2)] * 2)


def test_equal_seeds_give_equal_games(vector) -> None:
    envs = ObserveLast(make_envs("CartPole-v1", 2))
    plays = []
    for seed in (4, 4, 5):
        rows = [envs.reset(seed=seed)[0]] + [envs.step(actions)[0] for actions in actions_for(envs, 30)]
        plays.append({key: np.stack([row[key] for row in rows]) for key in rows[0]})
    for key in ("obs", "last_action", "last_reward"):
        np.testing.assert_array_equal(plays[0][key], plays[1][key])
    assert not np.array_equal(plays[0]["obs"], plays[2]["obs"])


def test_returned_arrays_are_not_written_again() -> None:
    """Replay and rollouts may store a row without copying it."""
    envs = ObserveLast(uneven())
    envs.reset(seed=0)
    rows = [envs.step(actions)[0] for actions in actions_for(envs, 20)]
    copies = [{key: value.copy() for key, value in row.items()} for row in rows]
    for actions in actions_for(envs, 20, seed=1):
        envs.step(actions)
    for row, copy in zip(rows, copies, strict=True):
        assert_obs_equal(row, copy)


def test_an_array_becomes_a_part_and_the_game_is_unchanged() -> None:
    envs = ObserveLast(uneven())
    assert set(envs.single_observation_space) == {"last_action", "last_reward", "obs"}
    assert_same_game(envs, uneven(), 60)


@pytest.mark.parametrize("env_id", ["MiniGrid-Empty-5x5-v0", "MinAtar/Breakout-v1"])
def test_dict_observations_keep_their_parts(env_id: str) -> None:
    envs = ObserveLast(make_envs(env_id, 2))
    if env_id.startswith("MiniGrid"):
        assert set(envs.single_observation_space) == {"direction", "image", "mission", "last_action", "last_reward"}
    assert_same_game(envs, make_envs(env_id, 2), 130)
    check_rows(envs, 130)
    envs.close()


@pytest.mark.parametrize(
    "env_id", ["joypad/Counting-v0", "MiniGrid-Empty-5x5-v0", "MinAtar/Breakout-v1", "CartPole-v1"]
)
def test_the_spaces_contain_the_observations(env_id: str) -> None:
    envs = ObserveLast(make_envs(env_id, 2))
    single = envs.single_observation_space
    assert single["last_action"].shape == (envs.single_action_space.n,)
    assert single["last_reward"].shape == (1,)
    rows = [envs.reset(seed=0)[0]] + [envs.step(actions)[0] for actions in actions_for(envs, 60)]
    for obs in rows:
        assert obs.keys() == set(single)
        for env in range(2):
            assert single.contains({key: value[env] for key, value in obs.items()})
        assert envs.observation_space.contains(obs)
        assert all(obs[key].dtype == np.float32 for key in ("last_action", "last_reward"))
    envs.close()


def test_recorded_episodes_and_the_spec_are_accessible() -> None:
    recorder = make_envs("MiniGrid-Empty-5x5-v0", 2)
    envs = ObserveLast(recorder)
    assert envs.game is recorder.game
    assert envs.game.family == "minigrid"
    envs.reset(seed=5)
    records, done = [], False
    for actions in actions_for(envs, 230):
        *_, terminated, truncated, info = envs.step(actions)
        done = bool((terminated | truncated).any())
        assert ("episodes" in info) == done
        records += info.get("episodes", [])
    assert len(records) >= 2
    first = next(record for record in records if record.env == 0)
    assert first.frame_hashes
    verify(first, [], make_env)  # hashes are of the game's own frames
    envs.close()


def test_a_vector_without_recorder_has_no_spec(vector) -> None:
    assert not hasattr(ObserveLast(vector(CountingEnv, 2)), "game")
    assert frame_stack(ObserveLast(vector(CountingEnv, 2))) == 1


def test_observe_last_is_a_setting() -> None:
    envs = environments(TrainConfig(env="joypad/Counting-v0", observe_last=True), 3)
    assert isinstance(envs, ObserveLast)
    assert envs.num_envs == 3
    assert envs.game.env_id == "joypad/Counting-v0"
    assert check_rows(envs, 40) > 20
    plain = environments(TrainConfig(env="joypad/Counting-v0"), 3)
    assert isinstance(plain, RecordEpisodes)
    assert envs.game == plain.game  # scores are comparable
    obs, _ = plain.reset(seed=0)
    assert isinstance(obs, np.ndarray)


def test_the_replay_of_atari_finds_the_frame_stack() -> None:
    """Otherwise it would store each frame four times."""
    envs = environments(TrainConfig(env="ALE/Pong-v5", observe_last=True), 2, threads=1)
    assert frame_stack(envs) == 4
    obs, _ = envs.reset(seed=[1, 2])
    assert obs["obs"].shape == (2, 4, 84, 84)
    check_rows(envs, 20, seed=[1, 2])
    envs.close()


def test_continuous_actions_are_refused() -> None:
    with pytest.raises(ConfigError, match="--observe-last shows numbered actions only; Pendulum-v1 has Box"):
        environments(TrainConfig(env="Pendulum-v1", observe_last=True), 1)
    environments(TrainConfig(env="Pendulum-v1"), 1).close()

"""Memory tasks reward the answer to a cue of `horizon` steps ago; later observations do not reveal it."""

from __future__ import annotations

import numpy as np
import pytest

from envs.toy import MemoryChainEnv, RepeatPreviousEnv, TMazeEnv


@pytest.mark.parametrize("horizon", [1, 2, 7])
def test_the_memory_chain_asks_after_horizon_steps(horizon: int) -> None:
    env, cues = MemoryChainEnv(horizon), []
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        cue = int(obs[0] > 0)
        cues.append(cue)
        for step in range(1, horizon + 1):
            obs, reward, terminated, truncated, _ = env.step(1 - cue)
            assert obs.tolist() == [0, float(step == horizon)]
            assert (reward, terminated, truncated) == (0.0, False, False)
        answer = cue if seed % 2 else 1 - cue
        *_, reward, terminated, _, _ = env.step(answer)
        assert (reward, terminated) == (1.0 if seed % 2 else -1.0, True)
    assert 4 < sum(cues) < 16


@pytest.mark.parametrize("horizon", [1, 3, 8])
def test_the_sign_in_the_maze_shows_where_to_turn(horizon: int) -> None:
    env = TMazeEnv(horizon)
    for seed in range(20):
        obs, _ = env.reset(seed=seed)
        sign = int(obs[0])
        assert sign in (-1, 1)
        for step in range(1, horizon + 1):
            obs, reward, terminated, truncated, _ = env.step(0)
            assert obs.tolist() == [0, float(step == horizon)]
            assert (reward, terminated, truncated) == (0.0, False, False)
        obs, reward, terminated, *_ = env.step(0)  # a wall
        assert (obs.tolist(), reward, terminated) == ([0, 1], 0.0, False)
        turn = 1 if sign < 0 else 2
        action = turn if seed % 2 else 3 - turn
        obs, reward, terminated, truncated, _ = env.step(action)
        assert (obs.tolist(), reward, terminated, truncated) == ([0, 0], float(seed % 2), True, False)


def test_turning_in_the_corridor_takes_steps_until_truncation() -> None:
    env = TMazeEnv(2)
    env.reset(seed=0)
    for step in range(1, 8 * 3 + 1):
        obs, reward, terminated, truncated, _ = env.step(1 + step % 2)
        assert (obs.tolist(), reward, terminated, truncated) == ([0, 0], 0.0, False, step == 24)


@pytest.mark.parametrize("horizon", [1, 2, 5])
def test_the_answer_is_the_symbol_of_horizon_steps_ago(horizon: int) -> None:
    env = RepeatPreviousEnv(horizon)
    symbols, total = [int(env.reset(seed=3)[0])], 0.0
    while True:
        answer = symbols[-1 - horizon] if len(symbols) > horizon else 0
        obs, reward, terminated, truncated, _ = env.step(answer)
        assert reward == (1 / 24 if len(symbols) > horizon else 0.0)
        symbols.append(int(obs))
        total += reward
        if terminated:
            break
    assert total == pytest.approx(1.0)
    assert len(symbols) == horizon + 24 + 1
    assert not truncated
    assert set(symbols) == {0, 1, 2, 3}


def test_repeating_the_current_symbol_earns_a_quarter() -> None:
    env, returns = RepeatPreviousEnv(2), []
    for seed in range(400):
        obs, over, total = env.reset(seed=seed)[0], False, 0.0
        while not over:
            obs, reward, over, *_ = env.step(obs)
            total += reward
        returns.append(total)
    assert np.mean(returns) == pytest.approx(0.25, abs=0.02)


@pytest.mark.parametrize("kind", [MemoryChainEnv, TMazeEnv, RepeatPreviousEnv])
def test_a_horizon_below_one_is_refused(kind: type) -> None:
    with pytest.raises(ValueError, match="horizon must be at least 1, not 0"):
        kind(0)

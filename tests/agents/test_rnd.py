"""Random network distillation: novelty falls with training, the random network is fixed, novelty is non-episodic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents.build import build_agent
from agents.errors import ConfigError
from agents.interface import Rollout
from agents.policy.rnd import RND
from agents.presets.registry import PRESETS
from envs.toy import DeepSeaEnv
from tests.agents import helpers
from tests.agents.helpers import fit
from tests.machine import CPU


def settings(**changes: Any) -> Any:
    return replace(PRESETS["rnd", "toy"], num_envs=4, rollout_length=16, total_steps=1_280, **changes)


def collect(config: Any, vector: Any) -> tuple[RND, Rollout]:
    envs = vector(DeepSeaEnv, config.num_envs, size=5)
    agent = build_agent("rnd", config, envs, CPU)
    assert isinstance(agent, RND)
    return agent, helpers.collect(agent, envs, 64)


def test_the_deep_sea_rewards_only_the_whole_way() -> None:
    for size in (3, 6):
        env = DeepSeaEnv(size)
        for turn_at, expected in ((size, 0.99), (size - 1, -0.01 * (size - 1) / size), (0, 0.0)):
            obs, over, total, column = env.reset(seed=0)[0], False, 0.0, 0
            for row in range(size):
                assert obs.argmax() == row * size + column
                assert obs.sum() == 1.0
                right = row < turn_at
                action = int(env.rights[row, column]) if right else 1 - int(env.rights[row, column])
                obs, reward, over, truncated, _ = env.step(action)
                column = min(column + 1, size - 1) if right else max(column - 1, 0)
                total += reward
                assert (over, truncated) == (row == size - 1, False)
            assert total == pytest.approx(expected)
            assert obs.sum() == 0.0
    assert (DeepSeaEnv(6).rights == DeepSeaEnv(6).rights).all()
    assert 0 < DeepSeaEnv(6).rights.mean() < 1


def test_novelty_falls_for_observations_that_were_trained_on(vector: Any, tmp_path: Any) -> None:
    config = replace(settings(learning_rate=3e-3, schedule="constant"), total_steps=640)
    envs = vector(DeepSeaEnv, 4, size=5)
    agent = build_agent("rnd", config, envs, CPU)
    assert isinstance(agent, RND)
    target = [value.clone() for value in agent.novelty.target.parameters()]
    seen, unseen = torch.eye(25)[:1], torch.eye(25)[[4]]  # where every game starts; a cell that no game reaches
    before = agent.novelty.error(seen).item()
    fit(agent, envs, tmp_path)
    assert agent.novelty.error(seen).item() < 0.2 * before
    assert agent.novelty.error(unseen).item() > 3.0 * agent.novelty.error(seen).item()
    assert all(torch.equal(a, b) for a, b in zip(target, agent.novelty.target.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in agent.novelty.target.parameters())


def test_novelty_is_of_the_next_observation_and_scaled_by_its_returns(vector: Any) -> None:
    agent, rollout = collect(settings(novelty_gamma=0.9), vector)
    after = torch.cat([rollout.obs[1:], rollout.next_obs[None]])
    reward = agent.novelty.reward(rollout.obs, rollout.next_obs, (16, 4))
    with torch.no_grad():  # of inputs as they are normalised since
        error = agent.novelty.error(after.flatten(0, 1)).view(16, 4)
    running, sums = torch.zeros(4), []
    for row in error:
        running = 0.9 * running + row
        sums.append(running)
    deviation = torch.stack(sums).std(correction=0)
    torch.testing.assert_close(reward, error / deviation, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(agent.novelty.running, running)


def test_novelty_is_not_episodic(vector: Any) -> None:
    config = settings(novelty_gamma=0.8, gae_lambda=0.7, novelty_coef=0.25)
    agent, rollout = collect(config, vector)
    assert rollout.terminated.any()
    (twin, _), plain = collect(config, vector), super(RND, agent).prepare(rollout)
    rows = agent.prepare(rollout)
    with torch.no_grad():
        last = twin.model(rollout.next_obs, rollout.next_carry, rollout.next_first)[0].novelty_value
    reward, value = rows["novelty"], rollout.extras["novelty_value"]
    values = torch.cat([value, last[None]])
    expected, running = torch.zeros(16, 4), torch.zeros(4)
    for t in reversed(range(16)):
        running = reward[t] + 0.8 * values[t + 1] - value[t] + 0.8 * 0.7 * running
        expected[t] = running
    torch.testing.assert_close(rows["advantage"], plain["advantage"] + 0.25 * expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(rows["novelty_target"], value + expected, rtol=1e-4, atol=1e-5)


def test_large_rewards_do_not_slow_the_predictor(vector: Any) -> None:
    """The predictor's gradients are clipped separately: huge rewards must not slow it down."""
    moved = []
    for size in (1.0, 1e6):
        agent, rollout = collect(settings(epochs=1, minibatches=1, schedule="constant"), vector)
        before = [value.clone() for value in agent.novelty.predictor.parameters()]
        agent.update(rollout._replace(reward=size * rollout.reward), torch.Generator().manual_seed(0))
        moved.append([(b - a).detach() for a, b in zip(before, agent.novelty.predictor.parameters(), strict=True)])
    for one, other in zip(*moved, strict=True):
        torch.testing.assert_close(one, other)
    assert max(float(part.abs().max()) for part in moved[0]) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"novelty_coef": -1.0}, "--novelty-coef must not be negative, not -1.0"),
        ({"novelty_gamma": 1.0}, "--novelty-gamma must lie in 0 to below 1, not 1.0"),
    ],
)
def test_impossible_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        settings(**changes).validate()


def test_the_scale_of_novelty_is_saved_and_loaded(vector: Any) -> None:
    agent, rollout = collect(settings(), vector)
    agent.update(rollout, torch.Generator().manual_seed(0))
    twin, _ = collect(settings(), vector)
    assert not np.isclose(twin.novelty.returns.variance.item(), agent.novelty.returns.variance.item())
    for name, module in twin.modules().items():
        module.load_state_dict(agent.modules()[name].state_dict())
    assert torch.equal(twin.novelty.running, agent.novelty.running)
    assert torch.equal(twin.novelty.returns.variance, agent.novelty.returns.variance)

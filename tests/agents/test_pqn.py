"""PQN: lambda-returns against a plain recursion, masks, memory, and schedules."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from agents.build import build_agent
from agents.errors import ConfigError
from agents.interface import Rollout
from agents.run.checkpoint import weights_sha256
from agents.value.pqn import PQN, PQNConfig
from envs.toy import CountingEnv
from networks.cores import CoreName
from tests.agents import helpers
from tests.machine import CPU


def settings(core: CoreName = "none", **changes: Any) -> PQNConfig:
    base = PQNConfig(
        total_steps=640, num_envs=4, rollout_length=16, epochs=1, minibatches=1, learning_rate=1e-3,
        schedule="constant", core=core, core_size=8, hidden=(16,), gamma=0.9,
        sequence_length=1 if core == "none" else 8,
    )  # fmt: skip
    return replace(base, **changes)


def collect(config: PQNConfig, vector: Any) -> tuple[PQN, Rollout]:
    envs = vector(CountingEnv, config.num_envs)
    agent: Any = build_agent("pqn", config, envs, CPU)
    return agent, helpers.collect(agent, envs)


def best_values(agent: PQN, rollout: Rollout) -> torch.Tensor:
    """Return max Q [T + 1, N] of all rows and the one after, computed row by row."""
    values, carry = [], rollout.carry[0]
    rows = [*zip(rollout.obs, rollout.first, strict=True), (rollout.next_obs, rollout.next_first)]
    with torch.no_grad():
        for obs, first in rows:
            output, carry = agent.model(obs, carry, first)
            values.append(output.q.amax(dim=-1))
    return torch.stack(values)


@pytest.mark.parametrize("core", ["none", "gru", "lstm"])
@pytest.mark.parametrize("lam", [0.0, 0.65, 1.0])
def test_the_target_equals_the_recursion_of_the_paper(core: CoreName, lam: float, vector) -> None:
    agent, rollout = collect(settings(core, q_lambda=lam), vector)
    assert rollout.terminated.any()
    assert rollout.truncated[:-1].any()
    target, value = agent.prepare(rollout)["target"], best_values(agent, rollout)
    torch.testing.assert_close(rollout.extras["value"], value[:-1], rtol=1e-5, atol=1e-6)
    for env in range(4):
        following = value[-1, env]  # nothing is known of what comes after: the return there is its value
        for t in reversed(range(16)):
            if rollout.dead[t, env]:
                following = value[t, env]
                continue
            if rollout.terminated[t, env]:
                following = rollout.reward[t, env]
            elif rollout.truncated[t, env]:  # the row after it is the final observation
                following = rollout.reward[t, env] + 0.9 * value[t + 1, env]
            else:
                mixed = lam * following + (1.0 - lam) * value[t + 1, env]
                following = rollout.reward[t, env] + 0.9 * mixed
            assert target[t, env].item() == pytest.approx(following.item(), rel=1e-4, abs=1e-5), (t, env)


def test_the_loss_is_half_the_squared_error_of_live_rows(vector) -> None:
    agent, rollout = collect(settings(), vector)
    metrics, _ = agent.update(rollout, torch.Generator().manual_seed(0))
    twin, same = collect(settings(), vector)
    with torch.no_grad():
        q = twin.model(same.obs, same.carry[0], same.first)[0].q.gather(-1, same.action.long()[..., None]).squeeze(-1)
        error = (0.5 * (q - twin.prepare(same)["target"]) ** 2)[~same.dead]
    assert metrics["train/loss"].item() == pytest.approx(error.mean().item(), rel=1e-5)
    assert weights_sha256(agent) != weights_sha256(twin)


@pytest.mark.parametrize("core", ["none", "lstm"])
def test_the_contents_of_dead_rows_change_nothing(core: CoreName, vector) -> None:
    (agent, rollout), (twin, same) = (collect(settings(core, epochs=2, minibatches=2), vector) for _ in range(2))
    dead = same.dead
    assert 0 < int(dead.sum()) < dead.numel()
    garbage = {
        "action": torch.where(dead, 1 - same.action, same.action),
        "reward": torch.where(dead, 77.0, same.reward),
        "terminated": same.terminated | dead,
        "obs": torch.where(dead[..., None], 55.0, same.obs),
    }
    for learner, seen in ((agent, rollout), (twin, same._replace(**garbage))):
        learner.update(seen, torch.Generator().manual_seed(0))
    assert weights_sha256(agent) == weights_sha256(twin)
    twin.update(same._replace(reward=same.reward + 1.0), torch.Generator().manual_seed(0))
    assert weights_sha256(agent) != weights_sha256(twin)


def test_burn_in_rows_are_not_learned_from(vector) -> None:
    config = settings("gru", burn_in=3)
    (agent, rollout), (twin, same) = (collect(config, vector) for _ in range(2))
    row = torch.arange(16)[:, None] % 8 < 3  # the first three of each sequence of eight
    original = twin.prepare

    def spoiled(rollout: Rollout) -> dict[str, Any]:
        return {"target": torch.where(row, 99.0, original(rollout)["target"])}

    twin.prepare = spoiled  # type: ignore[method-assign]
    for learner, seen in ((agent, rollout), (twin, same)):
        learner.update(seen, torch.Generator().manual_seed(0))
    assert weights_sha256(agent) == weights_sha256(twin)


def test_layer_norm_is_on_by_default(vector) -> None:
    def norms(config: PQNConfig) -> int:
        agent, _ = collect(config, vector)
        return sum(isinstance(module, torch.nn.LayerNorm) for module in agent.model.modules())

    assert norms(settings(hidden=(16, 16))) == 2
    assert norms(settings(layer_norm=False)) == 0


def test_epsilon_decays_over_a_fraction_of_the_training() -> None:
    config = settings(epsilon_end=0.1, epsilon_fraction=0.5, eval_epsilon=0.02)
    assert [config.epsilon(steps) for steps in (0, 160, 320, 640)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert config.epsilon(None) == 0.02


def test_rectified_adam_follows_the_schedule(vector) -> None:
    agent, rollout = collect(settings(schedule="linear"), vector)
    assert isinstance(agent.optimizer, torch.optim.RAdam)
    before = weights_sha256(agent)
    agent.update(rollout._replace(env_steps=64 * 11), torch.Generator())  # beyond the end: the rate is 0
    assert weights_sha256(agent) == before
    agent.update(rollout._replace(env_steps=64), torch.Generator())
    assert weights_sha256(agent) != before


def test_a_burn_in_as_long_as_the_sequence_is_refused() -> None:
    with pytest.raises(ConfigError, match="--burn-in must lie in 0 to 7"):
        settings("gru", burn_in=8).validate()

"""PPO's update: ratios start at 1, dead rows have no weight, schedules, minibatches."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from agents import on_policy
from agents.build import build_agent
from agents.interface import Rollout
from agents.policy.ppo import PPO, PPOConfig
from agents.run.checkpoint import weights_sha256
from envs.toy import CountingEnv, MemoryChainEnv
from networks.cores import CoreName
from tests.agents import helpers
from tests.machine import CPU

BASE = PPOConfig(
    num_envs=4, rollout_length=16, epochs=1, minibatches=1, total_steps=16 * 4 * 10, hidden=(16,), core_size=8,
    schedule="constant", learning_rate=1e-3,
)  # fmt: skip


def settings(core: CoreName, **changes: Any) -> PPOConfig:
    return replace(BASE, core=core, sequence_length=8 if core != "none" else 1, **changes)


def collect(config: PPOConfig, vector: Callable[..., Any], kind: Any = MemoryChainEnv) -> tuple[PPO, Rollout]:
    """Return an agent whose policy is far from uniform, and a rollout that begins in the middle of episodes."""
    envs = vector(kind, config.num_envs)
    agent = build_agent("ppo", config, envs, CPU)
    assert isinstance(agent, PPO)
    torch.manual_seed(1)
    torch.nn.init.normal_(agent.model.get_parameter("head.policy.layer.weight"))
    torch.nn.init.normal_(agent.model.get_parameter("head.value.weight"))
    return agent, helpers.collect(agent, envs)


def update(agent: PPO, rollout: Rollout, seed: int = 0) -> dict[str, torch.Tensor]:
    return agent.update(rollout, torch.Generator().manual_seed(seed))[0]


@pytest.mark.parametrize("core", ["none", "gru", "lstm"])
def test_the_ratio_is_1_on_the_first_minibatch(core: CoreName, vector) -> None:
    agent, rollout = collect(settings(core), vector)
    metrics = update(agent, rollout)
    assert metrics["train/clip_fraction"] == 0.0
    assert abs(metrics["train/approx_kl"].item()) < 1e-6
    # on a second pass the policy has moved
    assert update(agent, rollout)["train/approx_kl"] > 1e-6


@pytest.mark.parametrize("core", ["gru", "lstm"])
@pytest.mark.parametrize("wrong", ["carry", "first", "sequence"])
def test_a_wrong_carry_changes_the_ratio(core: CoreName, wrong: str, vector) -> None:
    """The test above can fail: a lost carry, a missed reset or wrong columns give other ratios."""
    agent, rollout = collect(settings(core), vector)
    if wrong == "carry":
        rollout = rollout._replace(carry=torch.zeros_like(rollout.carry))
    elif wrong == "first":
        assert rollout.first.any()
        rollout = rollout._replace(first=torch.zeros_like(rollout.first))
    else:
        agent._columns = lambda x: x.reshape(8, -1, *x.shape[2:])  # type: ignore[method-assign]
    assert update(agent, rollout)["train/approx_kl"] > 1e-6


@pytest.mark.parametrize("core", ["none", "lstm"])
@pytest.mark.parametrize("schedule", ["constant", "kl"])
def test_the_contents_of_dead_rows_change_nothing(core: CoreName, schedule: Any, vector) -> None:
    config = settings(core, epochs=3, minibatches=2, schedule=schedule)
    (agent, rollout), (twin, same) = collect(config, vector), collect(config, vector)
    dead = same.dead
    assert 0 < int(dead.sum()) < dead.numel()
    noise = torch.Generator().manual_seed(5)
    garbage = {
        "action": torch.where(dead, 1 - same.action, same.action),
        "reward": torch.where(dead, torch.randn(dead.shape, generator=noise) * 100, same.reward),
        "terminated": same.terminated | (dead & (torch.rand(dead.shape, generator=noise) < 0.5)),
        # the final observation stays: its value (in extras) is what a truncated episode is bootstrapped from
        "obs": torch.where(dead[..., None], torch.randn(same.obs.shape, generator=noise) * 10, same.obs),
        "extras": same.extras | {"log_prob": torch.where(dead, same.extras["log_prob"] - 2.0, same.extras["log_prob"])},
    }
    metrics, others = update(agent, rollout), update(twin, same._replace(**garbage))
    for name in metrics:
        assert metrics[name].item() == others[name].item(), name
    assert weights_sha256(agent) == weights_sha256(twin)


def test_the_contents_of_live_rows_change_the_update(vector) -> None:
    (agent, rollout), (twin, same) = (collect(settings("none"), vector) for _ in range(2))
    update(agent, rollout)
    update(twin, same._replace(reward=torch.where(same.dead, same.reward, same.reward + 1.0)))
    assert weights_sha256(agent) != weights_sha256(twin)


def test_a_truncated_episode_bootstraps_from_its_final_observation(vector) -> None:
    agent, rollout = collect(settings("none", gamma=0.5, gae_lambda=0.5), vector, CountingEnv)
    advantage, value = agent.advantage(rollout, 0.5), rollout.extras["value"]
    assert rollout.truncated[:-1].any()
    for t, env in rollout.truncated[:-1].nonzero().tolist():
        expected = rollout.reward[t, env] + 0.5 * value[t + 1, env] - value[t, env]
        assert advantage[t, env].item() == pytest.approx(expected.item(), rel=1e-5)
    for t, env in rollout.terminated[:-1].nonzero().tolist():
        assert advantage[t, env].item() == pytest.approx((rollout.reward[t, env] - value[t, env]).item(), rel=1e-5)


def test_the_linear_schedule_falls_evenly_towards_0(vector) -> None:
    agent, rollout = collect(settings("none", schedule="linear"), vector)
    counts = [64 * (k + 1) for k in range(12)]
    rates = [update(agent, rollout._replace(env_steps=n))["train/learning_rate"].item() for n in counts]
    expected = [1e-3 * (1 - k / 10) for k in range(10)] + [0.0, 0.0]
    assert rates == pytest.approx(expected, abs=1e-9)
    assert agent.optimizer.param_groups[0]["lr"] == 0.0


def test_a_learning_rate_of_0_changes_nothing(vector) -> None:
    agent, rollout = collect(settings("none", schedule="linear"), vector)
    before = weights_sha256(agent)
    update(agent, rollout._replace(env_steps=64 * 11))
    assert weights_sha256(agent) == before


def test_the_constant_schedule_is_constant(vector) -> None:
    agent, rollout = collect(settings("none"), vector)
    assert [round(update(agent, rollout)["train/learning_rate"].item(), 9) for _ in range(3)] == [1e-3] * 3


def test_the_kl_schedule_raises_and_lowers_the_rate(vector) -> None:
    # a policy that hardly moves is pushed; one that leaps is held back; both within bounds
    agent, rollout = collect(settings("none", schedule="kl", learning_rate=1e-5), vector)
    assert update(agent, rollout)["train/learning_rate"].item() == pytest.approx(1.5e-5)
    agent, rollout = collect(settings("none", schedule="kl", learning_rate=5e-3, epochs=8, target_kl=1e-6), vector)
    assert update(agent, rollout)["train/learning_rate"].item() < 5e-3


@pytest.mark.parametrize(
    ("kl", "factor"), [(0.0, 1.5), (0.0049, 1.5), (0.0051, 1.0), (0.0199, 1.0), (0.0201, 1 / 1.5), (9.0, 1 / 1.5)]
)
def test_the_kl_schedule_by_hand(kl: float, factor: float, vector) -> None:
    agent, _ = collect(settings("none", schedule="kl", target_kl=0.01), vector)
    agent.after_epoch({"train/approx_kl": torch.tensor(kl)})
    assert agent.learning_rate.item() == pytest.approx(1e-3 * factor)
    for _ in range(60):
        agent.after_epoch({"train/approx_kl": torch.tensor(kl)})
    assert 1e-6 * 0.99 <= agent.learning_rate.item() <= 1e-2 * 1.01


@pytest.mark.parametrize(("core", "minibatches"), [("none", 4), ("none", 7), ("lstm", 2), ("lstm", 3)])
def test_each_epoch_sees_every_column_once(core: CoreName, minibatches: int, vector, monkeypatch: Any) -> None:
    config = settings(core, epochs=3, minibatches=minibatches)
    agent, rollout = collect(config, vector)
    seen: list[list[int]] = []
    take = on_policy.take

    def recorded(columns: dict[str, Any], index: torch.Tensor) -> Any:
        seen.append(index.tolist())
        return take(columns, index)

    monkeypatch.setattr(on_policy, "take", recorded)
    update(agent, rollout)
    columns = 16 * 4 // config.sequence_length
    assert len(seen) == 3 * minibatches
    epochs = [list(itertools.chain(*seen[k * minibatches : (k + 1) * minibatches])) for k in range(3)]
    for order in epochs:
        assert sorted(order) == list(range(columns))
    assert epochs[0] != epochs[1]


def test_columns_are_consecutive_rows_of_one_environment(vector) -> None:
    agent, _ = collect(settings("lstm"), vector)
    marked = (100 * torch.arange(4)[None, :] + torch.arange(16)[:, None]).float()  # [T, N]: env and row
    columns = agent._columns(marked)
    assert columns.shape == (8, 8)
    for column in columns.unbind(1):
        assert (column.diff() == 1).all()
    np.testing.assert_array_equal(sorted(columns[0].tolist()), [0, 8, 100, 108, 200, 208, 300, 308])


@pytest.mark.parametrize(("rows", "starts"), [(13, [0, 5]), (16, [0, 8]), (5, [0]), (8, [0]), (9, [0, 1])])
def test_every_row_of_a_shorter_rollout_has_weight_once(rows: int, starts: list[int], vector) -> None:
    agent, _ = collect(settings("lstm"), vector)
    marked = (100 * torch.arange(4)[None, :] + torch.arange(rows)[:, None]).float()
    columns = agent._columns(marked)
    assert columns[0].tolist() == [100.0 * env + start for start in starts for env in range(4)]
    assert (columns.diff(dim=0) == 1).all()
    mask = agent._without_repeats(torch.ones(columns.shape), *marked.shape)
    assert sorted(columns[mask > 0].tolist()) == sorted(marked.flatten().tolist())


@pytest.mark.parametrize("core", ["none", "gru", "lstm"])
@pytest.mark.parametrize("rows", [13, 5, 1])
def test_the_ratio_is_1_in_a_shorter_rollout_too(core: CoreName, rows: int, vector) -> None:
    config = settings(core)
    agent, _ = collect(config, vector)
    metrics = update(agent, helpers.collect(agent, vector(MemoryChainEnv, config.num_envs), rows=rows))
    assert abs(metrics["train/approx_kl"].item()) < 1e-6
    assert all(np.isfinite(float(value)) for value in metrics.values())
    assert all(parameter.isfinite().all() for parameter in agent.model.parameters())


def test_a_shorter_rollout_has_fewer_minibatches() -> None:
    config = settings("none", minibatches=4)
    assert [config.minibatches_of(rows) for rows in (16, 15, 12, 8, 4, 1)] == [4, 4, 3, 2, 1, 1]
    assert settings("lstm", minibatches=4).minibatches_of(13) == 4  # 8 sequences, as in a whole rollout


def test_log_prob_and_value_are_those_of_the_policy(vector) -> None:
    agent, rollout = collect(settings("none"), vector)
    output, _ = agent.model(rollout.obs, rollout.carry[0], rollout.first)
    torch.testing.assert_close(rollout.extras["log_prob"], agent.policy.log_prob(output.policy, rollout.action))
    torch.testing.assert_close(rollout.extras["value"], output.value)


def test_gradients_are_clipped_to_their_norm(vector) -> None:
    agent, rollout = collect(settings("none", max_grad_norm=1e-3, value_coef=10.0), vector)
    assert update(agent, rollout)["train/grad_norm"] > 1e-3
    norms = [parameter.grad.norm() for parameter in agent.model.parameters() if parameter.grad is not None]
    assert torch.stack(norms).norm().item() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("clip_value", "moved"), [(False, 0.5), (True, 0.1)])
def test_the_change_of_a_value_is_clipped_if_set(clip_value: bool, moved: float, vector) -> None:
    agent, rollout = collect(settings("none", clip=0.1, clip_value=clip_value), vector)
    old, mask = rollout.extras["value"], (~rollout.dead).float()
    output, _ = agent.model(rollout.obs, rollout.carry[0], rollout.first)
    rows = {"action": rollout.action, "log_prob": rollout.extras["log_prob"], "advantage": old, "mask": mask}
    rows |= {"value": old, "target": old + 1.0}
    _, metrics = agent.loss(output._replace(value=old + 0.5), rows, 0.0)
    assert metrics["train/value_loss"].item() == pytest.approx(0.5 * (1.0 - moved) ** 2, rel=1e-4)

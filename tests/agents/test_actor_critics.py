"""REINFORCE, A2C, PPO, IMPALA and RND: learning recomputes the acting policy, dead rows have no weight, all action
spaces, action masks, input normalisation."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces

from agents.build import build_agent, fit_normalization
from agents.errors import ConfigError
from agents.interface import Rollout
from agents.loops import interact
from agents.policy.a2c import A2C, A2CConfig
from agents.policy.actor_critic import ActorCritic
from agents.policy.reinforce import Reinforce
from agents.presets.registry import PRESETS, tiny, with_core
from agents.run.checkpoint import load_agent, resolve, weights_sha256
from envs.action_replays import verify
from envs.make import make_env, make_envs
from envs.toy import CountingEnv, MemoryChainEnv
from envs.wrappers import ObserveMask
from networks.torsos.normalize import Normalize
from tests.agents import helpers
from tests.agents.helpers import fit, mean_return, train
from tests.machine import CPU

FAMILY = ("reinforce", "a2c", "ppo", "impala", "rnd")


def settings(algorithm: str, core: str = "none", **changes: Any) -> Any:
    """One minibatch per rollout, so that the policy has not changed when it is learned from."""
    config: Any = with_core(PRESETS[algorithm, "toy"], core)
    length = 16 if algorithm in ("reinforce", "a2c", "impala") else 8
    rows = {"sequence_length": 0 if length == 16 else length} if core != "none" or algorithm == "impala" else {}
    return replace(
        config, num_envs=4, rollout_length=16, epochs=1, minibatches=1, hidden=(16,), core_size=8, total_steps=640,
        schedule="constant", stop_return=None, **rows, **changes,
    )  # fmt: skip


def collect(
    algorithm: str, config: Any, vector: Callable[..., Any], kind: Any = MemoryChainEnv
) -> tuple[ActorCritic, Rollout]:
    """Return an agent whose policy is far from uniform, and a rollout that begins in the middle of episodes."""
    envs = vector(kind, config.num_envs)
    agent = build_agent(algorithm, config, envs, CPU)
    assert isinstance(agent, ActorCritic)
    torch.manual_seed(1)
    torch.nn.init.normal_(agent.model.get_parameter("head.policy.layer.weight"))
    return agent, helpers.collect(agent, envs, 64)


@pytest.mark.parametrize("core", ["none", "gru", "lstm"])
@pytest.mark.parametrize("algorithm", FAMILY)
def test_learning_recomputes_the_acting_policy(algorithm: str, core: str, vector: Any) -> None:
    agent, rollout = collect(algorithm, settings(algorithm, core), vector)
    assert rollout.first.any()
    output, _ = agent.model(rollout.obs, rollout.carry[0], rollout.first)
    live = ~rollout.dead
    log_prob = agent.policy.log_prob(output.policy, rollout.action)
    torch.testing.assert_close(log_prob[live], rollout.extras["log_prob"][live], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(agent.value(output)[live], rollout.extras["value"][live], atol=1e-5, rtol=1e-5)
    assert rollout.extras["log_prob"].std() > 0.002
    metrics, _ = agent.update(rollout, torch.Generator().manual_seed(0))
    assert metrics.get("train/ratio", torch.ones(())).item() == pytest.approx(1.0, abs=1e-5)
    assert metrics.get("train/clip_fraction", torch.zeros(())).item() == 0.0


@pytest.mark.parametrize("core", ["none", "gru"])
@pytest.mark.parametrize("algorithm", FAMILY)
def test_the_contents_of_dead_rows_change_nothing(algorithm: str, core: str, vector: Any) -> None:
    config = settings(algorithm, core)
    (agent, rollout), (twin, same) = (collect(algorithm, config, vector) for _ in range(2))
    dead = same.dead
    assert 0 < int(dead.sum()) < dead.numel()
    noise = torch.Generator().manual_seed(5)
    garbage = {
        "action": torch.where(dead, 1 - same.action, same.action),
        "reward": torch.where(dead, 100 * torch.randn(dead.shape, generator=noise), same.reward),
        "extras": same.extras | {"log_prob": torch.where(dead, same.extras["log_prob"] - 2.0, same.extras["log_prob"])},
    }
    metrics = [each.update(rows, torch.Generator().manual_seed(0))[0] for each, rows in (
        (agent, rollout), (twin, same._replace(**garbage)))]  # fmt: skip
    for name, value in metrics[0].items():
        assert value.item() == metrics[1][name].item(), name
    assert weights_sha256(agent) == weights_sha256(twin)
    assert weights_sha256(agent) != weights_sha256(collect(algorithm, config, vector)[0])


@pytest.mark.parametrize("algorithm", FAMILY)
def test_the_entropy_bonus_follows_its_schedule(algorithm: str, vector: Any) -> None:
    agent, rollout = collect(algorithm, settings(algorithm, entropy_coef=0.4, entropy_coef_end=0.2), vector)
    assert [agent.config.entropy_weight(p) for p in (0.0, 0.25, 1.0)] == pytest.approx([0.4, 0.35, 0.2])
    assert replace(agent.config, entropy_coef_end=None).entropy_weight(0.7) == 0.4
    rows = agent.prepare(rollout)
    batch = {"obs": rollout.obs, "action": rollout.action, "mask": (~rollout.dead).float(), **rows}
    output, _ = agent.model(rollout.obs, rollout.carry[0], rollout.first)
    losses, entropies = zip(*(
        (loss.item(), metrics["train/entropy"].item())
        for loss, metrics in (agent.loss(output, batch, progress) for progress in (0.0, 0.5, 1.0))
    ), strict=True)  # fmt: skip
    assert losses[1] - losses[0] == pytest.approx(0.1 * entropies[0], rel=1e-3)
    assert losses[2] - losses[0] == pytest.approx(0.2 * entropies[0], rel=1e-3)


def test_reinforce_learns_from_finished_episodes_only(vector: Any) -> None:
    config = settings("reinforce")
    agent, rollout = collect("reinforce", config, vector, CountingEnv)
    assert isinstance(agent, Reinforce)
    rows = agent.prepare(rollout)
    ends = (rollout.terminated | rollout.truncated).flip(0).cumsum(0).flip(0) > 0
    assert torch.equal(rows["mask"] > 0, ends & ~rollout.dead)
    assert int((~ends).sum()) > 0
    later = torch.where(ends, rollout.reward, rollout.reward + 50.0)  # rewards of episodes without an end
    again = agent.prepare(rollout._replace(reward=later))
    assert torch.equal(rows["target"][ends], again["target"][ends])
    without = build_agent("reinforce", replace(config, baseline=False), vector(CountingEnv, 4), CPU)
    assert isinstance(without, Reinforce)
    bare = without.prepare(rollout)
    assert (bare["value"] == 0).all()
    for t, env in (rollout.truncated & (bare["mask"] > 0)).nonzero().tolist():
        assert bare["target"][t, env] == rollout.reward[t, env]  # a time limit counts as an end


class Shifted(CountingEnv):
    """Observations far from 0, on very different scales."""

    def _observe(self) -> Any:
        return super()._observe() * np.array([1.0, 50.0], np.float32) + np.array([1000.0, -7.0], np.float32)


@pytest.mark.parametrize("algorithm", FAMILY)
def test_inputs_are_normalised_by_all_live_rows_and_statistics_are_saved(
    algorithm: str, vector: Any, tmp_path: Any
) -> None:
    config = settings(algorithm, input_norm="running", checkpoint_steps=320)
    envs = vector(Shifted, 4)
    agent = build_agent(algorithm, config, envs, CPU)
    fit_normalization(agent, envs, 0)
    seen: list[torch.Tensor] = []
    follow = agent.update_normalization  # type: ignore[attr-defined]

    def recorded(obs: torch.Tensor, mask: torch.Tensor) -> None:
        seen.append(obs[mask])
        follow(obs, mask)

    agent.update_normalization = recorded  # type: ignore[attr-defined]
    run = fit(agent, envs, tmp_path)
    first, *_ = (part for part in agent.modules()["model"].modules() if isinstance(part, Normalize))
    assert len(seen) >= 8
    everything = torch.cat(seen)
    probe = torch.tensor([[1003.0, 43.0]])
    shown = first(probe)
    state = first.state_dict()
    assert any("mean" in name for name in state), state.keys()
    assert shown.abs().max() < 5.0
    assert (probe - everything.mean(0)).abs().max() > 5.0
    path = resolve(run.folder / "checkpoints") if (run.folder / "checkpoints").is_dir() else None
    assert path is not None
    fresh = build_agent(algorithm, config, envs, CPU)
    before, *_ = (part for part in fresh.modules()["model"].modules() if isinstance(part, Normalize))
    assert not torch.equal(before(probe), shown)
    load_agent(path, fresh)
    assert torch.equal(before(probe), shown)
    assert weights_sha256(fresh) == weights_sha256(agent)


@pytest.mark.parametrize("algorithm", FAMILY)
def test_continuous_actions_are_learned_and_their_games_replayed(algorithm: str, tmp_path: Any) -> None:
    config = replace(tiny(PRESETS[algorithm, "classic"]), env="Pendulum-v1", total_steps=1_200, num_envs=2)
    config = replace(config, rollout_length=256)  # REINFORCE learns from whole games
    envs = make_envs("Pendulum-v1", 2)
    agent = build_agent(algorithm, config, envs, CPU)
    before = weights_sha256(agent)
    records: list[Any] = []
    for row in interact(agent, envs, [3, 4], torch.Generator().manual_seed(0), 0):
        records += row.next_info.get("episodes", ())
        if len(records) >= 4:
            break
    assert records[0].actions.dtype == np.float32
    assert records[0].actions.shape == (200, 1)
    assert (np.abs(records[0].actions) > 1.0).any()  # the environment cuts, the record has what was chosen
    verify(records[0], [], make_env)
    verify(records[2], [records[0]], make_env)
    fit(agent, envs, tmp_path)
    assert weights_sha256(agent) != before
    assert agent.model.get_parameter("head.policy.log_std").abs().sum() > 0


class Choices(gym.Env):
    """Reward 1 for each action that equals its part of the observation."""

    def __init__(self, space: spaces.Space):
        self.action_space, self.count = space, 0
        self.observation_space = spaces.Box(0.0, 1.0, (2,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.count = 0
        return self._show(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        assert self.action_space.contains(np.asarray(action).astype(self.action_space.dtype)), action
        reward = float((np.asarray(action) == self.shown).mean())
        self.count += 1
        return self._show(), reward, self.count == 8, False, {}

    def _show(self) -> np.ndarray:
        self.shown = self.np_random.integers(2, size=2)
        return self.shown.astype(np.float32)


SEVERAL = [spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)]


@pytest.mark.parametrize("space", SEVERAL, ids=["numbers", "switches"])
@pytest.mark.parametrize("algorithm", FAMILY)
def test_several_choices_at_once(algorithm: str, space: spaces.Space, vector: Any, tmp_path: Any) -> None:
    config = settings(algorithm)  # the environment checks its actions
    agent, run = train(algorithm, config, vector(Choices, 4, space=space), tmp_path)
    assert run.env_steps >= 640
    assert weights_sha256(agent) != weights_sha256(build_agent(algorithm, config, vector(Choices, 4, space=space), CPU))


@pytest.mark.slow
@pytest.mark.parametrize("space", SEVERAL, ids=["numbers", "switches"])
@pytest.mark.parametrize("algorithm", FAMILY)
def test_several_choices_at_once_are_learned(algorithm: str, space: spaces.Space, vector: Any, tmp_path: Any) -> None:
    config = replace(PRESETS[algorithm, "toy"], total_steps=20_000, gamma=0.5)
    agent, _ = train(algorithm, config, vector(Choices, config.num_envs, space=space), tmp_path)
    assert mean_return(agent, vector(Choices, 4, space=space)) > 7.0  # of 8; 3.3 and 4 by chance


@pytest.mark.parametrize("algorithm", FAMILY)
def test_illegal_actions_are_never_taken(algorithm: str, tmp_path: Any) -> None:
    config = replace(tiny(PRESETS[algorithm, "classic"]), env="Taxi-v4", mask_actions=True)
    envs: Any = ObserveMask(make_envs("Taxi-v4", 2))
    agent = build_agent(algorithm, config, envs, CPU)
    rows = interact(agent, envs, [0, 1], torch.Generator().manual_seed(0), 0)
    taken, forbidden = 0, 0
    for row in itertools.islice(rows, 250):
        legal = row.obs["action_mask"][np.arange(2), row.action]
        assert legal[~row.dead].all()
        taken += int((~row.dead).sum())
        forbidden += int((~row.obs["action_mask"].astype(bool)).sum())
    assert taken > 400
    assert forbidden > taken  # chance would have hit one
    run = fit(agent, envs, tmp_path)
    assert run.env_steps >= config.total_steps


@pytest.mark.parametrize("algorithm", ["dqn", "sac", "pqn"])
def test_agents_without_mask_support_refuse_masks(algorithm: str) -> None:
    config = replace(tiny(PRESETS[algorithm, "classic"]), env="Taxi-v4", mask_actions=True)
    with pytest.raises(ConfigError, match="does not support --mask-actions"):
        build_agent(algorithm, config, ObserveMask(make_envs("Taxi-v4", 2)), CPU)


@pytest.mark.parametrize("algorithm", FAMILY)
def test_evaluation_samples_or_is_greedy_as_set(algorithm: str, vector: Any) -> None:
    obs, first = np.zeros((400, 2), np.float32), np.ones(400, bool)
    for greedy in (False, True):
        agent = build_agent(algorithm, settings(algorithm, eval_greedy=greedy), vector(MemoryChainEnv, 4), CPU)
        assert isinstance(agent, ActorCritic)
        acted = [agent.act(obs, first, agent.initial_carry(400), steps, torch.Generator().manual_seed(0))[0]
                 for steps in (0, None)]  # fmt: skip
        likeliest = agent.policy.mode(agent.forward(obs, first, agent.initial_carry(400))[0].policy).numpy()
        assert 100 < acted[0].sum() < 300  # explores in any case
        assert (acted[1] == likeliest).all() == greedy


@pytest.mark.parametrize("algorithm", FAMILY)
def test_the_value_scale_is_updated_before_the_first_gradient_step(algorithm: str, vector: Any) -> None:
    agent, rollout = collect(algorithm, settings(algorithm, value_scale="normalize"), vector, CountingEnv)
    metrics, _ = agent.update(rollout._replace(reward=1000.0 * rollout.reward), torch.Generator().manual_seed(0))
    assert 0.1 < metrics["train/value_loss"].item() < 3.0  # half the squared error, in deviations


@pytest.mark.parametrize("algorithm", FAMILY)
def test_advantages_are_normalised_over_live_rows_if_set(algorithm: str, vector: Any) -> None:
    advantage, mask = torch.tensor([[3.0, 5.0], [99.0, 7.0]]), torch.tensor([[1.0, 1.0], [0.0, 1.0]])
    agent, _ = collect(algorithm, settings(algorithm, normalize_advantage=True), vector)
    scaled = agent.scaled_advantage(advantage, mask)
    assert scaled[mask > 0].tolist() == pytest.approx([-1.0, 0.0, 1.0])  # mean 5, deviation 2
    plain, _ = collect(algorithm, settings(algorithm, normalize_advantage=False), vector)
    assert torch.equal(plain.scaled_advantage(advantage, mask), advantage)


def test_the_ratio_of_impala_is_the_new_probability_over_the_old(vector: Any) -> None:
    agent, rollout = collect("impala", settings("impala"), vector)
    older = rollout.extras["log_prob"] - math.log(2.0)  # as if each action had been half as probable
    rollout = rollout._replace(extras={**rollout.extras, "log_prob": older})
    metrics, _ = agent.update(rollout, torch.Generator().manual_seed(0))
    assert metrics["train/ratio"].item() == pytest.approx(2.0, rel=1e-4)


def test_actions_without_a_policy_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"A2C on this environment: .*"):
        A2C(A2CConfig(), spaces.Box(-1, 1, (2,), np.float32), spaces.Dict(a=spaces.Discrete(2)), CPU)

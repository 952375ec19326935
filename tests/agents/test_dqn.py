"""DQN's update: targets by hand, copies of the target network, exploration, sequences against single rows."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.errors import ConfigError
from agents.exploration import epsilon_greedy, linear_schedule, updates_due
from agents.interface import Sequences, Transitions
from agents.losses import sequence_mean, sequence_priority
from agents.replay.buffer import Replay
from agents.run.checkpoint import weights_sha256
from agents.value.dqn import DQN, DQNConfig
from networks.heads.q_values import QOutput
from tests.agents.helpers import outputs
from tests.agents.test_replay import play
from tests.machine import CPU

SPACE = spaces.Box(-9, 9, (2,), np.float32)
BASE = DQNConfig(num_envs=2, hidden=(16,), learning_rate=1e-3, learning_starts=100, batch_size=6, gamma=0.5)


def make(config: DQNConfig = BASE, seed: int = 0, actions: int = 3) -> DQN:
    torch.manual_seed(seed)
    return DQN(config, SPACE, spaces.Discrete(actions), CPU)


def batch_of(count: int = 6, seed: int = 1) -> Transitions:
    rng = torch.Generator().manual_seed(seed)
    return Transitions(
        obs=torch.randn(count, 2, generator=rng), action=torch.randint(3, (count,), generator=rng),
        reward=torch.randn(count, generator=rng), discount=torch.full((count,), 0.5),
        next_obs=torch.randn(count, 2, generator=rng), weight=torch.ones(count), indices=np.arange(count),
    )  # fmt: skip


def td(agent: DQN, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss, |TD error| and value of each row."""
    return agent.td_loss(batch, outputs(agent, batch, torch.Generator().manual_seed(0)))


class Table(nn.Module):
    """Network as a lookup table: row k of `q` for observation k."""

    carry_dim = 0

    def __init__(self, q: list[list[float]]):
        super().__init__()
        self.q = nn.Parameter(torch.tensor(q))

    def initial_carry(self, batch: int) -> Tensor:
        return torch.zeros(batch, 0)

    def forward(self, obs: Tensor, carry: Tensor, first: Tensor, noise: Any = None) -> tuple[QOutput, Tensor]:
        return QOutput(self.q[obs[..., 0].long()]), carry


@pytest.mark.parametrize(("double", "target"), [(False, 1.0 + 0.5 * 5.0), (True, 1.0 + 0.5 * 1.0)])
@pytest.mark.parametrize("sequences", [False, True])
def test_double_and_single_targets_by_hand(double: bool, target: float, sequences: bool) -> None:
    agent = make(replace(BASE, double=double))
    # in state 1 the online network likes action 0, which the target network values at 1, its own best at 5
    agent.model, agent.target = Table([[2.0, 0.0], [9.0, 3.0]]), Table([[7.0, 7.0], [1.0, 5.0]])  # type: ignore[assignment]
    one = torch.ones(1)
    if sequences:
        batch: Any = Sequences(
            obs=torch.tensor([[[0.0]], [[1.0]]]), first=torch.zeros(2, 1, dtype=torch.bool), carry=torch.zeros(1, 0),
            action=torch.tensor([[0]]), reward=one[None], discount=0.5 * one[None], bootstrap=torch.tensor([[1]]),
            mask=one[None], weight=one, indices=np.zeros(1),
        )  # fmt: skip
    else:
        batch = Transitions(one[:, None] * 0, torch.tensor([0]), one, 0.5 * one, one[:, None], one, np.zeros(1))
    loss, error, q = td(agent, batch)
    assert q.item() == 2.0
    assert error.item() == pytest.approx(abs(2.0 - target))
    assert loss.item() == pytest.approx(0.5 * 0.5**2 if double else 1.5 - 0.5)  # Huber: |0.5| within, |1.5| beyond
    loss.sum().backward()
    assert agent.target.q.grad is None
    # only the value of the action taken is pulled, towards the target
    assert agent.model.q.grad.tolist() == [[0.5 if double else -1.0, 0.0], [0.0, 0.0]]


@pytest.mark.parametrize("double", [False, True])
def test_the_target_network_gets_no_gradient(double: bool) -> None:
    agent = make(replace(BASE, double=double))
    agent.update(batch_of(), torch.Generator())
    assert all(parameter.grad is None and not parameter.requires_grad for parameter in agent.target.parameters())
    assert all(parameter.grad is not None for parameter in agent.model.parameters())
    optimized = {id(parameter) for group in agent.optimizer.param_groups for parameter in group["params"]}
    assert optimized == {id(parameter) for parameter in agent.model.parameters()}


def test_the_target_is_copied_exactly_every_target_period_updates() -> None:
    agent = make(replace(BASE, target_period=3))

    def weights(module: nn.Module) -> list[Tensor]:
        return [value.clone() for value in module.state_dict().values()]

    copied = weights(agent.target)
    for number in range(1, 10):
        agent.update(batch_of(seed=number), torch.Generator())
        online, target = weights(agent.model), weights(agent.target)
        if number % 3 == 0:
            copied = online
        assert all(torch.equal(a, b) for a, b in zip(target, copied, strict=True)), number
        assert number % 3 == 0 or not all(torch.equal(a, b) for a, b in zip(online, target, strict=True))
    assert agent.updates == 9


def test_a_target_that_learns_would_give_other_weights() -> None:
    slow, fast = make(replace(BASE, target_period=100)), make(replace(BASE, target_period=1))
    for number in range(3):
        slow.update(batch_of(seed=number), torch.Generator())
        fast.update(batch_of(seed=number), torch.Generator())
    assert weights_sha256(slow) != weights_sha256(fast)


def test_epsilon_decays_with_env_steps_and_evaluation_has_its_own() -> None:
    agent = make(replace(BASE, epsilon_start=1.0, epsilon_end=0.1, epsilon_steps=1000, eval_epsilon=0.003))
    assert [agent.config.epsilon(steps, 4) for steps in (0, 500, 1000, 9999)] == pytest.approx([1.0, 0.55, 0.1, 0.1])
    assert agent.config.epsilon(None, 4) == 0.003
    assert linear_schedule(2.0, 4.0, 10, -5) == 2.0


@pytest.mark.parametrize(("env_steps", "share"), [(0, 1.0), (500, 0.5), (1000, 0.0), (None, 0.25)])
def test_the_share_of_random_actions_is_epsilon(env_steps: int | None, share: float) -> None:
    config = replace(BASE, epsilon_start=1.0, epsilon_end=0.0, epsilon_steps=1000, eval_epsilon=0.25)
    agent, count = make(config, actions=2), 4000
    obs, first = np.zeros((count, 2), np.float32), np.ones(count, bool)
    action, _, extras = agent.act(obs, first, agent.initial_carry(count), env_steps, torch.Generator().manual_seed(0))
    q = agent.model(torch.zeros(1, 2), agent.initial_carry(1), torch.ones(1, dtype=torch.bool))[0].q[0]
    # half of the random actions of two are the greedy one
    assert (action != int(q.argmax())).mean() == pytest.approx(share / 2, abs=0.03)
    np.testing.assert_allclose(extras["value"], q.max().item(), rtol=1e-5)


def test_exploration_is_independent_across_environments() -> None:
    rng = torch.Generator().manual_seed(0)
    q = torch.zeros(64, 5)
    q[:, 2] = 1.0
    explored = torch.stack([epsilon_greedy(q, 0.5, rng) != 2 for _ in range(100)]).float()  # [steps, environments]
    assert explored.mean().item() == pytest.approx(0.5 * 0.8, abs=0.03)
    # one coin for all would leave rows of only greedy actions; own coins vary the row's mean by a few percent
    assert 0.03 < explored.mean(dim=1).std().item() < 0.1
    assert explored.mean(dim=1).min() > 0.15
    actions = torch.stack([epsilon_greedy(q, 1.0, rng) for _ in range(100)])
    assert torch.bincount(actions.flatten()).min() > 1100  # of 6400 / 5


def test_updates_due_make_up_the_replay_ratio() -> None:
    done = 0
    for env_steps in range(0, 4000, 8):
        due = updates_due(0.3, 1000, env_steps, done)
        assert env_steps > 1000 or due == 0
        done += due
    assert done == int(0.3 * (3992 - 1000))


def test_an_n_step_target_has_gamma_to_the_n() -> None:
    config = replace(BASE, n_step=3, gamma=0.5, replay_capacity=400)
    agent, replay = make(config), Replay(config.layout(SPACE, 1, 0))
    for row in play(np.random.default_rng(0), 60, 2, 1):
        replay.add(row._replace(obs=row.obs["vector"], action=row.action % 3))
    batch = replay.sample(200, np.random.default_rng(1))
    assert isinstance(batch, Transitions)
    assert set(batch.discount.tolist()) == {0.0, 0.5, 0.25, 0.125}
    with torch.no_grad():
        carry, first = torch.zeros(200, 0), torch.zeros(200, dtype=torch.bool)
        best = agent.target(batch.next_obs, carry, first)[0].q.max(dim=1).values
        q = agent.model(batch.obs, carry, first)[0].q[torch.arange(200), batch.action]
    _, error, _ = td(agent, batch)
    torch.testing.assert_close(error, (batch.reward + batch.discount * best - q).abs())


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("n_step", [1, 3])
def test_the_loss_of_a_sequence_equals_that_of_its_rows(double: bool, n_step: int) -> None:
    """Without recurrence a sequence is a list of transitions: both batches must give equal losses."""
    length = 8
    config = replace(BASE, double=double, n_step=n_step, replay_capacity=400)
    agent = make(config)
    for parameter in agent.target.parameters():
        parameter.data += 0.1  # so that it matters which network is asked
    rows = play(np.random.default_rng(3), 90, 2, 1)
    sequential = Replay(replace(config.layout(SPACE, 1, 2), sequence_length=length))
    for row in rows:
        seen = row._replace(obs=row.obs["vector"], action=row.action % 3, carry=torch.zeros(2, 2))
        sequential.add(seen)
    batch = sequential.sample(5, np.random.default_rng(0))
    assert isinstance(batch, Sequences)
    loss, error, q = td(agent, batch._replace(carry=torch.zeros(5, 0)))
    columns = torch.arange(5).expand(length, 5)
    one_by_one = Transitions(
        obs=batch.obs[:length].flatten(0, 1), action=batch.action.flatten(), reward=batch.reward.flatten(),
        discount=batch.discount.flatten(), next_obs=batch.obs[batch.bootstrap, columns].flatten(0, 1),
        weight=torch.ones(length * 5), indices=np.zeros(length * 5),
    )  # fmt: skip
    flat = [part.view(length, 5) for part in td(agent, one_by_one)]
    for ours, expected in zip((loss, error, q), flat, strict=True):
        torch.testing.assert_close(ours * batch.mask, expected * batch.mask)
    assert 0 < batch.mask.sum() < batch.mask.numel()
    live = batch.mask.sum(dim=0)
    mean_loss, mean_q = sequence_mean(loss, batch.mask), sequence_mean(q, batch.mask)
    priority = sequence_priority(error, batch.mask, 0.9)
    flat_loss, flat_error, flat_q = (part * batch.mask for part in flat)
    torch.testing.assert_close(mean_loss, flat_loss.sum(dim=0) / live)
    torch.testing.assert_close(mean_q, flat_q.sum(dim=0) / live)
    torch.testing.assert_close(priority, 0.9 * flat_error.amax(dim=0) + 0.1 * flat_error.sum(dim=0) / live)


@pytest.mark.parametrize("core", ["gru", "lstm"])
def test_a_sequence_loss_starts_from_the_stored_carry_and_ignores_dead_rows(core: Any) -> None:
    config = replace(BASE, core=core, core_size=4, sequence_length=8, replay_capacity=400)
    agent = make(config)
    for parameter in agent.target.parameters():
        parameter.data += 0.1
    width = agent.model.carry_dim
    replay = Replay(config.layout(SPACE, 1, width))
    for row in play(np.random.default_rng(3), 90, 2, 1, carry_dim=width):
        replay.add(row._replace(obs=row.obs["vector"], action=row.action % 3))
    batch = replay.sample(16, np.random.default_rng(0))
    assert isinstance(batch, Sequences)
    loss = sequence_mean(td(agent, batch)[0], batch.mask)
    dead = batch.mask == 0
    assert dead.any()
    garbage = batch._replace(
        reward=torch.where(dead, 77.0, batch.reward), action=torch.where(dead, 2, batch.action),
        discount=torch.where(dead, 5.0, batch.discount), bootstrap=torch.where(dead, 0, batch.bootstrap),
    )  # fmt: skip
    assert torch.equal(sequence_mean(td(agent, garbage)[0], batch.mask), loss)

    def unrolled(network: nn.Module) -> Tensor:  # [L + 1, B, A], one row at a time from the stored memory
        carry, q = batch.carry, []
        for obs, first in zip(batch.obs, batch.first, strict=True):
            output, carry = network(obs, carry, first)
            q.append(output.q)
        return torch.stack(q)

    with torch.no_grad():
        columns = torch.arange(16).expand(8, 16)
        best = unrolled(agent.target)[batch.bootstrap, columns].max(dim=-1).values
        q = unrolled(agent.model)[:8].gather(2, batch.action[..., None]).squeeze(2)
        expected = nn.functional.huber_loss(q, batch.reward + batch.discount * best, reduction="none")
    torch.testing.assert_close(loss.detach(), (expected * batch.mask).sum(dim=0) / batch.mask.sum(dim=0))


def test_importance_weights_scale_the_gradient() -> None:
    a, b = make(), make()
    batch = batch_of()
    silent = batch._replace(weight=torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0]))
    halves = [part[:3] for part in batch]
    metrics, error = a.update(silent, torch.Generator())
    alone, _ = b.update(Transitions(*halves), torch.Generator())
    assert metrics["train/loss"].item() == pytest.approx(alone["train/loss"].item() / 2)
    assert error.shape == (6,)
    assert (error >= 0).all()


def test_a_dueling_head_subtracts_the_mean_advantage() -> None:
    agent = make(replace(BASE, dueling=True))
    features = torch.randn(7, 16)
    q = agent.model.head(features).q
    torch.testing.assert_close(q.mean(dim=1), agent.model.head.streams.value(features).squeeze(1))


@pytest.mark.parametrize("core", ["none", "lstm"])
@pytest.mark.parametrize("n_step", [1, 5])
def test_the_smallest_replay_can_always_be_sampled(core: Any, n_step: int) -> None:
    recurrent = {"core": core, "sequence_length": 16} if core != "none" else {}
    config = replace(BASE, n_step=n_step, replay_capacity=1, core_size=4, **recurrent)
    width = make(config).model.carry_dim
    replay = Replay(config.layout(spaces.Box(0, 255, (4, 3, 3), np.uint8), 4, width))
    ready = n_step + config.sequence_length  # what learning_starts is at least
    for number, row in enumerate(play(np.random.default_rng(2), 120, 2, 4, carry_dim=width)):
        replay.add(row._replace(obs=row.obs["frame"]))
        if number >= ready:
            replay.sample(4, np.random.default_rng(number))


@pytest.mark.parametrize("name", ["adam", "radam", "rmsprop"])
def test_every_optimizer_can_be_chosen_with_its_epsilon(name: Any) -> None:
    agent = make(replace(BASE, optimizer=name, optimizer_epsilon=0.25))
    assert type(agent.optimizer).__name__.lower() == name
    assert agent.optimizer.param_groups[0]["eps"] == 0.25
    before = weights_sha256(agent)
    agent.update(batch_of(), torch.Generator())
    assert weights_sha256(agent) != before


def test_settings_of_older_runs_are_read_under_their_new_names() -> None:
    values = {**asdict(BASE), "prioritized": True, "adam_epsilon": 0.5}
    del values["replay_sampling"], values["optimizer_epsilon"]
    assert DQNConfig.from_json(values) == replace(BASE, replay_sampling="prioritized", optimizer_epsilon=0.5)
    assert DQNConfig.from_json(values | {"prioritized": False}).layout(SPACE, 1, 0).sampling == "uniform"
    assert DQNConfig.from_json(asdict(BASE)) == BASE
    with pytest.raises(ConfigError, match="unknown fields: prioritised"):
        DQNConfig.from_json(values | {"prioritised": True})

"""Variants of DQN: targets, losses and gradients by hand on lookup tables; noise; exploration."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.errors import ConfigError
from agents.interface import Sequences, Transitions
from agents.losses import quantile_huber, rescale, unrescale
from agents.presets.base import derive
from agents.presets.registry import ALGORITHMS
from agents.replay.buffer import Replay
from agents.run.checkpoint import weights_sha256
from agents.value.c51 import C51, C51Config
from agents.value.dqn import DQN, DQNConfig
from agents.value.iqn import IQNConfig
from agents.value.qr_dqn import QRDQN, QRDQNConfig
from networks.heads.q_values import CategoricalOutput, QOutput, QuantileOutput
from tests.agents.helpers import outputs
from tests.agents.test_replay import play
from tests.machine import CPU

SPACE = spaces.Box(-9, 9, (2,), np.float32)
BASE = DQNConfig(num_envs=2, hidden=(16,), learning_rate=1e-3, learning_starts=100, batch_size=6, gamma=0.5)
VARIANTS: dict[str, Any] = {"dqn": DQNConfig, "c51": C51Config, "qr-dqn": QRDQNConfig, "iqn": IQNConfig}
SWITCHES: dict[str, dict[str, Any]] = {
    "plain": {},
    "double": {"double": True},
    "munchausen": {"munchausen": True},
    "noisy dueling streams": {"noisy": True, "dueling": True, "head_hidden": 8},
    "rescaled": {"value_rescale": True},
}
RNG = torch.Generator


class Table(nn.Module):
    """Network as a lookup table: row k of each array for observation k."""

    carry_dim = 0

    def __init__(self, kind: Any, learned: Tensor, **more: Any):
        super().__init__()
        self.kind, self.learned, self.more = kind, nn.Parameter(learned), more
        self.head = SimpleNamespace(support=more.get("support"))

    def initial_carry(self, batch: int) -> Tensor:
        return torch.zeros(batch, 0)

    def forward(self, obs: Tensor, carry: Tensor, first: Tensor, noise: Any = None) -> tuple[Any, Tensor]:
        rows = self.learned[obs[..., 0].long()]
        if self.kind is QOutput:
            return QOutput(rows), carry
        if self.kind is QuantileOutput:
            return QuantileOutput(rows.mean(dim=-1), rows, self.more["taus"].expand(*rows.shape[:-2], -1)), carry
        log_probs = rows.log_softmax(dim=-1)
        return CategoricalOutput((log_probs.exp() * self.more["support"]).sum(dim=-1), log_probs), carry


def agent_of(kind: Any, config: Any, online: Tensor, target: Tensor, output: Any, **more: Any) -> Any:
    torch.manual_seed(0)
    agent = kind(config, SPACE, spaces.Discrete(2), CPU)
    agent.model, agent.target = Table(output, online, **more), Table(output, target, **more)
    return agent


def step(action: int = 0, reward: float = 1.0, discount: float = 0.5) -> Transitions:
    """From state 0 to state 1."""
    one = torch.ones(1)
    return Transitions(
        one[:, None] * 0, torch.tensor([action]), one * reward, one * discount, one[:, None], one, np.zeros(1)
    )


def td(agent: DQN, batch: Any) -> tuple[Tensor, Tensor, Tensor]:
    return agent.td_loss(batch, outputs(agent, batch, RNG().manual_seed(0)))


def softened(q: list[float], temperature: float) -> tuple[list[float], list[float]]:
    """Return policy and temperature * log policy, by plain arithmetic."""
    total = sum(math.exp(value / temperature) for value in q)
    policy = [math.exp(value / temperature) / total for value in q]
    return policy, [temperature * math.log(chance) for chance in policy]


@pytest.mark.parametrize(("action", "clip"), [(0, -10.0), (1, -10.0), (0, -0.25)])
def test_munchausen_target_by_hand(action: int, clip: float) -> None:
    config = replace(BASE, munchausen=True, munchausen_alpha=0.9, munchausen_tau=0.5, munchausen_clip=clip, double=True)
    here, there = [0.2, 0.8], [0.3, 0.5]
    agent = agent_of(DQN, config, torch.tensor([[2.0, 0.0], [9.0, 9.0]]), torch.tensor([here, there]), QOutput)
    policy, entropy = softened(there, 0.5)
    bonus = max(softened(here, 0.5)[1][action], clip)
    assert (bonus == clip) == (clip == -0.25)
    value = sum(policy[k] * (there[k] - entropy[k]) for k in range(2))
    target = 1.0 + 0.9 * bonus + 0.5 * value
    _, error, q = td(agent, step(action))
    assert q.item() == [2.0, 0.0][action]
    assert error.item() == pytest.approx(abs(q.item() - target), rel=1e-5)
    # a terminal step has no next value, but still its own log-probability
    assert td(agent, step(action, discount=0.0))[1].item() == pytest.approx(abs(q.item() - 1.0 - 0.9 * bonus), rel=1e-5)


def test_munchausen_at_a_low_temperature_and_weight_0_is_dqn() -> None:
    tables = torch.tensor([[2.0, 0.0], [9.0, 3.0]]), torch.tensor([[7.0, 7.5], [1.0, 5.0]])
    soft = agent_of(DQN, replace(BASE, munchausen=True, munchausen_alpha=0.0, munchausen_tau=1e-3), *tables, QOutput)
    hard = agent_of(DQN, BASE, *tables, QOutput)
    torch.testing.assert_close(td(soft, step())[1], td(hard, step())[1])


def test_rescaled_target_by_hand() -> None:
    config = replace(BASE, value_rescale=True)
    online, target = torch.tensor([[1.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    agent = agent_of(DQN, config, online, target, QOutput)
    # 2.0 stands for unrescale(2) = 8 - a bit: by hand sqrt(x + 1) - 1 + x / 1000 = 2
    x = unrescale(torch.tensor(2.0)).item()
    assert math.sqrt(x + 1) - 1 + x / 1000 == pytest.approx(2.0, rel=1e-4)
    wanted = rescale(torch.tensor(1.0 + 0.5 * x)).item()
    assert td(agent, step())[1].item() == pytest.approx(abs(1.0 - wanted), rel=1e-4)


def test_a_squared_error_by_hand() -> None:
    online, target = torch.tensor([[9.0, 0.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 2.0]])
    squared, huber = (
        td(agent_of(DQN, replace(BASE, huber_delta=delta), online, target, QOutput), step())[0] for delta in (0.0, 1.0)
    )
    assert squared.item() == pytest.approx(0.5 * 7.0**2)
    assert huber.item() == pytest.approx(6.5)


def test_c51_by_hand() -> None:
    support = torch.tensor([0.0, 1.0, 2.0])
    config = C51Config(**{**vars(BASE), "atoms": 3, "v_min": 0.0, "v_max": 2.0})
    online = torch.log(torch.tensor([[[0.2, 0.3, 0.5], [0.6, 0.2, 0.2]], [[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]]))
    # in state 1 the target network prefers action 1: mean 1.2 against 0.9
    target = torch.log(torch.tensor([[[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]], [[0.3, 0.5, 0.2], [0.2, 0.4, 0.4]]]))
    agent = agent_of(C51, config, online, target, CategoricalOutput, support=support)
    loss, error, q = td(agent, step(reward=0.5, discount=0.5))
    # atoms 0, 1, 2 go to 0.5, 1.0, 1.5: half of 0.2 to atom 0; half of 0.2, all of 0.4, half of 0.4 to atom 1
    wanted = [0.1, 0.7, 0.2]
    entropy = -sum(p * math.log(p) for p in wanted)
    cross = -sum(p * math.log(o) for p, o in zip(wanted, [0.2, 0.3, 0.5], strict=True))
    assert loss.item() == pytest.approx(cross, rel=1e-5)
    assert error.item() == pytest.approx(cross - entropy, rel=1e-4)
    assert q.item() == pytest.approx(1.3)
    loss.sum().backward()
    gradient = agent.model.learned.grad
    assert gradient[0, 0].tolist() == pytest.approx([0.2 - 0.1, 0.3 - 0.7, 0.5 - 0.2], abs=1e-6)  # softmax less target
    assert not gradient[0, 1].any()
    assert not gradient[1].any()
    assert agent.target.learned.grad is None


def test_a_terminal_c51_target_is_the_reward_alone() -> None:
    config = C51Config(**{**vars(BASE), "atoms": 3, "v_min": 0.0, "v_max": 2.0})
    support = torch.tensor([0.0, 1.0, 2.0])
    online = torch.zeros(2, 2, 3)
    agent = agent_of(C51, config, online, torch.randn(2, 2, 3), CategoricalOutput, support=support)
    loss, error, _ = td(agent, step(reward=1.0, discount=0.0))
    assert loss.item() == pytest.approx(math.log(3))
    assert error.item() == pytest.approx(math.log(3), rel=1e-5)
    # a perfect fit has no priority
    agent.model.learned.data[0, 0] = torch.tensor([-40.0, 40.0, -40.0])
    assert td(agent, step(reward=1.0, discount=0.0))[1].item() == pytest.approx(0.0, abs=1e-5)


@pytest.mark.parametrize("double", [False, True])
def test_qr_dqn_by_hand(double: bool) -> None:
    config = QRDQNConfig(**{**vars(BASE), "quantiles": 2, "double": double})
    taus = torch.tensor([0.25, 0.75])
    online = torch.tensor([[[0.0, 2.0], [7.0, 7.0]], [[9.0, 9.0], [0.0, 0.0]]])
    target = torch.tensor([[[5.0, 5.0], [5.0, 5.0]], [[1.0, 2.0], [4.0, 6.0]]])
    agent = agent_of(QRDQN, config, online, target, QuantileOutput, taus=taus)
    loss, error, q = td(agent, step())
    backed_up = [1.5, 2.0] if double else [3.0, 4.0]  # 1 + 0.5 * the quantiles of the action chosen
    expected = quantile_huber(torch.tensor([[0.0, 2.0]]), taus[None], torch.tensor([backed_up]))
    assert loss.item() == pytest.approx(expected.item())
    assert q.item() == 1.0
    assert error.item() == pytest.approx(sum(backed_up) / 2 - 1.0)
    loss.sum().backward()
    assert agent.model.learned.grad[0, 0].abs().min() > 0
    assert not agent.model.learned.grad[0, 1].any()
    assert not agent.model.learned.grad[1].any()
    assert agent.target.learned.grad is None


def test_munchausen_quantiles_mix_the_actions() -> None:
    config = QRDQNConfig(**{**vars(BASE), "quantiles": 2, "munchausen": True, "munchausen_tau": 0.5})
    target = torch.tensor([[[0.1, 0.3], [0.7, 0.9]], [[0.0, 0.6], [0.4, 0.6]]])
    agent = agent_of(QRDQN, config, torch.zeros(2, 2, 2), target, QuantileOutput, taus=torch.tensor([0.25, 0.75]))
    policy, entropy = softened([0.3, 0.5], 0.5)
    bonus = 0.9 * softened([0.2, 0.8], 0.5)[1][1]
    backed_up = [
        1.0 + bonus + 0.5 * sum(policy[k] * (target[1, k, j].item() - entropy[k]) for k in range(2)) for j in range(2)
    ]
    loss, error, _ = td(agent, step(action=1))
    expected = quantile_huber(torch.zeros(1, 2), torch.tensor([[0.25, 0.75]]), torch.tensor([backed_up]))
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    assert error.item() == pytest.approx(sum(backed_up) / 2, rel=1e-5)


def make(name: str, **switches: Any) -> DQN:
    """Return an agent with three actions."""
    # QR-DQN compares all pairs of quantiles: 200 of them take 150 times as long as 16
    few: dict[str, Any] = {"quantiles": 16} if name == "qr-dqn" else {}
    config = derive(VARIANTS[name], replace(BASE, **switches), **few)
    torch.manual_seed(1)
    return ALGORITHMS[name][1](config, SPACE, spaces.Discrete(3), CPU)  # type: ignore[return-value]


def batch_of(count: int = 64, seed: int = 1) -> Transitions:
    rng = RNG().manual_seed(seed)
    return Transitions(
        obs=torch.randn(count, 2, generator=rng), action=torch.randint(3, (count,), generator=rng),
        reward=torch.randn(count, generator=rng), discount=torch.full((count,), 0.5),
        next_obs=torch.randn(count, 2, generator=rng), weight=torch.ones(count), indices=np.arange(count),
    )  # fmt: skip


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_every_variant_fits_a_batch(name: str, switches: dict[str, Any]) -> None:
    agent = make(name, **switches, target_period=100_000)
    rng, misfits = RNG().manual_seed(0), []
    batch = batch_of()
    for _ in range(200):
        metrics, priorities = agent.update(batch, rng)
        # a perfect fit leaves cross-entropy at the target's entropy, but the divergence at 0
        misfits.append((priorities.mean() if name == "c51" else metrics["train/loss"]).item())
        assert priorities.shape == (64,)
        assert bool((priorities >= 0).all())
        assert not priorities.requires_grad
    assert np.mean(misfits[-20:]) < 0.8 * np.mean(misfits[:20])
    assert all(parameter.grad is None for parameter in agent.target.parameters())


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES)
def test_the_loss_of_a_sequence_equals_that_of_its_rows(name: str, switches: dict[str, Any]) -> None:
    """Without recurrence a sequence is a list of transitions, with burn-in too; noise would differ, so it is off."""
    length, burn_in = 8, 3
    agent = make(name, **{**switches, "noisy": False}, n_step=2, replay_capacity=400)
    for parameter in agent.target.parameters():
        parameter.data += 0.1
    agent.config = replace(agent.config, burn_in=burn_in)
    layout = replace(agent.config.layout(SPACE, 1, 2), sequence_length=length, burn_in=burn_in)
    replay = Replay(layout)
    for row in play(np.random.default_rng(3), 90, 2, 1):
        replay.add(row._replace(obs=row.obs["vector"], action=row.action % 3, carry=torch.zeros(2, 2)))
    batch = replay.sample(5, np.random.default_rng(0))
    assert isinstance(batch, Sequences)
    assert len(batch.obs) == burn_in + length + 2
    batch = batch._replace(carry=torch.zeros(5, 0))
    columns, learned = torch.arange(5).expand(length, 5), batch.obs[burn_in:]
    rows = Transitions(
        obs=learned[:length].flatten(0, 1), action=batch.action.flatten(), reward=batch.reward.flatten(),
        discount=batch.discount.flatten(), next_obs=learned[batch.bootstrap, columns].flatten(0, 1),
        weight=torch.ones(length * 5), indices=np.zeros(length * 5),
    )  # fmt: skip
    certain: Any = None  # IQN's taus are even without a generator
    ours = agent.td_loss(batch, outputs(agent, batch, certain))
    for got, wanted in zip(ours, agent.td_loss(rows, outputs(agent, rows, certain)), strict=True):
        torch.testing.assert_close(got * batch.mask, wanted.view(length, 5) * batch.mask, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("core", ["gru", "lstm"])
def test_burn_in_refreshes_the_carry_without_gradient(core: Any) -> None:
    config = replace(BASE, core=core, core_size=4, sequence_length=6, burn_in=4, replay_capacity=400)
    torch.manual_seed(0)
    agent = DQN(config, SPACE, spaces.Discrete(3), CPU)
    width = agent.model.carry_dim
    replay = Replay(config.layout(SPACE, 1, width))
    for row in play(np.random.default_rng(3), 120, 2, 1, carry_dim=width):
        replay.add(row._replace(obs=row.obs["vector"], action=row.action % 3))
    batch = replay.sample(16, np.random.default_rng(0))
    assert isinstance(batch, Sequences)
    obs = batch.obs.clone().requires_grad_()
    out = outputs(agent, batch._replace(obs=obs), RNG())
    carry, q = batch.carry, []
    with torch.no_grad():
        for seen, first in zip(batch.obs, batch.first, strict=True):  # one row at a time, from the stored memory
            output, carry = agent.model(seen, carry, first)
            q.append(output.q)
    torch.testing.assert_close(out.online.q, torch.stack(q)[4:10])
    out.online.q.sum().backward()
    assert not obs.grad[:4].any()
    assert obs.grad[4:10].abs().sum(dim=(0, 2)).min() > 0


def test_noise_explores_and_is_off_in_evaluation() -> None:
    agent = make("dqn", noisy=True, noisy_sigma=1.0, epsilon_start=0.0, epsilon_end=0.0, eval_epsilon=0.0)
    obs, first = np.zeros((500, 2), np.float32), np.ones(500, bool)
    carry = agent.initial_carry(500)
    playing = agent.act(obs, first, carry, 10, RNG().manual_seed(0))
    assert len(set(playing[0].tolist())) > 1  # every player has noise of its own
    again = agent.act(obs, first, carry, 10, RNG().manual_seed(0))
    np.testing.assert_array_equal(playing[2]["value"], again[2]["value"])
    judged = agent.act(obs, first, carry, None, RNG().manual_seed(0))
    assert len(set(judged[0].tolist())) == 1
    other = agent.act(obs, first, carry, None, RNG().manual_seed(5))
    np.testing.assert_array_equal(judged[2]["value"], other[2]["value"])


def test_iqn_is_deterministic_in_evaluation() -> None:
    agent = make("iqn", eval_epsilon=0.0)
    obs, first, carry = np.ones((4, 2), np.float32), np.ones(4, bool), agent.initial_carry(4)
    values = [agent.act(obs, first, carry, None, RNG().manual_seed(seed))[2]["value"] for seed in (0, 1)]
    np.testing.assert_array_equal(*values)
    drawn = [agent.act(obs, first, carry, 0, RNG().manual_seed(seed))[2]["value"] for seed in (0, 1)]
    assert (drawn[0] != drawn[1]).all()


def test_the_ladder_gives_each_environment_its_epsilon() -> None:
    config = replace(BASE, exploration="ladder", epsilon_base=0.4)
    epsilon = config.epsilon(123, 8)
    assert isinstance(epsilon, Tensor)
    assert epsilon.tolist() == pytest.approx([0.4 ** (1 + i) for i in range(8)])
    assert config.epsilon(123, 1).tolist() == pytest.approx([0.4])  # type: ignore[union-attr]
    assert config.epsilon(None, 8) == config.eval_epsilon
    agent = make("dqn", exploration="ladder", epsilon_base=0.5)
    count = 8
    obs, first, carry = np.zeros((count, 2), np.float32), np.ones(count, bool), agent.initial_carry(count)
    greedy = agent.act(obs, first, carry, None, RNG())[0][0]
    rng = RNG().manual_seed(0)
    random = np.mean([agent.act(obs, first, carry, 0, rng)[0] != greedy for _ in range(2000)], axis=0)
    np.testing.assert_allclose(random, [0.5 ** (1 + i) * 2 / 3 for i in range(count)], atol=0.03)


def test_the_reported_value_is_in_units_of_the_reward() -> None:
    plain, rescaled = make("dqn", eval_epsilon=0.0), make("dqn", value_rescale=True, eval_epsilon=0.0)
    obs, first, carry = np.ones((1, 2), np.float32), np.ones(1, bool), plain.initial_carry(1)
    a, b = (agent.act(obs, first, carry, None, RNG())[2]["value"] for agent in (plain, rescaled))
    assert b == pytest.approx(unrescale(torch.from_numpy(a)).numpy(), rel=1e-5)


def test_augmentation_changes_images_only() -> None:
    space = spaces.Dict({"picture": spaces.Box(0, 255, (1, 36, 36), np.uint8), "vector": SPACE})
    torch.manual_seed(0)
    config = replace(BASE, augment=True, hidden=(8,))
    agent = DQN(replace(config, torso="auto"), space, spaces.Discrete(3), CPU)
    batch, rng = batch_of(6), RNG().manual_seed(3)
    pictures = torch.randint(0, 255, (6, 1, 36, 36), generator=rng, dtype=torch.uint8)
    whole = batch._replace(
        obs={"picture": pictures, "vector": batch.obs}, next_obs={"picture": pictures, "vector": batch.next_obs}
    )
    first, second = (outputs(agent, whole, RNG().manual_seed(seed)).online.q for seed in (0, 1))
    assert not torch.equal(first, second)
    agent.config = replace(config, augment=False)
    first, second = (outputs(agent, whole, RNG().manual_seed(seed)).online.q for seed in (0, 1))
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", VARIANTS)
def test_an_update_keeps_the_target_and_depends_on_its_generator_only(name: str) -> None:
    hashes = []
    for seed in (0, 0, 1):
        agent = make(name, noisy=True)
        before = [value.clone() for value in agent.target.state_dict().values()]
        agent.update(batch_of(), RNG().manual_seed(seed))
        assert all(torch.equal(a, b) for a, b in zip(before, agent.target.state_dict().values(), strict=True))
        hashes.append(weights_sha256(agent))
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("kind", "changes", "message"),
    [
        (DQNConfig, {"burn_in": 4}, "--burn-in must be 0 without a memory"),
        (DQNConfig, {"priority_exponent": 1.5}, "--priority-exponent must lie in 0 to 1"),
        (DQNConfig, {"munchausen_tau": 0.0}, "--munchausen-tau must be above 0"),
        (DQNConfig, {"munchausen_clip": 1.0}, "--munchausen-clip must not be above 0"),
        (DQNConfig, {"head_hidden": -1}, "--head-hidden must not be negative"),
        (
            DQNConfig,
            {"munchausen": True, "value_rescale": True},
            "--munchausen excludes --value-rescale",
        ),
        (DQNConfig, {"exploration": "ladder", "num_envs": 1}, "--exploration needs several environments"),
        (C51Config, {"atoms": 1}, "--atoms must be at least 2"),
        (C51Config, {"v_min": 3.0, "v_max": 1.0}, "--v-max must be above --v-min 3.0"),
        (QRDQNConfig, {"quantiles": 0}, "--quantiles must be at least 1"),
        (QRDQNConfig, {"kappa": -1.0}, "--kappa must not be negative"),
        (IQNConfig, {"cosines": 0}, "--cosines must be at least 1"),
    ],
)
def test_impossible_settings_are_named(kind: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        kind(**changes).validate()

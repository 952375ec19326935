"""Discrete SAC: targets, losses and gradients by hand on lookup tables; which loss trains which network; acting."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.errors import ConfigError
from agents.interface import Sequences, Transitions
from agents.policy.sac import SAC, SACConfig, policy_entropy
from agents.replay.buffer import Replay
from networks.heads.critics import ActorAndCritics, Critics
from networks.heads.policies import LogitsOutput
from networks.heads.q_values import QOutput
from tests.agents.helpers import outputs
from tests.agents.test_replay import play
from tests.machine import CPU

SPACE = spaces.Box(-9, 9, (2,), np.float32)
BASE = SACConfig(
    num_envs=2, hidden=(16,), learning_rate=1e-3, learning_starts=100, batch_size=6, gamma=0.5, alpha=0.5,
    replay_capacity=400, target_entropy_scale=0.5,
)  # fmt: skip
RNG = torch.Generator
ONLINE = ([[2.0, 0.0], [9.0, 9.0]], [[1.0, 3.0], [9.0, 9.0]])
TARGET = ([[1.5, 1.0], [1.0, 5.0]], [[1.5, 1.0], [3.0, 4.0]])
"""Two critics' values in states 0 and 1: of the online and of the target network."""
LOGITS = [[0.0, math.log(3.0)], [math.log(4.0), 0.0]]
"""Policies 1/4, 3/4 in state 0 and 4/5, 1/5 in state 1."""


class Table(nn.Module):
    """Network as a lookup table: row k for observation k."""

    carry_dim = 0

    def __init__(self, kind: Any, learned: list[list[float]]):
        super().__init__()
        self.kind, self.learned = kind, nn.Parameter(torch.tensor(learned))

    def forward(self, obs: Tensor, carry: Tensor, first: Tensor, noise: Any = None) -> tuple[Any, Tensor]:
        return self.kind(self.learned[obs[..., 0].long()]), carry


def tables(**changes: Any) -> Any:
    """An agent whose networks are the tables above."""
    agent: Any = make(2, **changes)

    def critics(values: Any) -> Critics:
        return Critics([Table(QOutput, q) for q in values])  # type: ignore[misc]

    agent.model = ActorAndCritics(critics(ONLINE), Table(LogitsOutput, LOGITS), agent.config.alpha)  # type: ignore[arg-type]
    agent.target = critics(TARGET).requires_grad_(False)
    return agent


def make(actions: int = 3, space: spaces.Space = SPACE, seed: int = 1, **changes: Any) -> SAC:
    torch.manual_seed(seed)
    return SAC(replace(BASE, **changes), space, spaces.Discrete(actions), CPU)


def step(sequences: bool = False, action: int = 0, discount: float = 0.5) -> Any:
    """From state 0 to state 1, with a reward of 1."""
    one = torch.ones(1)
    if not sequences:
        return Transitions(
            one[:, None] * 0, torch.tensor([action]), one, one * discount, one[:, None], one, np.zeros(1)
        )
    return Sequences(
        obs=torch.tensor([[[0.0]], [[1.0]]]), first=torch.zeros(2, 1, dtype=torch.bool), carry=torch.zeros(1, 0),
        action=torch.tensor([[action]]), reward=one[None], discount=discount * one[None],
        bootstrap=torch.tensor([[1]]), mask=one[None], weight=one, indices=np.zeros(1),
    )  # fmt: skip


def batch_of(count: int = 64, seed: int = 1) -> Transitions:
    rng = RNG().manual_seed(seed)
    return Transitions(
        obs=torch.randn(count, 2, generator=rng), action=torch.randint(3, (count,), generator=rng),
        reward=torch.randn(count, generator=rng), discount=torch.full((count,), 0.5),
        next_obs=torch.randn(count, 2, generator=rng), weight=torch.ones(count), indices=np.arange(count),
    )  # fmt: skip


@pytest.mark.parametrize("sequences", [False, True])
@pytest.mark.parametrize(
    ("changes", "values"),
    # in state 1 the lesser values are 1 and 4, the means 2 and 4.5; the policy is 0.8, 0.2
    [
        ({}, 0.8 * (1.0 - 0.5 * math.log(0.8)) + 0.2 * (4.0 - 0.5 * math.log(0.2))),
        ({"alpha": 2.0}, 0.8 * (1.0 - 2.0 * math.log(0.8)) + 0.2 * (4.0 - 2.0 * math.log(0.2))),
        ({"entropy_in_target": False}, 0.8 * 1.0 + 0.2 * 4.0),
        ({"q_average": True, "entropy_in_target": False}, 0.8 * 2.0 + 0.2 * 4.5),
    ],
)
def test_the_critics_loss_by_hand(changes: dict[str, Any], values: float, sequences: bool) -> None:
    agent, batch = tables(**changes), step(sequences)
    target = 1.0 + 0.5 * values
    loss, error, q = agent.critic_loss(batch, outputs(agent, batch, RNG()))
    assert loss.item() == pytest.approx(0.5 * (2.0 - target) ** 2 + 0.5 * (1.0 - target) ** 2)
    assert error.item() == pytest.approx((abs(2.0 - target) + abs(1.0 - target)) / 2)
    assert q.item() == 1.5
    loss.sum().backward()
    gradients = [model.learned.grad.tolist() for model in agent.model.critics.models]
    # only the value of the action taken is pulled, in each critic, towards the target that they share
    assert gradients[0] == [[pytest.approx(2.0 - target), 0.0], [0.0, 0.0]]
    assert gradients[1] == [[pytest.approx(1.0 - target), 0.0], [0.0, 0.0]]
    assert agent.model.actor.learned.grad is None
    assert agent.model.log_alpha.grad is None
    assert all(model.learned.grad is None for model in agent.target.models)


def test_a_terminal_target_is_the_reward_alone() -> None:
    agent, batch = tables(), step(action=1, discount=0.0)
    _, error, q = agent.critic_loss(batch, outputs(agent, batch, RNG()))
    assert (q.item(), error.item()) == (1.5, (1.0 + 2.0) / 2)


def test_a_clipped_critics_loss_by_hand() -> None:
    # the target is 5.8: critic 1 at 2 may count as 1.5 + 0.25 only, critic 2 at 1 as 1.5 - 0.25, the worse one counts
    agent, batch = tables(q_clip=0.25, entropy_in_target=False, q_average=True), step()
    target = 1.0 + 0.5 * 2.5
    loss, error, _ = agent.critic_loss(batch, outputs(agent, batch, RNG()))
    assert loss.item() == pytest.approx(0.5 * (1.75 - target) ** 2 + 0.5 * (1.0 - target) ** 2)
    assert error.item() == pytest.approx((abs(2.0 - target) + abs(1.0 - target)) / 2)
    loss.sum().backward()
    first, second = (model.learned.grad[0, 0].item() for model in agent.model.critics.models)
    assert first == 0.0  # it has gone as far from the target network as is rewarded
    assert second == pytest.approx(1.0 - target)


@pytest.mark.parametrize(("q_average", "q"), [(False, [1.0, 0.0]), (True, [1.5, 1.5])])
def test_the_actors_loss_by_hand(q_average: bool, q: list[float]) -> None:
    agent, batch = tables(q_average=q_average), step()
    out, policy = outputs(agent, batch, RNG()), [0.25, 0.75]
    loss = agent.actor_loss(out.online.logits.log_softmax(dim=-1), agent.combined(out.online.q.detach()))
    regret = [0.5 * math.log(policy[k]) - q[k] for k in range(2)]
    wanted = policy[0] * regret[0] + policy[1] * regret[1]
    assert loss.item() == pytest.approx(wanted, rel=1e-5)
    loss.sum().backward()
    # d/d logit_k of sum_a pi_a f_a is pi_k (f_k - sum_a pi_a f_a); that of alpha log pi itself sums to 0
    gradient = agent.model.actor.learned.grad
    assert gradient[0].tolist() == pytest.approx([policy[k] * (regret[k] - wanted) for k in range(2)], abs=1e-6)
    assert not gradient[1].any()
    assert agent.model.log_alpha.grad is None
    assert all(model.learned.grad is None for model in agent.model.critics.models)


@pytest.mark.parametrize("scale", [0.2, 0.98])
def test_the_temperatures_loss_by_hand(scale: float) -> None:
    agent, batch = tables(target_entropy_scale=scale), step()
    out = outputs(agent, batch, RNG())
    loss = agent.temperature_loss(out.online.logits.log_softmax(dim=-1).detach())
    surplus = -(0.25 * math.log(0.25) + 0.75 * math.log(0.75)) - scale * math.log(2.0)
    assert loss.item() == pytest.approx(math.log(0.5) * surplus, rel=1e-5)
    loss.sum().backward()
    assert agent.model.log_alpha.grad.item() == pytest.approx(surplus, rel=1e-5)
    assert agent.model.actor.learned.grad is None


@pytest.mark.parametrize(("scale", "direction"), [(0.2, -1), (0.98, 1), (0.0, 0)])
def test_alpha_falls_above_the_target_entropy_and_a_scale_of_0_keeps_it(scale: float, direction: int) -> None:
    agent = make(target_entropy_scale=scale)
    nn.init.constant_(agent.model.get_parameter("actor.head.policy.weight"), 0.0)
    agent.model.get_parameter("actor.head.policy.bias").data = torch.tensor([0.0, 1.0, 2.0])
    share = policy_entropy(torch.tensor([0.0, 1.0, 2.0]).log_softmax(dim=0)).item() / math.log(3.0)
    assert 0.2 < share < 0.98
    metrics, _ = agent.update(batch_of(), RNG())
    assert metrics["train/entropy"].item() == pytest.approx(share * math.log(3.0), rel=1e-5)
    moved = metrics["train/alpha"].item() - 0.5
    assert np.sign(round(moved, 7)) == direction
    assert "log_alpha" in agent.modules()["model"].state_dict()  # so that it is saved, hashed and loaded


IMAGES = spaces.Dict({"image": spaces.Box(0, 255, (4, 10, 10), np.uint8), "vector": SPACE})


def mean_loss(agent: SAC, batch: Any) -> Tensor:
    """The loss of an update in which all rows count alike; nothing is learned."""
    losses = []
    if isinstance(batch, Sequences):
        batch = batch._replace(mask=torch.ones_like(batch.mask))

    def gradient_step(loss: Tensor, max_grad_norm: float) -> Tensor:
        losses.append(loss)
        return torch.zeros(())

    with mock.patch.object(agent, "gradient_step", gradient_step):
        agent.update(batch, RNG())
    return losses[0]


def test_augmentation_changes_images_only() -> None:
    space = spaces.Dict({"image": spaces.Box(0, 255, (1, 36, 36), np.uint8), "vector": SPACE})
    picture = torch.randint(0, 255, (1, 1, 36, 36), generator=RNG().manual_seed(3), dtype=torch.uint8)
    plain = step()._replace(obs=torch.ones(1, 2), next_obs=torch.zeros(1, 2))
    batch = plain._replace(
        obs={"image": picture, "vector": plain.obs}, next_obs={"image": picture, "vector": plain.next_obs}
    )
    losses = {augment: mean_loss(make(2, space=space, augment=augment), batch) for augment in (False, True)}
    assert losses[True] != losses[False]


@pytest.mark.parametrize("core", ["none", "gru"])
@pytest.mark.parametrize("space", [SPACE, IMAGES])
def test_each_loss_has_gradients_in_its_own_network_only(core: Any, space: spaces.Space) -> None:
    recurrent = {"sequence_length": 8, "burn_in": 2} if core != "none" else {}
    agent = make(space=space, core=core, core_size=4, **recurrent)
    replay = Replay(agent.config.layout(space, 1, agent.model.carry_dim))
    for row in play(np.random.default_rng(3), 90, 2, 1, carry_dim=agent.model.carry_dim):
        picture = np.random.default_rng(0).integers(0, 255, (2, 4, 10, 10)).astype(np.uint8)
        obs = row.obs["vector"] if space is SPACE else {"image": picture, "vector": row.obs["vector"]}
        replay.add(row._replace(obs=obs, action=row.action % 3))
    batch, model = replay.sample(16, np.random.default_rng(0)), agent.model
    groups = {"critics": model.critics, "actor": model.actor}

    def gradients(name: str) -> list[dict[str, Tensor]]:
        agent.optimizer.zero_grad()
        out = outputs(agent, batch, RNG())
        log_policy = out.online.logits.log_softmax(dim=-1)
        losses = {
            "critics": lambda: agent.critic_loss(batch, out)[0],
            "actor": lambda: agent.actor_loss(log_policy, agent.combined(out.online.q.detach())),
            "alpha": lambda: agent.temperature_loss(log_policy.detach()),
            "all": lambda: mean_loss(agent, batch),
        }
        losses[name]().mean().backward()
        grads = [
            {key: p.grad for key, p in group.named_parameters() if p.grad is not None} for group in groups.values()
        ]
        return [*grads, {} if model.log_alpha.grad is None else {"log_alpha": model.log_alpha.grad}]

    alone = [gradients(name) for name in ("critics", "actor", "alpha")]
    for number, grads in enumerate(alone):
        assert [bool(part) for part in grads] == [k == number for k in range(3)]
    for number, part in enumerate(gradients("all")):
        assert part.keys() == alone[number][number].keys()
        for key, gradient in part.items():
            torch.testing.assert_close(gradient, alone[number][number][key], msg=key)
            assert gradient.abs().sum() > 0 or key.endswith("bias"), key


def test_gradients_of_critics_and_actor_are_clipped_separately() -> None:
    calm, shaken = make(max_grad_norm=0.01), make(max_grad_norm=0.01)
    batch = batch_of()
    norms = [
        agent.update(given, RNG())[0]["train/grad_norm"].item()
        for agent, given in ((calm, batch), (shaken, batch._replace(reward=batch.reward * 1e6)))
    ]
    assert norms[1] > 1e5 * norms[0] > 0  # that of the critics, before it is cut
    for agent in (calm, shaken):
        for part in (agent.model.critics, agent.model.actor):
            grads = [p.grad.norm() for p in part.parameters() if p.grad is not None]
            assert torch.stack(grads).norm().item() == pytest.approx(0.01, rel=1e-3)
    for ours, theirs in zip(calm.model.actor.parameters(), shaken.model.actor.parameters(), strict=True):
        assert torch.equal(ours, theirs)
    assert any(
        not torch.equal(a, b)
        for a, b in zip(calm.model.critics.parameters(), shaken.model.critics.parameters(), strict=True)
    )


@pytest.mark.parametrize(("period", "tau"), [(3, 1.0), (1, 0.25)])
def test_the_target_follows_the_critics(period: int, tau: float) -> None:
    agent = make(target_period=period, target_tau=tau)
    assert agent.target.state_dict().keys() == agent.model.critics.state_dict().keys()  # no actor, no temperature
    wanted = [weight.clone() for weight in agent.target.parameters()]
    for number in range(1, 7):
        agent.update(batch_of(seed=number), RNG())
        if number % period == 0:
            online = agent.model.critics.parameters()
            wanted = [(1 - tau) * old + tau * new for old, new in zip(wanted, online, strict=True)]
        for ours, theirs in zip(agent.target.parameters(), wanted, strict=True):
            torch.testing.assert_close(ours, theirs)
    assert all(parameter.grad is None for parameter in agent.target.parameters())


def test_critics_fit_a_batch_and_the_actor_prefers_their_best_action() -> None:
    agent, batch = make(target_period=100_000, learning_rate=1e-2, hidden=(64, 64)), batch_of()
    errors = [agent.update(batch, RNG())[1].mean().item() for _ in range(300)]
    assert np.mean(errors[-20:]) < 0.5 * np.mean(errors[:20])
    out = outputs(agent, batch, RNG())
    best, likeliest = agent.combined(out.online.q).argmax(dim=-1), out.online.logits.argmax(dim=-1)
    assert (best == likeliest).float().mean() > 0.9


def test_priorities_and_weights() -> None:
    one, other = make(), make()
    batch = batch_of(6)
    weights = torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 0.0])
    metrics, priority = one.update(batch._replace(weight=weights), RNG())
    alone, _ = other.update(Transitions(*[part[:3] for part in batch]), RNG())
    assert metrics["train/loss"].item() == pytest.approx(alone["train/loss"].item() / 2, rel=1e-5)
    out = outputs(make(), batch, RNG())
    assert torch.equal(priority, make().critic_loss(batch, out)[1])
    assert priority.shape == (6,)
    assert (priority > 0).all()


@pytest.mark.parametrize("core", ["gru", "lstm"])
@pytest.mark.parametrize("q_clip", [0.0, 0.5])
def test_a_sequence_equals_its_rows_one_by_one(core: Any, q_clip: float) -> None:
    """Each network starts from its own part of the stored carry; the target critics from that of the critics."""
    agent = make(
        core=core, core_size=4, sequence_length=6, burn_in=3, n_step=2, q_clip=q_clip, replay_sampling="prioritized"
    )
    for parameter in agent.target.parameters():
        parameter.data += 0.1
    width = agent.model.carry_dim
    assert width == 3 * agent.model.actor.carry_dim == 3 * {"gru": 4, "lstm": 8}[core]
    replay = Replay(agent.config.layout(SPACE, 1, width))
    for row in play(np.random.default_rng(3), 120, 2, 1, carry_dim=width):
        replay.add(row._replace(obs=row.obs["vector"], action=row.action % 3))
    batch = replay.sample(16, np.random.default_rng(0))
    assert isinstance(batch, Sequences)
    assert batch.carry.abs().sum() > 0

    def unrolled(network: Any, carry: Tensor, name: str) -> Tensor:
        rows = []
        for seen, first in zip(batch.obs, batch.first, strict=True):
            output, carry = network(seen, carry, first)
            rows.append(getattr(output, name))
        return torch.stack(rows)[3:]

    out, columns = outputs(agent, batch, RNG()), torch.arange(16).expand(6, 16)
    critics, actor = batch.carry[:, : 2 * width // 3], batch.carry[:, 2 * width // 3 :]
    with torch.no_grad():
        logits, target_q = unrolled(agent.model.actor, actor, "logits"), unrolled(agent.target, critics, "q")
        torch.testing.assert_close(out.online.q, unrolled(agent.model.critics, critics, "q")[:6])
    torch.testing.assert_close(out.online.logits, logits[:6])
    torch.testing.assert_close(out.online_next.logits, logits[batch.bootstrap, columns])
    torch.testing.assert_close(out.target_next.q, target_q[batch.bootstrap, columns])
    assert out.target is None if q_clip == 0 else torch.allclose(out.target.q, target_q[:6], atol=1e-6)
    assert not out.online_next.logits.requires_grad
    error, rows = agent.critic_loss(batch, out)[1] * batch.mask, batch.mask.sum(dim=0)
    metrics, priority = agent.update(batch, RNG())
    torch.testing.assert_close(priority, 0.9 * error.amax(dim=0) + 0.1 * error.sum(dim=0) / rows)
    live = policy_entropy(logits[:6].log_softmax(dim=-1))[batch.mask > 0]
    assert metrics["train/entropy"].item() == pytest.approx(live.mean().item(), rel=1e-4)


def test_acting_samples_the_policy_and_evaluation_takes_its_mode() -> None:
    agent, count = make(), 4000
    for parameter in agent.model.critics.parameters():
        parameter.data *= 2.0
    agent.model.get_parameter("actor.head.policy.bias").data += torch.tensor([0.0, 0.5, 1.5])
    obs, first = np.ones((count, 2), np.float32), np.ones(count, bool)
    carry = agent.initial_carry(count)
    output, _ = agent.model(torch.ones(1, 2), agent.initial_carry(1), torch.ones(1, dtype=torch.bool))
    policy = output.logits[0].softmax(dim=0).tolist()

    def shares(env_steps: int | None) -> tuple[list[float], np.ndarray]:
        action, _, extras = agent.act(obs, first, carry, env_steps, RNG().manual_seed(0))
        return (np.bincount(action, minlength=3) / count).tolist(), extras["value"]

    assert shares(99)[0] == pytest.approx([1 / 3] * 3, abs=0.03)  # uniformly until learning starts
    frequencies, value = shares(100)
    assert frequencies == pytest.approx(policy, abs=0.03)
    assert max(policy) - min(policy) > 0.2
    assert shares(None)[0] == [float(k == int(np.argmax(policy))) for k in range(3)]
    lesser = output.q[0].amin(dim=0).tolist()
    np.testing.assert_allclose(value, sum(p * q for p, q in zip(policy, lesser, strict=True)), rtol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"alpha": 0.0}, "--alpha must be above 0"),
        ({"target_entropy_scale": 1.0}, "--target-entropy-scale must lie in 0 to below 1"),
        ({"q_clip": -0.5}, "--q-clip must not be negative"),
        ({"target_tau": 0.0}, "--target-tau must be above 0"),
        ({"target_tau": 1.5}, "--target-tau must lie in 0 to 1"),
        ({"burn_in": 4}, "--burn-in must be 0 without a memory"),
    ],
)
def test_impossible_settings_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        replace(BASE, **changes).validate()

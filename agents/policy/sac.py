"""Soft actor-critic for numbered actions (Christodoulou 2019): a policy that is learned from replay by the values of
twin critics, paid for its entropy at a temperature that is learned too. Expectations over actions are exact sums.

Actor and critics have networks, and with a core memories, of their own (Ni et al. 2022). What is known to go wrong is a
switch: the lesser of two critics is too low (`q_average`), values run away (`q_clip`; both Zhou et al. 2022, whose
entropy penalty is left out), a bonus for later entropy blurs them (`entropy_in_target`; Asad et al. 2025), and the
entropy aimed at is too high once training is long (`target_entropy_scale`: 0.98 in the paper, 0.89 in CleanRL).

Differs from CleanRL's sac_atari.py: all losses are summed and make one step of one optimizer, so the actor learns from
the critics before their step; gradients of critics and actor are clipped apart, the temperature's are not; the
temperature's loss is linear in its logarithm, as in the SAC authors' later code; an agent that is judged takes the
likeliest action, as Christodoulou's does; n-step returns have neither correction nor the entropy of the steps between;
priorities are means of both errors. CleanRL's scores 19 on Pong and 344 on Breakout after 20M frames (no sticky
actions; while training).

    python scripts/train.py sac --env CartPole-v1
    python scripts/train.py sac --env ALE/Pong-v5
    python scripts/train.py sac --env joypad/MemoryChain-v0 --core gru
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.interface import Sequences, Transitions
from agents.losses import masked_mean, ppo_value_loss
from agents.off_policy import Metrics, Outputs, ReplayConfig, ReplayLearner
from networks.heads.critics import ActorAndCritics, Critics
from networks.heads.policies import PolicyHead
from networks.heads.q_values import QHead
from networks.model import Model, Network


@dataclass(frozen=True)
class SACConfig(ReplayConfig):
    """Settings of discrete SAC."""

    learning_rate: float = 3e-4
    """Adam's step size, for actor, critics and temperature."""
    adam_epsilon: float = 1e-4
    """Adam's epsilon."""
    batch_size: int = 64
    """Transitions, or sequences, in a minibatch."""
    target_period: int = 2000
    """Updates between copies of the critics to the target network."""
    alpha: float = 1.0
    """Temperature at the start: what a nat of entropy is worth, in rewards."""
    target_entropy_scale: float = 0.89
    """Mean entropy that the temperature is learned to bring about, of the most there is; 0 leaves alpha as it is."""
    q_average: bool = False
    """Go by the mean of the critics instead of the lesser."""
    q_clip: float = 0.0
    """Bound on the change of a value from the target network's that a loss rewards; 0: none."""
    entropy_in_target: bool = True
    """Count the entropy of later steps as reward."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.alpha > 0, "alpha", "must be above 0")
        self.require(0.0 <= self.target_entropy_scale < 1.0, "target_entropy_scale", "must lie in 0 to below 1")
        self.require(self.q_clip >= 0, "q_clip", "must not be negative")

    def schedule_line(self) -> str:
        """Say what becomes of the entropy."""
        aim = f"entropy to {self.target_entropy_scale:.0%} of the most" if self.target_entropy_scale else "fixed"
        return f"random until {self.learning_starts:,} steps, alpha {self.alpha:g}, {aim}, {super().schedule_line()}"


class SAC(ReplayLearner):
    """Soft actor-critic."""

    config: SACConfig
    model: ActorAndCritics

    def build(self) -> Network:
        """Return two critics and an actor."""
        critics = Critics([self.network(lambda width: QHead(width, self.num_actions)) for _ in range(2)])
        actor = self.network(lambda width: PolicyHead(width, self.num_actions))
        return ActorAndCritics(critics, actor, self.config.alpha)

    def network(self, head: Any) -> Model:
        """Return a torso, the memory if there is one, and this head."""
        return self.assemble(self.build_torso(nn.ReLU), head)

    @property
    def target_source(self) -> Network:
        """The critics: only values are bootstrapped from the target network."""
        return self.model.critics

    @property
    def action_selector(self) -> Network:
        """The actor, whose next actions the values are averaged over."""
        return self.model.actor

    @property
    def needs_target_at_obs(self) -> bool:
        """Whether values are kept near the target network's."""
        return self.config.q_clip > 0

    def gradient_clip_groups(self) -> list[nn.Module]:
        """Return critics and actor: large errors of the ones must not slow the other down."""
        return [self.model.critics, self.model.actor]

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Sample, uniformly until learning starts; take the likeliest action when judged; extras: `value` [N]."""
        output, carry = self.forward(obs, first, carry)
        policy = output.logits.softmax(dim=-1)
        value = (policy * self.combined(output.q)).sum(dim=-1)
        if env_steps is None:
            action = policy.argmax(dim=-1)
        else:
            chances = policy if env_steps >= self.config.learning_starts else torch.ones_like(policy)
            action = torch.multinomial(chances, 1, generator=rng).squeeze(1)
        return action.cpu().numpy(), carry, {"value": value.cpu().numpy()}

    def combined(self, q: Tensor) -> Tensor:
        """Return one value of each action, [..., A], from those of all critics [..., C, A]."""
        return q.mean(dim=-2) if self.config.q_average else q.amin(dim=-2)

    def td_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return the sum of all losses with gradient, and without it mean |TD error| and value of the actions taken."""
        loss, error, q = self.critic_loss(batch, out)
        log_policy = out.here.logits.log_softmax(dim=-1)
        loss = loss + self.actor_loss(log_policy, self.combined(out.here.q.detach()))
        if self.config.target_entropy_scale:
            loss = loss + self.temperature_loss(log_policy.detach())
        return loss, error, q

    def critic_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Half the squared errors, summed over critics; the mean |error| and the mean value, without gradient."""
        rows = batch.action[..., None, None].expand(*out.here.q.shape[:-1], 1)
        q = out.here.q.gather(-1, rows).squeeze(-1)  # [..., C]
        target = self.target_value(batch, out)[..., None]
        before = q if out.back is None else out.back.q.gather(-1, rows).squeeze(-1)
        loss = ppo_value_loss(q, before, target, self.config.q_clip or None).sum(dim=-1)
        return loss, (q.detach() - target).abs().mean(dim=-1), q.detach().mean(dim=-1)

    @torch.no_grad()
    def target_value(self, batch: Transitions | Sequences, out: Outputs) -> Tensor:
        """r + discount * sum_a pi(a|s') (Q'(s', a) - alpha log pi(a|s')), [...]."""
        log_policy = out.ahead.logits.log_softmax(dim=-1)
        values = self.combined(out.there.q)
        if self.config.entropy_in_target:
            values = values - self.model.log_alpha.exp() * log_policy
        return batch.reward + batch.discount * (log_policy.exp() * values).sum(dim=-1)

    def actor_loss(self, log_policy: Tensor, q: Tensor) -> Tensor:
        """sum_a pi(a|s) (alpha log pi(a|s) - Q(s, a)), [...]."""
        return (log_policy.exp() * (self.model.log_alpha.detach().exp() * log_policy - q)).sum(dim=-1)

    def temperature_loss(self, log_policy: Tensor) -> Tensor:
        """log alpha * (entropy less what it should be), [...]: alpha rises while the entropy is too low."""
        aim = self.config.target_entropy_scale * math.log(self.num_actions)
        return self.model.log_alpha * (entropy(log_policy) - aim)

    @torch.no_grad()
    def summary(self, batch: Transitions | Sequences, out: Outputs) -> Metrics:
        """Return the temperature, and the mean entropy of the policy on the rows learned from."""
        found = entropy(out.here.logits.log_softmax(dim=-1))
        mask = batch.mask if isinstance(batch, Sequences) else torch.ones_like(found)
        return {"train/alpha": self.model.log_alpha.exp(), "train/entropy": masked_mean(found, mask)}


def entropy(log_policy: Tensor) -> Tensor:
    """Entropy [...] of the policies whose log probabilities are [..., A], in nats."""
    return -(log_policy.exp() * log_policy).sum(dim=-1)

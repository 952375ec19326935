"""Soft actor-critic for discrete actions (Christodoulou 2019): a replay, twin critics, a policy with an entropy bonus,
and a learned temperature. Expectations over actions are exact sums.

Actor and critics have separate networks and, with a core, separate memories (Ni et al. 2022). Known weaknesses have a
setting each: the minimum of two critics underestimates (`q_average`), values diverge (`q_clip`; both Zhou et al. 2022,
whose entropy penalty is left out), the bonus for later entropy blurs the values (`entropy_in_target`; Asad et al.
2025), and the target entropy is too high in long trainings (`target_entropy_scale`: 0.98 in the paper, 0.89 in
CleanRL).

Differences from CleanRL's sac_atari.py: one optimizer takes one step on the sum of all losses, so the actor learns from
the critics before their step; gradients of critics and actor are clipped separately, the temperature's are not; the
temperature's loss is linear in its logarithm, as in the SAC authors' later code; evaluation takes the most probable
action, as Christodoulou's does; n-step returns have no correction, and no entropy of the steps between; priorities are
means of both errors. CleanRL's scores 19 on Pong and 344 on Breakout after 20M frames (no sticky actions, in training).

    python scripts/train.py sac --env CartPole-v1
    python scripts/train.py sac --env ALE/Pong-v5
    python scripts/train.py sac --env joypad/MemoryChain-v0 --core gru
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from agents.augment import augment_batch
from agents.config import ReplayConfig
from agents.interface import Metrics, Sequences, Transitions
from agents.learner import update_target
from agents.losses import masked_mean, ppo_value_loss, sequence_mean, sequence_priority
from agents.off_policy import ReplayLearner
from agents.value.dqn import BatchForward, Outputs
from networks.heads.critics import ActorAndCritics, Critics
from networks.heads.policies import PolicyHead
from networks.heads.q_values import QHead
from networks.model import Model, Network


@dataclass(frozen=True)
class SACConfig(ReplayConfig):
    """Settings of discrete SAC."""

    learning_rate: float = 3e-4
    """Step size of the optimizer, for actor, critics and temperature."""
    optimizer_epsilon: float = 1e-4
    """Added to the denominator of each step, for numerical stability."""
    batch_size: int = 64
    """Transitions, or sequences, in a minibatch."""
    target_period: int = 2000
    """Gradient updates between updates of the target network, which has critics only."""
    alpha: float = 1.0
    """Initial temperature: reward per nat of entropy."""
    target_entropy_scale: float = 0.89
    """Target entropy of the learned temperature, as a fraction of the maximum; 0 keeps alpha constant."""
    q_average: bool = False
    """Use the mean of the critics instead of the minimum."""
    q_clip: float = 0.0
    """Clip range of a value around the target network's, as in PPO's value loss; 0: no clipping."""
    entropy_in_target: bool = True
    """Count the entropy of later steps as reward."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.alpha > 0, "alpha", "must be above 0")
        self.require(0.0 <= self.target_entropy_scale < 1.0, "target_entropy_scale", "must lie in 0 to below 1")
        self.require(self.q_clip >= 0, "q_clip", "must not be negative")

    def schedule_line(self) -> str:
        """Return temperature and target entropy, for the pre-flight."""
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

    def network(self, head: Callable[[int], nn.Module]) -> Model:
        """Return a torso of its own, the core, and `head(width)`."""
        return self.assemble(self.build_torso(nn.ReLU), head)

    @property
    def target_source(self) -> Network:
        """The critics: the target network has no policy."""
        return self.model.critics

    def gradient_clip_groups(self) -> list[nn.Module]:
        """Return critics and actor: large errors of the critics must not slow the actor down."""
        return [self.model.critics, self.model.actor]

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Sample, uniformly until learning starts; take the most probable action in evaluation; extras: `value` [N]."""
        output, carry = self.forward(obs, first, carry)
        policy = output.logits.softmax(dim=-1)
        value = (policy * self.combined(output.q)).sum(dim=-1)
        if env_steps is None:
            action = policy.argmax(dim=-1)
        else:
            weights = policy if env_steps >= self.config.learning_starts else torch.ones_like(policy)
            action = torch.multinomial(weights, 1, generator=rng).squeeze(1)
        return action.cpu().numpy(), carry, {"value": value.cpu().numpy()}

    def combined(self, q: Tensor) -> Tensor:
        """Reduce the critics' values [..., C, A] to one value of each action, [..., A]."""
        return q.mean(dim=-2) if self.config.q_average else q.amin(dim=-2)

    def update(self, batch: Transitions | Sequences, rng: torch.Generator) -> tuple[Metrics, Tensor]:
        """Take one gradient step on a minibatch from the replay; return metrics and the new priorities [B]."""
        config = self.config
        if config.augment:
            batch = augment_batch(batch, rng)

        # Policy [..., A] and values [..., C, A] at obs carry a gradient.
        self.model.train()
        forward = BatchForward(batch, config.burn_in, rng)
        online = forward.at_obs(self.model)
        with torch.no_grad():
            target_next = forward.at_next_obs(self.target)
            # the pass over a sequence holds the next policy already; transitions need the actor alone at next_obs
            online_next = forward.at_next_obs(self.model if isinstance(batch, Sequences) else self.model.actor)
            target = forward.at_obs(self.target) if config.q_clip > 0 else None

        # Loss of each row: critics, actor and temperature share no parameters.
        loss, td_error, q = self.critic_loss(batch, Outputs(online, target_next, online_next, target))
        log_policy = online.logits.log_softmax(dim=-1)
        loss = loss + self.actor_loss(log_policy, self.combined(online.q.detach()))
        if config.target_entropy_scale:
            loss = loss + self.temperature_loss(log_policy.detach())
        entropy = policy_entropy(log_policy.detach())
        if isinstance(batch, Sequences):  # [L, B] -> [B]
            loss, q = sequence_mean(loss, batch.mask), sequence_mean(q, batch.mask)
            td_error = sequence_priority(td_error, batch.mask, config.priority_eta)
        mask = batch.mask if isinstance(batch, Sequences) else torch.ones_like(entropy)

        # Gradient step on the mean loss; importance weights correct the bias of prioritized sampling.
        mean_loss = (loss * batch.weight).mean()
        grad_norm = self.gradient_step(mean_loss, config.max_grad_norm)
        self.model.eval()
        self.updates += 1

        if self.updates % config.target_period == 0:
            update_target(self.target, self.model.critics, config.target_tau)

        return {
            "train/loss": mean_loss.detach(), "train/q_mean": q.mean(), "train/grad_norm": grad_norm,
            "train/alpha": self.model.log_alpha.detach().exp(), "train/entropy": masked_mean(entropy, mask),
        }, td_error  # fmt: skip

    def critic_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return per row half the squared errors summed over critics, mean |TD error| and mean value of the action.

        [B] or [L, B]; only the loss carries a gradient. `q_clip` clips the change of a value from the target network's.
        """
        rows = batch.action[..., None, None].expand(*out.online.q.shape[:-1], 1)
        q = out.online.q.gather(-1, rows).squeeze(-1)  # [..., C]
        target = self.target_value(batch, out)[..., None]
        before = q if out.target is None else out.target.q.gather(-1, rows).squeeze(-1)
        loss = ppo_value_loss(q, before, target, self.config.q_clip or None).sum(dim=-1)
        return loss, (q.detach() - target).abs().mean(dim=-1), q.detach().mean(dim=-1)

    @torch.no_grad()
    def target_value(self, batch: Transitions | Sequences, out: Outputs) -> Tensor:
        """r + discount * sum_a pi(a|s') (Q'(s', a) - alpha log pi(a|s')), [B] or [L, B]."""
        log_policy = out.online_next.logits.log_softmax(dim=-1)
        values = self.combined(out.target_next.q)
        if self.config.entropy_in_target:
            values = values - self.model.log_alpha.exp() * log_policy
        return batch.reward + batch.discount * (log_policy.exp() * values).sum(dim=-1)

    def actor_loss(self, log_policy: Tensor, q: Tensor) -> Tensor:
        """sum_a pi(a|s) (alpha log pi(a|s) - Q(s, a)), [...]."""
        return (log_policy.exp() * (self.model.log_alpha.detach().exp() * log_policy - q)).sum(dim=-1)

    def temperature_loss(self, log_policy: Tensor) -> Tensor:
        """log alpha * (entropy - target entropy), [...]: alpha rises while the entropy is too low."""
        target_entropy = self.config.target_entropy_scale * math.log(self.num_actions)
        return self.model.log_alpha * (policy_entropy(log_policy) - target_entropy)


def policy_entropy(log_policy: Tensor) -> Tensor:
    """Entropy [...] in nats of policies with log-probabilities [..., A]."""
    return -(log_policy.exp() * log_policy).sum(dim=-1)

"""DQN (Mnih et al. 2015), with its extensions as settings: double Q-learning (van Hasselt et al. 2016), n-step returns
(Sutton 1988; Hessel et al. 2018), dueling heads (Wang et al. 2016), noisy layers (Fortunato et al. 2018), prioritized
replay (Schaul et al. 2016), Munchausen targets (Vieillard et al. 2020), image augmentation (Kostrikov et al. 2021), and
a recurrent core (DRQN, Hausknecht & Stone 2015) with R2D2's burn-in, value rescaling, epsilon ladder and sequence
priorities (Kapturowski et al. 2019).

Differences from the papers: Adam instead of RMSProp; several environments in parallel; schedules in env steps; the loss
of a sequence is the mean over its rows; noise is drawn for each row of a batch, and shared by both streams of a dueling
head; the Munchausen term covers the first of n steps. C51, QR-DQN and IQN override the head and `td_loss`.
Published: Pong 18.9, Breakout 401 after 200M frames (no sticky actions).

    python scripts/train.py dqn --env CartPole-v1
    python scripts/train.py dqn --env ALE/Pong-v5 --double --n-step 3 --replay-sampling prioritized
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from agents.augment import augment_batch
from agents.config import Mistake, ReplayConfig
from agents.exploration import epsilon_greedy, epsilon_ladder, linear_schedule
from agents.interface import Metrics, Sequences, Transitions
from agents.learner import update_target
from agents.losses import (
    greedy_policy,
    huber,
    rescale,
    sequence_mean,
    sequence_priority,
    soft_policy,
    unrescale,
)
from agents.off_policy import ReplayLearner
from networks.heads.q_values import QHead
from networks.model import Network, map_tree


@dataclass(frozen=True)
class DQNConfig(ReplayConfig):
    """Settings of DQN and its extensions."""

    double: bool = False
    """Double DQN: the online network selects the bootstrap action, the target network values it."""
    dueling: bool = False
    """Split the head into a state value and advantages."""
    noisy: bool = False
    """Explore with noisy layers in the head."""
    noisy_sigma: float = 0.5
    """Initial noise of these layers (sigma_0)."""
    head_hidden: int = 0
    """Units of a hidden layer in the head (in each stream), instead of the layer after the convolutions; 0: none."""
    munchausen: bool = False
    """Add the log-probability of the action taken to the reward, and bootstrap softly; `double` has no effect then."""
    munchausen_alpha: float = 0.9
    """Weight of that log-probability."""
    munchausen_tau: float = 0.03
    """Temperature of the softmax policy behind that log-probability."""
    munchausen_clip: float = -1.0
    """Lower bound of tau * log-probability."""
    huber_delta: float = 1.0
    """DQN's loss is linear in errors beyond this; 0 makes it squared throughout."""
    value_rescale: bool = False
    """Learn (roughly) the square root of returns, instead of clipping rewards."""
    exploration: Literal["linear", "ladder"] = "linear"
    """Epsilon: linear decays over epsilon_steps; ladder is constant and different for each environment."""
    epsilon_base: float = 0.4
    """ladder: highest epsilon; the lowest is its 8th power."""
    epsilon_start: float = 1.0
    """linear: probability of a random action at the start."""
    epsilon_end: float = 0.01
    """linear: probability of a random action after epsilon_steps."""
    epsilon_steps: int = 100_000
    """linear: env steps of the decay."""
    eval_epsilon: float = 0.001
    """Probability of a random action in evaluation."""

    def tiny(self) -> dict[str, Any]:
        """Return overrides for a run of seconds."""
        return {**super().tiny(), "head_hidden": min(self.head_hidden, 16)}

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("epsilon_steps", "noisy_sigma", "munchausen_tau"):
            self.require(getattr(self, name) > 0, name, "must be above 0")
        for name in ("epsilon_start", "epsilon_end", "eval_epsilon", "epsilon_base", "munchausen_alpha"):
            self.require(0.0 <= getattr(self, name) <= 1.0, name, "must lie in 0 to 1")
        for name in ("head_hidden", "huber_delta"):
            self.require(getattr(self, name) >= 0, name, "must not be negative")
        self.require(self.munchausen_clip <= 0, "munchausen_clip", "must not be above 0")
        rescaled_bonus = self.munchausen and self.value_rescale
        self.require(not rescaled_bonus, "munchausen", "excludes --value-rescale: its bonus is in unscaled values")
        single_rung = self.exploration == "ladder" and self.num_envs == 1
        self.require(not single_rung, "exploration", "needs several environments (--num-envs) for a ladder")

    def epsilon(self, env_steps: int | None, count: int) -> float | Tensor:
        """Return the probability of a random action for `count` environments; `env_steps` None means evaluation."""
        if env_steps is None:
            return self.eval_epsilon
        if self.exploration == "ladder":
            return epsilon_ladder(self.epsilon_base, count)
        return linear_schedule(self.epsilon_start, self.epsilon_end, self.epsilon_steps, env_steps)

    @property
    def bounds_reward_scale(self) -> bool:
        """Whether targets stay in a learnable range for rewards of any size."""
        return self.clip_rewards or self.value_rescale

    def schedule_line(self) -> str:
        """Return exploration and learning rate, for the pre-flight."""
        end = linear_schedule(self.epsilon_start, self.epsilon_end, self.epsilon_steps, self.total_steps)
        falling = f"epsilon {self.epsilon_start:g} to {end:g}"
        ladder = f"epsilon {self.epsilon_base:g} to {self.epsilon_base**8:.2g}, one per environment"
        noise = " and noisy layers" if self.noisy else ""
        return f"{ladder if self.exploration == 'ladder' else falling}{noise}, {super().schedule_line()}"

    def mistakes(self) -> dict[str, Mistake]:
        """Return the known mistakes in these settings, made or not, for the pre-flight."""
        falling = self.exploration == "linear" and self.epsilon_start > self.epsilon_end
        end = linear_schedule(self.epsilon_start, self.epsilon_end, self.epsilon_steps, self.total_steps)
        return super().mistakes() | {
            "early exploration": Mistake(
                falling and self.epsilon_steps <= self.learning_starts,
                "exploration has ended before learning starts; raise --epsilon-steps",
            ),
            "endless exploration": Mistake(
                falling and self.epsilon_steps > self.total_steps,
                f"exploration never ends: epsilon is still {end:.2f} at the last step",
            ),
            "double and soft": Mistake(
                self.double and self.munchausen, "--double has no effect with --munchausen, whose target is soft"
            ),
        }


class Outputs(NamedTuple):
    """Outputs of both networks for one minibatch: [B, ...], or [L, B, ...] for sequences.

    Each is the output of the agent's own head, such as `QOutput` or `QuantileOutput`; all have action values `q`.
    """

    online: Any
    """Online network at `obs`, with gradient."""
    target_next: Any
    """Target network at `next_obs`."""
    online_next: Any
    """Online network at `next_obs`; None without Double DQN."""
    target: Any
    """Target network at `obs`; None unless `needs_target_at_obs`."""


class DQN(ReplayLearner):
    """Deep Q-network."""

    config: DQNConfig

    def build(self) -> Network:
        """Return torso, core and head."""
        # with a core between torso and head, the layer after the convolutions stays: it is the core's input
        flat = self.config.head_hidden > 0 and self.config.core == "none"
        return self.assemble(self.build_torso(nn.ReLU, flat=flat), self.head)

    def head(self, width: int) -> nn.Module:
        """Return the head over features of this width."""
        return QHead(width, self.num_actions, **self.head_options())

    def head_options(self) -> dict[str, Any]:
        """Return the keyword arguments that all Q heads share."""
        config = self.config
        sigma = config.noisy_sigma if config.noisy else 0.0
        return {"hidden": config.head_hidden, "dueling": config.dueling, "sigma": sigma}

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Act epsilon-greedily; extras: `value`, the greedy action value [N]."""
        noise = None if env_steps is None else rng  # evaluation uses noisy layers' mean weights
        output, carry = self.forward(obs, first, carry, noise)
        action = epsilon_greedy(output.q, self.config.epsilon(env_steps, len(first)), rng)
        value = self.unscaled(output.q.amax(dim=1))
        return action.cpu().numpy(), carry, {"value": value.cpu().numpy()}

    def update(self, batch: Transitions | Sequences, rng: torch.Generator) -> tuple[Metrics, Tensor]:
        """Take one gradient step on a minibatch from the replay; return metrics and the samples' new priorities [B].

        `train_off_policy` (loops.py) samples `batch` and stores the priorities. `rng` draws augmentation and noise.
        """
        config = self.config
        if config.augment:
            batch = augment_batch(batch, rng)

        # Action values at obs and next_obs; only the online network's at obs carry a gradient.
        self.model.train()
        forward = BatchForward(batch, config.burn_in, rng)
        online = forward.at_obs(self.model)
        with torch.no_grad():
            target_next = forward.at_next_obs(self.target)
            online_next = forward.at_next_obs(self.model) if config.double else None
            target = forward.at_obs(self.target) if self.needs_target_at_obs else None

        # Loss of each row against its bootstrapped target; a sequence has the mean loss of its rows.
        loss, td_error, q = self.td_loss(batch, Outputs(online, target_next, online_next, target))
        if isinstance(batch, Sequences):  # [L, B] -> [B]
            loss, q = sequence_mean(loss, batch.mask), sequence_mean(q, batch.mask)
            td_error = sequence_priority(td_error, batch.mask, config.priority_eta)

        # Gradient step on the mean loss; importance weights correct the bias of prioritized sampling.
        mean_loss = (loss * batch.weight).mean()
        grad_norm = self.gradient_step(mean_loss, config.max_grad_norm)
        self.model.eval()
        self.updates += 1

        if self.updates % config.target_period == 0:
            update_target(self.target, self.model, config.target_tau)

        metrics = {"train/loss": mean_loss.detach(), "train/q_mean": self.unscaled(q).mean(),
                   "train/grad_norm": grad_norm}  # fmt: skip
        return metrics, td_error

    @property
    def needs_target_at_obs(self) -> bool:
        """Whether `td_loss` uses the target network's values at `obs`."""
        return self.config.munchausen

    def td_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return per row the loss, |TD error| and the value of the action taken: [B] or [L, B].

        Only the loss carries a gradient. Huber loss of Q(s, a) - target (Mnih et al. 2015, algorithm 1).
        """
        q = out.online.q.gather(-1, batch.action[..., None]).squeeze(-1)
        policy, returns = self.backup(batch, out, out.target_next.q[..., None])
        target = (policy * returns.squeeze(-1)).sum(dim=-1)  # the mean return under the policy
        error = q - target
        return huber(error, self.config.huber_delta), error.detach().abs(), q.detach()

    @torch.no_grad()
    def backup(self, batch: Transitions | Sequences, out: Outputs, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return the policy [..., A] at `next_obs` and the return [..., A, K] after each action: the Bellman backup.

        `values` [..., A, K] of `next_obs` are action values (K = 1), atoms or quantiles. The policy is greedy in the
        target network's action values (DQN) or the online network's (Double DQN). Munchausen (Vieillard et al. 2020,
        equation 4) takes the softmax of the target network's instead, adds the scaled log-probability of the action
        taken to the reward, and subtracts the scaled log-probability of each next action from its value.
        """
        config, reward = self.config, batch.reward
        if config.value_rescale:
            values = unrescale(values)
        if config.munchausen:
            policy, log_policy_next = soft_policy(out.target_next.q, config.munchausen_tau)
            values = values - log_policy_next[..., None]
            log_policy = soft_policy(out.target.q, config.munchausen_tau)[1]
            bonus = log_policy.gather(-1, batch.action[..., None]).squeeze(-1).clamp(config.munchausen_clip, 0.0)
            reward = reward + config.munchausen_alpha * bonus
        else:
            policy = greedy_policy(out.target_next.q if out.online_next is None else out.online_next.q)
        returns = reward[..., None, None] + batch.discount[..., None, None] * values
        return policy, rescale(returns) if config.value_rescale else returns

    def unscaled(self, q: Tensor) -> Tensor:
        """Return action values in units of the reward."""
        return unrescale(q) if self.config.value_rescale else q


class BatchForward:
    """Outputs of networks for one minibatch, at `obs` and at `next_obs`, with one interface for both kinds of batch.

    Transitions: each call is a forward pass. Sequences hold `next_obs` among their own rows, so each network makes a
    single pass over all of them, from the stored carry, and both methods select rows of its output. The first call for
    a network makes that pass, with a gradient unless it is under `torch.no_grad`.
    """

    def __init__(self, batch: Transitions | Sequences, burn_in: int, rng: torch.Generator):
        self.batch, self.burn_in, self.rng = batch, burn_in, rng
        self.passes: dict[Network, Any] = {}

    def at_obs(self, network: Network) -> Any:
        """Return the network's output at the rows learned from: [B, ...] or [L, B, ...]."""
        if isinstance(self.batch, Transitions):
            return self._feed_forward(network, self.batch.obs)
        output, length = self._unroll(network, self.batch), len(self.batch.action)
        return type(output)(*(x[:length] for x in output))

    def at_next_obs(self, network: Network) -> Any:
        """Return the network's output at the rows bootstrapped from: [B, ...] or [L, B, ...]."""
        if isinstance(self.batch, Transitions):
            return self._feed_forward(network, self.batch.next_obs)
        output, rows = self._unroll(network, self.batch), self.batch.bootstrap  # rows [L, B]
        column = torch.arange(rows.shape[1], device=rows.device)
        return type(output)(*(x.detach()[rows, column] for x in output))  # the online pass carries a gradient

    def _feed_forward(self, network: Network, obs: Any) -> Any:
        action = self.batch.action
        carry, first = action.new_zeros(len(action), 0, dtype=torch.float32), torch.zeros_like(action, dtype=torch.bool)
        return network(obs, carry, first, self.rng)[0]

    def _unroll(self, network: Network, batch: Sequences) -> Any:
        """Return the output [L + n, B, ...] of all rows after the burn-in, which refreshes the carry."""
        if network not in self.passes:
            burn_in, carry = self.burn_in, batch.carry[:, : network.carry_dim]
            if burn_in:
                with torch.no_grad():
                    carry = network(map_tree(lambda x: x[:burn_in], batch.obs), carry, batch.first[:burn_in])[1]
            obs = map_tree(lambda x: x[burn_in:], batch.obs)
            self.passes[network] = network(obs, carry, batch.first[burn_in:], self.rng)[0]
        return self.passes[network]

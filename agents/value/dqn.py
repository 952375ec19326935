"""DQN (Mnih et al. 2015) and what it grew into, each a field: double Q-learning (van Hasselt et al. 2016), n-step
returns (Sutton 1988; Hessel et al. 2018), dueling heads (Wang et al. 2016), noisy layers (Fortunato et al. 2018),
prioritized replay (Schaul et al. 2016), Munchausen targets (Vieillard et al. 2020), augmented images (Kostrikov et
al. 2021), and a recurrent core (DRQN, Hausknecht & Stone 2015) with what R2D2 (Kapturowski et al. 2019) adds to it:
burn-in, rescaled values, one epsilon per environment, priorities of sequences.

Differs from the papers: Adam instead of RMSProp; several environments side by side; schedules in env steps; losses of a
sequence are averaged over its rows; noise is drawn for every row of a batch, for both streams of a dueling head alike;
the Munchausen term is that of the first of n steps. `Model`, `Outputs` and `backup` are shared by all variants, which
override the head and `td_loss` (c51.py, qr_dqn.py, iqn.py).
The published agent scores 18.9 on Pong and 401 on Breakout after 200M frames (no sticky actions).

    python scripts/train.py dqn --env CartPole-v1
    python scripts/train.py dqn --env ALE/Pong-v5 --double --n-step 3 --prioritized
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from torch import Tensor, nn

from agents.augment import augment, is_picture
from agents.config import ConfigError, TrainConfig
from agents.exploration import epsilon_greedy, epsilon_ladder, linear_schedule
from agents.interface import Sequences, Transitions
from agents.learner import Learner
from agents.losses import greedy_weights, huber, rescale, soft_policy, unrescale
from agents.replay.ring import ReplayLayout
from networks.heads import QHead
from networks.model import Model, map_tree
from networks.torsos import parts_of


@dataclass(frozen=True)
class DQNConfig(TrainConfig):
    """Settings of DQN and its switches."""

    learning_rate: float = 1e-4
    """Adam's step size."""
    adam_epsilon: float = 1e-8
    """Adam's epsilon."""
    batch_size: int = 32
    """Transitions, or sequences, in a minibatch."""
    replay_capacity: int = 1_000_000
    """Env steps that the replay holds."""
    replay_storage: Literal["auto", "memory", "disk"] = "auto"
    """Where the replay's observations lie: auto takes files in the run folder when memory does not suffice."""
    learning_starts: int = 20_000
    """Env steps before the first update."""
    replay_ratio: float = 0.25
    """Gradient updates per env step."""
    target_period: int = 1000
    """Updates between copies of the online network to the target network."""
    double: bool = False
    """Let the online network choose the action that the target network values."""
    dueling: bool = False
    """Split the head into a value and advantages."""
    noisy: bool = False
    """Explore by noisy layers in the head."""
    noisy_sigma: float = 0.5
    """Their noise at the start (sigma_0)."""
    head_hidden: int = 0
    """Units of a hidden layer in the head (of each of its streams), in place of the one after convolutions; 0: none."""
    n_step: int = 1
    """Rewards summed before bootstrapping."""
    prioritized: bool = False
    """Sample in proportion to the last error instead of uniformly."""
    priority_exponent: float = 0.5
    """How much errors matter for sampling (alpha)."""
    importance_exponent: float = 0.4
    """How much of the bias of sampling is corrected at the start (beta)."""
    importance_exponent_end: float = 1.0
    """How much at the end of training."""
    munchausen: bool = False
    """Add the log-probability of the action taken to the reward, and bootstrap softly; `double` has no effect then."""
    munchausen_alpha: float = 0.9
    """Weight of that log-probability."""
    munchausen_tau: float = 0.03
    """Temperature of the softmax policy that the log-probability is of."""
    munchausen_clip: float = -1.0
    """Least value of tau * log-probability."""
    huber_delta: float = 1.0
    """Error beyond which DQN's loss is linear; 0 makes it squared throughout."""
    value_rescale: bool = False
    """Learn the square root (roughly) of returns, instead of clipping rewards."""
    augment: bool = False
    """Shift and brighten images at random before learning from them."""
    sequence_length: int = 1
    """Rows learned from in a sample; a recurrent core wants 8 or more."""
    burn_in: int = 0
    """Rows before those, that only bring the memory up to date."""
    priority_eta: float = 0.9
    """Share of the largest error in a sequence's priority, the rest is the mean (eta)."""
    exploration: Literal["linear", "ladder"] = "linear"
    """linear lets epsilon fall; ladder gives every environment its own, from epsilon_base to its 8th power."""
    epsilon_base: float = 0.4
    """Highest epsilon of the ladder."""
    epsilon_start: float = 1.0
    """Chance of a random action at the start."""
    epsilon_end: float = 0.01
    """Chance of a random action once explored."""
    epsilon_steps: int = 100_000
    """Env steps from the one to the other."""
    eval_epsilon: float = 0.001
    """Chance of a random action when judged."""
    max_grad_norm: float = 10.0
    """Gradients are scaled down to this norm."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        positive = ("learning_rate", "adam_epsilon", "batch_size", "replay_ratio", "target_period", "n_step",
                    "sequence_length", "epsilon_steps", "max_grad_norm", "replay_capacity", "noisy_sigma",
                    "munchausen_tau")  # fmt: skip
        for name in positive:
            self.require(getattr(self, name) > 0, name, "must be above 0")
        for name in ("epsilon_start", "epsilon_end", "eval_epsilon", "epsilon_base", "priority_exponent",
                     "importance_exponent", "importance_exponent_end", "priority_eta", "munchausen_alpha"):  # fmt: skip
            self.require(0.0 <= getattr(self, name) <= 1.0, name, "must lie in 0 to 1")
        for name in ("head_hidden", "burn_in", "huber_delta"):
            self.require(getattr(self, name) >= 0, name, "must not be negative")
        self.require(self.munchausen_clip <= 0, "munchausen_clip", "must not be above 0")
        mixed = self.munchausen and self.value_rescale
        self.require(not mixed, "munchausen", "does not go with --value-rescale: its bonus is in unscaled values")
        alone = self.exploration == "ladder" and self.num_envs == 1
        self.require(not alone, "exploration", "takes several environments (--num-envs) for its ladder")
        recurrent = self.core != "none"
        self.require(not recurrent or self.sequence_length > 1, "sequence_length", "must be above 1 with a memory")
        self.require(recurrent or self.sequence_length == 1, "sequence_length", "must be 1 without a memory (--core)")
        self.require(recurrent or self.burn_in == 0, "burn_in", "must be 0 without a memory (--core)")
        least = self.num_envs * (self.n_step + self.sequence_length + self.burn_in)
        self.require(self.learning_starts >= least, "learning_starts", f"must be at least {least}, for one sample")

    def layout(self, observation_space: spaces.Space, frame_stack: int, carry_dim: int) -> ReplayLayout:
        """Return the replay that these settings need."""
        return ReplayLayout(
            observation_space, self.num_envs, self.replay_capacity, self.n_step, self.gamma, frame_stack,
            self.sequence_length, carry_dim, self.burn_in, self.prioritized, self.priority_exponent,
        )  # fmt: skip

    def beta(self, env_steps: int) -> float:
        """Return the exponent of the importance-sampling weights."""
        start, end = self.importance_exponent, self.importance_exponent_end
        return linear_schedule(start, end, self.total_steps, env_steps)

    def epsilon(self, env_steps: int | None, count: int) -> float | Tensor:
        """Return the chance of a random action of each of `count` players; None is for being judged."""
        if env_steps is None:
            return self.eval_epsilon
        if self.exploration == "ladder":
            return epsilon_ladder(self.epsilon_base, count)
        return linear_schedule(self.epsilon_start, self.epsilon_end, self.epsilon_steps, env_steps)

    @property
    def tames_rewards(self) -> bool:
        """Whether large rewards are brought to a size that can be learned from."""
        return self.clip_rewards or self.value_rescale

    def updates_line(self) -> str:
        """Say how many updates of what size will be made."""
        updates = int(self.replay_ratio * max(self.total_steps - self.learning_starts, 0))
        return f"{updates:,} updates of {self.batch_size} samples after {self.learning_starts:,} steps"

    def schedule_line(self) -> str:
        """Say how exploration goes."""
        end = linear_schedule(self.epsilon_start, self.epsilon_end, self.epsilon_steps, self.total_steps)
        falling = f"epsilon {self.epsilon_start:g} to {end:g}"
        ladder = f"epsilon {self.epsilon_base:g} to {self.epsilon_base**8:.2g}, one per environment"
        noise = " and noisy layers" if self.noisy else ""
        return f"{ladder if self.exploration == 'ladder' else falling}{noise}, learning rate {self.learning_rate:g}"

    def warnings(self) -> list[str]:
        """Return one line for each of these settings that would waste the run."""
        falling = self.exploration == "linear" and self.epsilon_start > self.epsilon_end
        end = linear_schedule(self.epsilon_start, self.epsilon_end, self.epsilon_steps, self.total_steps)
        updates, samples = self.replay_ratio * max(self.total_steps - self.learning_starts, 0), self.batch_size
        rows = samples * self.sequence_length
        known = (
            (self.learning_starts >= self.total_steps,
             "learning starts after the training has ended; lower --learning-starts"),
            (falling and self.epsilon_steps <= self.learning_starts,
             "exploration has ended before learning starts; raise --epsilon-steps"),
            (falling and self.epsilon_steps > self.total_steps,
             f"exploration never ends: epsilon is still {end:.2f} at the last step"),
            (self.learning_starts > self.replay_capacity,
             "the replay forgets before learning starts; raise --replay-capacity"),
            (self.replay_capacity < rows * 10, "the replay holds fewer than ten minibatches; raise --replay-capacity"),
            (0 < updates < self.target_period, "the target network is never updated; lower --target-period"),
            (self.replay_ratio * rows > 64 and not self.augment,
             f"each step is learned from {self.replay_ratio * rows:.0f} times; mind overfitting"),
            (self.double and self.munchausen, "--double has no effect with --munchausen, whose target is soft"),
        )  # fmt: skip
        return [line for holds, line in known if holds]


class Outputs(NamedTuple):
    """What the networks say of a batch; heads' outputs, [B, ...] or [L, B, ...]."""

    here: Any
    """Online network at the rows that are learned from, with gradient."""
    there: Any
    """Target network at the rows that are bootstrapped from."""
    selecting: Tensor
    """Action values [..., A] at those rows by which the next action is chosen."""
    target_q: Tensor | None
    """Target network's values [..., A] at the rows learned from, for an agent that `looks_back`."""


class DQN(Learner):
    """Deep Q-network."""

    config: DQNConfig

    def __init__(
        self, config: DQNConfig, observation_space: spaces.Space, action_space: spaces.Space, machine: dict[str, Any]
    ):
        super().__init__(config, observation_space, action_space, machine)
        # with a memory between torso and head, the layer after the convolutions stays: the memory reads it
        flat = config.head_hidden > 0 and config.core == "none"
        torso = self.build_torso(nn.ReLU, flat=flat)
        if config.augment:
            self.require_pictures()
        self.model = self.place(self.assemble(torso, self.head))
        self.target = copy.deepcopy(self.model).requires_grad_(False)
        self.optimizer = self.make_optimizer(config.learning_rate, config.adam_epsilon)

    def require_pictures(self) -> None:
        """Raise ConfigError unless there are images large enough that a shift by 4 pixels leaves their meaning."""
        if not any(is_picture(part.shape or ()) for part in parts_of(self.observation_space)):
            raise ConfigError("--augment shifts images by up to 4 pixels; these observations have none that bears it")

    def head(self, width: int) -> nn.Module:
        """Return the head over features of this width."""
        return QHead(width, self.num_actions, **self.streams())

    def streams(self) -> dict[str, Any]:
        """Return the settings that all Q heads share."""
        config = self.config
        sigma = config.noisy_sigma if config.noisy else 0.0
        return {"hidden": config.head_hidden, "dueling": config.dueling, "sigma": sigma}

    def modules(self) -> Mapping[str, nn.Module]:
        """Return the online and the target network."""
        return {"model": self.model, "target": self.target}

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Choose epsilon-greedily; extras: `value`, the greedy action value [N]."""
        output, carry = self.forward(obs, first, carry, None if env_steps is None else rng)
        action = epsilon_greedy(output.q, self.config.epsilon(env_steps, len(first)), rng)
        value = output.q.amax(dim=1)
        if self.config.value_rescale:
            value = unrescale(value)
        return action.cpu().numpy(), carry, {"value": value.cpu().numpy()}

    def update(self, batch: Transitions | Sequences, rng: torch.Generator) -> tuple[dict[str, Tensor], Tensor]:
        """Take one gradient step; return metrics and the priority of each sample [B]."""
        self.model.train()
        loss, error, q = self.td_loss(batch, self.outputs(batch, rng))
        if isinstance(batch, Sequences):
            loss, error, q = self.per_sequence(batch.mask, loss, error, q)
        total = (loss * batch.weight).mean()
        grad_norm = self.descend(total, self.config.max_grad_norm)
        self.model.eval()
        self.updates += 1
        if self.updates % self.config.target_period == 0:
            self.copy_to_target()
        q = unrescale(q) if self.config.value_rescale else q
        return {"train/loss": total.detach(), "train/q_mean": q.mean(), "train/grad_norm": grad_norm}, error

    @torch.no_grad()
    def copy_to_target(self) -> None:
        """Make the target network the online one; unlike `load_state_dict` without a look at any value."""
        for name in ("parameters", "buffers"):
            for old, new in zip(getattr(self.target, name)(), getattr(self.model, name)(), strict=True):
                old.copy_(new)

    def per_sequence(self, mask: Tensor, loss: Tensor, error: Tensor, q: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Reduce [L, B] to [B]: means over the live rows, and for the error the mix of its largest and its mean."""
        rows, mix = mask.sum(dim=0).clamp(min=1.0), self.config.priority_eta
        error = error * mask
        error = mix * error.amax(dim=0) + (1.0 - mix) * error.sum(dim=0) / rows
        return (loss * mask).sum(dim=0) / rows, error, (q * mask).sum(dim=0) / rows

    @property
    def looks_back(self) -> bool:
        """Whether targets need the target network's values of the very rows that are learned from."""
        return self.config.munchausen

    def outputs(self, batch: Transitions | Sequences, rng: torch.Generator) -> Outputs:
        """Run both networks over the batch: noise and augmentation are drawn from `rng`."""
        if isinstance(batch, Sequences):
            return self._unrolled(batch, rng)
        carry, first = self.model.initial_carry(len(batch.action)), torch.zeros_like(batch.action, dtype=torch.bool)
        obs, next_obs = batch.obs, batch.next_obs
        if self.config.augment:
            obs, next_obs = augment(obs, 1, rng), augment(next_obs, 1, rng)
        here = self.model(obs, carry, first, rng)[0]
        with torch.no_grad():
            there = self.target(next_obs, carry, first, rng)[0]
            selecting = self.model(next_obs, carry, first, rng)[0].q if self.config.double else there.q
            target_q = self.target(obs, carry, first, rng)[0].q if self.looks_back else None
        return Outputs(here, there, selecting, target_q)

    def _unrolled(self, batch: Sequences, rng: torch.Generator) -> Outputs:
        """Unroll each network once from the stored carry; what is bootstrapped from is picked out of that."""
        length = len(batch.action)
        obs = augment(batch.obs, 2, rng) if self.config.augment else batch.obs
        everywhere = self._unroll(self.model, batch, obs, rng)  # [L + n, B, ...]
        with torch.no_grad():
            target = self._unroll(self.target, batch, obs, rng)
        there = type(target)(*(_pick(x, batch.bootstrap) for x in target))
        selecting = _pick(everywhere.q.detach(), batch.bootstrap) if self.config.double else there.q
        here = type(everywhere)(*(x[:length] for x in everywhere))
        return Outputs(here, there, selecting, target.q[:length])

    def _unroll(self, model: Model, batch: Sequences, obs: Any, rng: torch.Generator) -> Any:
        """Bring the carry up to date over the burn-in, without gradient, and return the output of the rows after it."""
        burn_in, carry = self.config.burn_in, batch.carry
        if burn_in:
            with torch.no_grad():
                carry = model(map_tree(lambda x: x[:burn_in], obs), carry, batch.first[:burn_in])[1]
        return model(map_tree(lambda x: x[burn_in:], obs), carry, batch.first[burn_in:], rng)[0]

    def td_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss with gradient, and without it |TD error| and the values of the actions taken: [B] or [L, B]."""
        q = out.here.q.gather(-1, batch.action[..., None]).squeeze(-1)
        weights, values = self.backup(batch, out, out.there.q[..., None])
        error = q - (weights * values.squeeze(-1)).sum(dim=-1)
        return huber(error, self.config.huber_delta), error.detach().abs(), q.detach()

    @torch.no_grad()
    def backup(self, batch: Transitions | Sequences, out: Outputs, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much each next action counts [..., A], and its return from here [..., A, K], from its `values`.

        The Bellman operator of all variants: `values` are action values (K = 1), atoms or quantiles. Greedy in
        `out.selecting`: DQN and Double DQN. Munchausen: softmax of the target network's values, with scaled
        log-probabilities of the action taken added to the reward, and of the next action subtracted from its value.
        """
        config, reward = self.config, batch.reward
        if config.value_rescale:
            values = unrescale(values)
        if config.munchausen:
            assert out.target_q is not None
            weights, entropy = soft_policy(out.there.q, config.munchausen_tau)
            values = values - entropy[..., None]
            taken = soft_policy(out.target_q, config.munchausen_tau)[1].gather(-1, batch.action[..., None]).squeeze(-1)
            reward = reward + config.munchausen_alpha * taken.clamp(config.munchausen_clip, 0.0)
        else:
            weights = greedy_weights(out.selecting)
        backed_up = reward[..., None, None] + batch.discount[..., None, None] * values
        return weights, rescale(backed_up) if config.value_rescale else backed_up


def _pick(x: Tensor, rows: Tensor) -> Tensor:
    """Return x[rows[t, b], b] of x [T, B, ...] for rows [L, B]: [L, B, ...]."""
    return x[rows, torch.arange(x.shape[1], device=x.device)]

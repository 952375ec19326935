"""DQN (Mnih et al. 2015) and what it grew into, each a field: double Q-learning (van Hasselt et al. 2016), n-step
returns (Sutton 1988; Hessel et al. 2018), dueling heads (Wang et al. 2016), noisy layers (Fortunato et al. 2018),
prioritized replay (Schaul et al. 2016), Munchausen targets (Vieillard et al. 2020), augmented images (Kostrikov et
al. 2021), and a recurrent core (DRQN, Hausknecht & Stone 2015) with what R2D2 (Kapturowski et al. 2019) adds to it:
burn-in, rescaled values, one epsilon per environment, priorities of sequences.

Differs from the papers: Adam instead of RMSProp; several environments side by side; schedules in env steps; losses of a
sequence are averaged over its rows; noise is drawn for every row of a batch, for both streams of a dueling head alike;
the Munchausen term is that of the first of n steps. Replay, target network and sequences are off_policy.py's; `backup`
is shared by all variants, which override the head and `td_loss` (c51.py, qr_dqn.py, iqn.py).
The published agent scores 18.9 on Pong and 401 on Breakout after 200M frames (no sticky actions).

    python scripts/train.py dqn --env CartPole-v1
    python scripts/train.py dqn --env ALE/Pong-v5 --double --n-step 3 --prioritized
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from agents.exploration import epsilon_greedy, epsilon_ladder, linear_schedule
from agents.interface import Sequences, Transitions
from agents.losses import greedy_weights, huber, rescale, soft_policy, unrescale
from agents.off_policy import Outputs, ReplayConfig, ReplayLearner
from networks.heads.q_values import QHead
from networks.model import Network


@dataclass(frozen=True)
class DQNConfig(ReplayConfig):
    """Settings of DQN and its switches."""

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

    def tiny(self) -> dict[str, Any]:
        """Return what makes it small."""
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
        mixed = self.munchausen and self.value_rescale
        self.require(not mixed, "munchausen", "does not go with --value-rescale: its bonus is in unscaled values")
        alone = self.exploration == "ladder" and self.num_envs == 1
        self.require(not alone, "exploration", "takes several environments (--num-envs) for its ladder")

    def epsilon(self, env_steps: int | None, count: int) -> float | Tensor:
        """Return the chance of a random action of each of `count` players; None is for being judged."""
        if env_steps is None:
            return self.eval_epsilon
        if self.exploration == "ladder":
            return epsilon_ladder(self.epsilon_base, count)
        return linear_schedule(self.epsilon_start, self.epsilon_end, self.epsilon_steps, env_steps)

    @property
    def bounds_reward_scale(self) -> bool:
        """Whether large rewards are brought to a size that can be learned from."""
        return self.clip_rewards or self.value_rescale

    def schedule_line(self) -> str:
        """Say how exploration goes."""
        end = linear_schedule(self.epsilon_start, self.epsilon_end, self.epsilon_steps, self.total_steps)
        falling = f"epsilon {self.epsilon_start:g} to {end:g}"
        ladder = f"epsilon {self.epsilon_base:g} to {self.epsilon_base**8:.2g}, one per environment"
        noise = " and noisy layers" if self.noisy else ""
        return f"{ladder if self.exploration == 'ladder' else falling}{noise}, {super().schedule_line()}"

    def warnings(self) -> list[str]:
        """Return one line for each of these settings that would waste the run."""
        falling = self.exploration == "linear" and self.epsilon_start > self.epsilon_end
        end = linear_schedule(self.epsilon_start, self.epsilon_end, self.epsilon_steps, self.total_steps)
        known = (
            (falling and self.epsilon_steps <= self.learning_starts,
             "exploration has ended before learning starts; raise --epsilon-steps"),
            (falling and self.epsilon_steps > self.total_steps,
             f"exploration never ends: epsilon is still {end:.2f} at the last step"),
            (self.double and self.munchausen, "--double has no effect with --munchausen, whose target is soft"),
        )  # fmt: skip
        return super().warnings() + [line for holds, line in known if holds]


class DQN(ReplayLearner):
    """Deep Q-network."""

    config: DQNConfig

    def build(self) -> Network:
        """Return the torso, the memory if there is one, and the head."""
        # with a memory between torso and head, the layer after the convolutions stays: the memory reads it
        flat = self.config.head_hidden > 0 and self.config.core == "none"
        return self.assemble(self.build_torso(nn.ReLU, flat=flat), self.head)

    def head(self, width: int) -> nn.Module:
        """Return the head over features of this width."""
        return QHead(width, self.num_actions, **self.streams())

    def streams(self) -> dict[str, Any]:
        """Return the settings that all Q heads share."""
        config = self.config
        sigma = config.noisy_sigma if config.noisy else 0.0
        return {"hidden": config.head_hidden, "dueling": config.dueling, "sigma": sigma}

    def act(
        self, obs: Any, first: np.ndarray, carry: Tensor, env_steps: int | None, rng: torch.Generator
    ) -> tuple[np.ndarray, Tensor, dict[str, np.ndarray]]:
        """Choose epsilon-greedily; extras: `value`, the greedy action value [N]."""
        output, carry = self.forward(obs, first, carry, None if env_steps is None else rng)
        action = epsilon_greedy(output.q, self.config.epsilon(env_steps, len(first)), rng)
        value = self.in_rewards(output.q.amax(dim=1))
        return action.cpu().numpy(), carry, {"value": value.cpu().numpy()}

    def in_rewards(self, q: Tensor) -> Tensor:
        """Return values in rewards, where the network's are square roots of these."""
        return unrescale(q) if self.config.value_rescale else q

    @property
    def action_selector(self) -> Network | None:
        """The online network, for Double DQN."""
        return self.model if self.config.double else None

    @property
    def needs_target_at_obs(self) -> bool:
        """Whether the target network is asked about the very rows that are learned from."""
        return self.config.munchausen

    def td_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return loss with gradient, and without it |TD error| and the values of the actions taken: [B] or [L, B]."""
        q = out.here.q.gather(-1, batch.action[..., None]).squeeze(-1)
        weights, values = self.backup(batch, out, out.there.q[..., None])
        error = q - (weights * values.squeeze(-1)).sum(dim=-1)
        return huber(error, self.config.huber_delta), error.detach().abs(), q.detach()

    @torch.no_grad()
    def backup(self, batch: Transitions | Sequences, out: Outputs, values: Tensor) -> tuple[Tensor, Tensor]:
        """Return how much each next action counts [..., A], and its return from here [..., A, K], from its `values`.

        The Bellman operator of all variants: `values` are action values (K = 1), atoms or quantiles. Greedy in the
        target network's values: DQN; in the online network's: Double DQN. Munchausen: softmax of the target network's
        values, with scaled log-probabilities of the action taken added to the reward, and of the next action subtracted
        from its value.
        """
        config, reward = self.config, batch.reward
        if config.value_rescale:
            values = unrescale(values)
        if config.munchausen:
            weights, entropy = soft_policy(out.there.q, config.munchausen_tau)
            values = values - entropy[..., None]
            taken = soft_policy(out.back.q, config.munchausen_tau)[1].gather(-1, batch.action[..., None]).squeeze(-1)
            reward = reward + config.munchausen_alpha * taken.clamp(config.munchausen_clip, 0.0)
        else:
            weights = greedy_weights(out.there.q if out.ahead is None else out.ahead.q)
        backed_up = reward[..., None, None] + batch.discount[..., None, None] * values
        return weights, rescale(backed_up) if config.value_rescale else backed_up

"""C51 (Bellemare et al. 2017): a distribution of returns on fixed atoms, learned by cross-entropy.

With double, dueling, noisy, n-step and prioritized on it is Rainbow (Hessel et al. 2018): the presets `rainbow`.
Differs from the papers: as dqn.py does; priorities are KL divergences as in Rainbow, and zero for a perfect fit.
Rainbow's published median over Atari is 2.3 times human after 200M frames (no sticky actions).

    python scripts/train.py c51 --env MinAtar/Breakout-v1
    python scripts/train.py rainbow --env ALE/Pong-v5
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn

from agents.interface import Sequences, Transitions
from agents.losses import project
from agents.off_policy import Outputs
from agents.value.dqn import DQN, DQNConfig
from networks.heads.q_values import CategoricalHead


@dataclass(frozen=True)
class C51Config(DQNConfig):
    """Settings of C51."""

    atoms: int = 51
    """Returns that a distribution is made of."""
    v_min: float = -10.0
    """Lowest of them: below what can be lost, in discounted (and where so set clipped or rescaled) rewards."""
    v_max: float = 10.0
    """Highest of them."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.atoms >= 2, "atoms", "must be at least 2")
        self.require(self.v_max > self.v_min, "v_max", f"must be above --v-min {self.v_min}")


class C51(DQN):
    """Categorical DQN."""

    config: C51Config

    def head(self, width: int) -> nn.Module:
        """Return the head over features of this width."""
        config = self.config
        return CategoricalHead(width, self.num_actions, config.atoms, config.v_min, config.v_max, **self.streams())

    def td_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return cross-entropy with gradient, and without it the KL divergence and the values of the actions taken."""
        support = cast(CategoricalHead, self.model.head).support
        probs = out.there.log_probs.exp()  # [..., A, K]
        weights, atoms = self.backup(batch, out, support.expand_as(probs))
        mixture = weights[..., None] * probs  # one action's distribution, or a mixture of all for a soft target
        target = project(atoms.flatten(-2), mixture.flatten(-2), support)
        action = batch.action[..., None]
        rows = action[..., None].expand(*action.shape, target.shape[-1])
        log_probs = out.here.log_probs.gather(-2, rows).squeeze(-2)
        loss = -(target * log_probs).sum(dim=-1)
        entropy = -(target * target.clamp(min=1e-12).log()).sum(dim=-1)
        return loss, (loss.detach() - entropy).clamp(min=0.0), out.here.q.detach().gather(-1, action).squeeze(-1)

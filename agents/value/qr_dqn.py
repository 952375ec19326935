"""QR-DQN (Dabney et al. 2018): the quantiles of the return, learned by quantile regression.

Differences from the paper: as in dqn.py; 3-step returns and prioritized replay are settings, off as in the paper
unless a preset turns them on; priorities are errors of the means. In the SB3 zoo QR-DQN scores 17.1k on BeamRider after
10M steps (no sticky actions, one run).

    python scripts/train.py qr-dqn --env MinAtar/SpaceInvaders-v1
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from agents.interface import Sequences, Transitions
from agents.losses import quantile_huber
from agents.value.dqn import DQN, DQNConfig, Outputs
from networks.heads.q_values import QuantileHead


@dataclass(frozen=True)
class QRDQNConfig(DQNConfig):
    """Settings of QR-DQN."""

    quantiles: int = 200
    """Quantiles of the return's distribution."""
    kappa: float = 1.0
    """The quantile loss is linear in errors beyond this; 0 makes it linear throughout."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.quantiles >= 1, "quantiles", "must be at least 1")
        self.require(self.kappa >= 0, "kappa", "must not be negative")


class QRDQN(DQN):
    """Quantile regression DQN."""

    config: QRDQNConfig

    def head(self, width: int) -> nn.Module:
        """Return the head over features of this width."""
        return QuantileHead(width, self.num_actions, self.config.quantiles, **self.head_options())

    def td_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return per row the quantile loss, |TD error| of the means and the value of the action taken: [B] or [L, B].

        Only the loss carries a gradient.
        """
        action = batch.action[..., None]
        rows = action[..., None].expand(*action.shape, out.online.quantiles.shape[-1])
        quantiles = out.online.quantiles.gather(-2, rows).squeeze(-2)  # [..., N]
        policy, returns = self.backup(batch, out, out.target_next.quantiles)
        target = (policy[..., None] * returns).sum(dim=-2)  # [..., M]
        loss = quantile_huber(quantiles, out.online.taus, target, self.config.kappa)
        q = out.online.q.detach().gather(-1, action).squeeze(-1)
        return loss, (target.mean(dim=-1) - q).abs(), q

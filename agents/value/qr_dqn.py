"""QR-DQN (Dabney et al. 2018): the quantiles of the return, learned by quantile regression.

Differs from the paper: as dqn.py does; 3-step returns and priorities are switches, off as in the paper unless a preset
says otherwise; priorities are errors of the means. In the SB3 zoo QR-DQN scores 17.1k on BeamRider after 10M steps
(no sticky actions, one run).

    python scripts/train.py qr-dqn --env MinAtar/SpaceInvaders-v1
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from agents.interface import Sequences, Transitions
from agents.losses import quantile_huber
from agents.off_policy import Outputs
from agents.value.dqn import DQN, DQNConfig
from networks.heads.q_values import QuantileHead


@dataclass(frozen=True)
class QRDQNConfig(DQNConfig):
    """Settings of QR-DQN."""

    quantiles: int = 200
    """Quantiles that a return's distribution is made of."""
    kappa: float = 1.0
    """Error beyond which the quantile loss is linear; 0 makes it linear throughout."""

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
        return QuantileHead(width, self.num_actions, self.config.quantiles, **self.streams())

    def td_loss(self, batch: Transitions | Sequences, out: Outputs) -> tuple[Tensor, Tensor, Tensor]:
        """Return the quantile loss with gradient, and without it |TD error| of the means and the values taken."""
        action = batch.action[..., None]
        rows = action[..., None].expand(*action.shape, out.here.quantiles.shape[-1])
        quantiles = out.here.quantiles.gather(-2, rows).squeeze(-2)  # [..., N]
        weights, backed_up = self.backup(batch, out, out.there.quantiles)
        target = (weights[..., None] * backed_up).sum(dim=-2)  # [..., M]
        loss = quantile_huber(quantiles, out.here.taus, target, self.config.kappa)
        q = out.here.q.detach().gather(-1, action).squeeze(-1)
        return loss, (target.mean(dim=-1) - q).abs(), q

"""IQN (Dabney et al. 2018b): quantiles of the return at levels (taus) that are sampled for each row.

With Munchausen targets, a wide spectrally normalised IMPALA torso, noisy dueling streams and large batches from many
environments it is BTR, "Beyond The Rainbow" (Clark et al. 2024): the preset `btr`. Differences from the papers: as in
dqn.py; evaluation uses evenly spaced taus instead of sampled ones; without `head_hidden` a tau is merged into the
features after the torso's last layer, not before it. BTR keeps its final epsilon beside the noisy layers, priorities
are errors of the means, and all environments share one sum tree. Published: IQN 238 % median human-normalised after
200M frames (no sticky actions); BTR an IQM of 7.4 with sticky actions.

    python scripts/train.py iqn --env MinAtar/Asterix-v1
    python scripts/train.py btr --env ALE/Breakout-v5 --protocol machado
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from agents.value.qr_dqn import QRDQN, QRDQNConfig
from networks.heads.q_values import ImplicitQuantileHead


@dataclass(frozen=True)
class IQNConfig(QRDQNConfig):
    """Settings of IQN."""

    quantiles: int = 32
    """Levels sampled for each row, in learning and acting alike (N, N' and K)."""
    cosines: int = 64
    """Cosines in the embedding of a level."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.cosines >= 1, "cosines", "must be at least 1")


class IQN(QRDQN):
    """Implicit quantile network."""

    config: IQNConfig

    def head(self, width: int) -> nn.Module:
        """Return the head over features of this width."""
        config = self.config
        return ImplicitQuantileHead(width, self.num_actions, config.quantiles, config.cosines, **self.head_options())

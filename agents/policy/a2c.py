"""A2C (Mnih et al. 2016, synchronous): one policy-gradient step after every few rows of all environments.

Differences from the paper: synchronous environments, so one gradient instead of many stale ones; bootstrapped time
limits. RMSProp, 16 environments of 5 rows and lambda 1 as in Stable-Baselines3's recipe for Atari, which scores 17.3 on
Pong and 280 on Breakout after 10M steps.

    python scripts/train.py a2c --env CartPole-v1
    python scripts/train.py a2c --env joypad/MemoryChain-v0 --core gru
"""

from __future__ import annotations

from dataclasses import dataclass

from agents.policy.actor_critic import ActorCritic, ActorCriticConfig
from agents.settings import OptimizerName


@dataclass(frozen=True)
class A2CConfig(ActorCriticConfig):
    """Settings of A2C."""

    learning_rate: float = 7e-4
    """Step size of the optimizer at the start."""
    optimizer: OptimizerName = "rmsprop"
    """adam, radam (rectified) or rmsprop."""
    num_envs: int = 16
    """Environments stepped side by side."""
    rollout_length: int = 5
    """Rows collected from each environment between updates."""
    epochs: int = 1
    """Always 1: further passes would be off-policy."""
    minibatches: int = 1
    """Always 1: further minibatches would be off-policy."""
    sequence_length: int = 0
    """Rows unrolled together; 0 takes the whole rollout."""
    gae_lambda: float = 1.0
    """Decay of later residuals in the advantage; 1 is the n-step return."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        for name in ("epochs", "minibatches"):
            self.require(getattr(self, name) == 1, name, "must be 1: A2C is on-policy and uses each row once")


class A2C(ActorCritic):
    """Advantage actor-critic: the policy gradient of `ActorCritic` over a whole short rollout."""

    config: A2CConfig

"""PPO with random network distillation (Burda et al. 2019, "Exploration by random network distillation"): a bonus for
new observations, in games whose rewards are too rare to be met by chance.

A predictor network learns the outputs of a fixed random network; its squared error is large on rarely seen
observations, and is added as a second reward, the novelty. Novelty is non-episodic, has its own discount and critic,
and is divided by the running standard deviation of its discounted sum. Differences from the paper: whole observations
instead of the newest frame; input statistics start with the first rollout instead of random play; the row that only
resets counts as a step; the predictor's gradients are clipped separately. Published: Montezuma's Revenge 8,152 after
1.97 billion frames.

    python scripts/train.py rnd --env MiniGrid-KeyCorridorS3R3-v0
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from agents.interface import Metrics, Rollout
from agents.policy.ppo import PPO, PPOConfig
from agents.returns import gae
from networks.heads.policies import PolicyOutput, PolicyValueHead
from networks.model import Model, map_tree
from networks.running_mean_std import RunningMeanStd
from networks.torsos.base import Torso
from networks.torsos.composite import normalized_parts

FEATURES = 128
"""Outputs of the random network and of its predictor."""


class Novelty(nn.Module):
    """A fixed random network, its predictor, and the scale of the prediction errors.

    `torsos` are two of one architecture; each of `num_envs` environments has its own discounted sum of errors.
    """

    running: Tensor
    """Discounted sum of the errors of each environment, [num_envs]."""

    def __init__(self, torsos: tuple[Torso, Torso], num_envs: int, gamma: float):
        super().__init__()
        self.gamma = gamma
        width = torsos[0].out_dim
        self.target = nn.Sequential(torsos[0], nn.Linear(width, FEATURES)).requires_grad_(False)
        hidden = [nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU()]
        self.predictor = nn.Sequential(torsos[1], *hidden, nn.Linear(width, FEATURES))
        self.returns = RunningMeanStd()
        self.register_buffer("running", torch.zeros(num_envs))

    def error(self, obs: Any) -> Tensor:
        """Return the mean squared error of the prediction [B] for observations [B, ...]."""
        return (self.predictor(obs) - self.target(obs)).square().mean(dim=-1)

    @torch.no_grad()
    def reward(self, obs: Any, last_obs: Any, shape: tuple[int, int]) -> Tensor:
        """Return the novelty of the observation after each row, of `shape` (T, N), and update input and reward scales.

        `obs` are the rollout's observations [T, N, ...], `last_obs` [N, ...] those after it.
        """
        rows = map_tree(lambda x: x.flatten(0, 1), obs)
        for torso in (self.target[0], self.predictor[0]):
            for normalize, part in normalized_parts(torso, rows):
                normalize.update(part)
        first, last = self.error(map_tree(lambda x: x[shape[1] :], rows)), self.error(last_obs)
        error = torch.cat([first, last]).view(shape)
        sums = []
        for row in error:  # [N]
            self.running.mul_(self.gamma).add_(row)
            sums.append(self.running.clone())
        self.returns.merge(torch.cat(sums))
        return error / self.returns.variance.sqrt().clamp(min=1e-8)


@dataclass(frozen=True)
class RNDConfig(PPOConfig):
    """Settings of PPO with random network distillation."""

    novelty_coef: float = 0.5
    """Weight of the novelty's advantages; the rewards' advantages have weight 1."""
    novelty_gamma: float = 0.99
    """Discount of novelty."""

    def validate(self) -> None:
        """Raise ConfigError at the first impossible value."""
        super().validate()
        self.require(self.novelty_coef >= 0, "novelty_coef", "must not be negative")
        self.require(0.0 <= self.novelty_gamma < 1.0, "novelty_gamma", "must lie in 0 to below 1")


class RND(PPO):
    """PPO with rewards and novelty."""

    config: RNDConfig
    novelty: Novelty

    def head(self, width: int, twin: bool) -> PolicyValueHead:
        """Return the head over features of this width."""
        return PolicyValueHead(width, self.action_space, twin, novelty=True)

    def add_modules(self, model: Model) -> None:
        """Add the random network and its predictor."""
        torsos = self.build_torso(nn.ReLU), self.build_torso(nn.ReLU)
        self.novelty = Novelty(torsos, self.config.num_envs, self.config.novelty_gamma)
        model.add_module("novelty", self.novelty)

    def gradient_clip_groups(self) -> list[nn.Module]:
        """Return agent and predictor: large policy gradients must not slow the predictor down."""
        return [nn.ModuleList([self.model.torso, self.model.core, self.model.head]), self.novelty.predictor]

    def values(self, output: PolicyOutput) -> dict[str, Tensor]:
        """Return the values of both critics, [N] each."""
        assert output.novelty_value is not None
        return {**super().values(output), "novelty_value": output.novelty_value}

    @torch.no_grad()
    def prepare(self, rollout: Rollout) -> dict[str, Tensor]:
        """Return PPO's tensors with the novelty's advantages added, novelty and its critic's targets, [T, N] each."""
        rows, value = super().prepare(rollout), rollout.extras["novelty_value"]
        last = self.model(rollout.next_obs, rollout.next_carry, rollout.next_first)[0].novelty_value
        reward = self.novelty.reward(rollout.obs, rollout.next_obs, (len(value), value.shape[1]))
        never = torch.zeros_like(rollout.dead)
        advantage = gae(reward, value, last, never, never, self.config.novelty_gamma, self.config.gae_lambda)
        total = rows["advantage"] + self.config.novelty_coef * advantage
        return {**rows, "advantage": total, "novelty": reward, "novelty_target": value + advantage}

    def loss(self, output: PolicyOutput, batch: dict[str, Any], progress: float) -> tuple[Tensor, Metrics]:
        """Add the losses of the novelty critic and of the predictor to PPO's; they cover all rows, dead ones too."""
        loss, metrics = super().loss(output, batch, progress)
        assert output.novelty_value is not None
        value_loss = 0.5 * (output.novelty_value - batch["novelty_target"]).square().mean()
        error = self.novelty.error(map_tree(lambda x: x.flatten(0, 1), batch["obs"])).mean()
        metrics |= {"train/novelty_value_loss": value_loss.detach(), "train/novelty_error": error.detach()}
        return loss + self.config.value_coef * value_loss + error, metrics

    def summary(self, rows: dict[str, Any]) -> Metrics:
        """Return the mean novelty too."""
        return {**super().summary(rows), "train/novelty": rows["novelty"].mean()}

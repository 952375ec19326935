"""Q heads: from features to action values or return distributions. (policies.py has the heads of actor-critics.)

Every head's output has `.q`, so acting, targets and reports work with any of them. `noise` is the generator for noisy
layers and random quantile taus; without it a head is deterministic: mean weights, evenly spaced taus.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class QOutput(NamedTuple):
    """Action values."""

    q: Tensor
    """[..., A]"""


class CategoricalOutput(NamedTuple):
    """Categorical return distributions over fixed atoms."""

    q: Tensor
    """[..., A], the means of the distributions."""
    log_probs: Tensor
    """[..., A, K] for K atoms."""


class QuantileOutput(NamedTuple):
    """Return distributions as N quantiles per action."""

    q: Tensor
    """[..., A], the means of the distributions."""
    quantiles: Tensor
    """[..., A, N]"""
    taus: Tensor
    """[..., N], the probability level of each quantile, between 0 and 1."""


class Dense(nn.Linear):
    """A linear layer with the signature of `NoisyLinear`; ignores `noise`."""

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """[..., F] -> [..., G]."""
        return super().forward(x)


class NoisyLinear(nn.Linear):
    """A linear layer with learned factorised Gaussian noise on its weights (Fortunato et al. 2018, section 3).

    Each row of a batch gets independent noise, which explores better with several environments. Since the noise is
    factorised, (sigma * eps_out eps_in^T) x = eps_out * (sigma (eps_in * x)), no weight matrix per row is needed. With
    `shared`, all entries of the last axis before the features (IQN's taus) get the same noise.
    """

    def __init__(self, in_features: int, out_features: int, sigma: float = 0.5, shared: bool = False):
        super().__init__(in_features, out_features)
        self.shared = shared
        bound = 1.0 / math.sqrt(in_features)
        nn.init.uniform_(self.weight, -bound, bound)
        nn.init.uniform_(self.bias, -bound, bound)
        self.sigma_weight = nn.Parameter(torch.full_like(self.weight, sigma * bound))
        self.sigma_bias = nn.Parameter(torch.full_like(self.bias, sigma * bound))

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """[..., F] -> [..., G]; uses the mean weights if `noise` is None."""
        mean = super().forward(x)
        if noise is None:
            return mean
        rows = (*x.shape[:-2], 1) if self.shared else x.shape[:-1]
        eps_in = self._scaled((*rows, self.in_features), x, noise)
        eps_out = self._scaled((*rows, self.out_features), x, noise)
        return mean + eps_out * F.linear(x * eps_in, self.sigma_weight, self.sigma_bias)

    @staticmethod
    def _scaled(shape: tuple[int, ...], like: Tensor, noise: torch.Generator) -> Tensor:
        """Sample sign(e) sqrt(|e|) for standard normal e."""
        sample = torch.randn(shape, generator=noise, device=like.device)
        return torch.copysign(sample.abs().sqrt(), sample)


class Streams(nn.Module):
    """K outputs per action: one layer, or two with `hidden` units in between; optionally dueling and noisy.

    Dueling (Wang et al. 2016, equation 9): value and advantage streams have separate hidden units and are combined for
    each of the K outputs, as Rainbow does for its atoms (Hessel et al. 2018, section 3). `sigma` is the initial noise
    scale; 0 means no noisy layers.
    """

    def __init__(
        self, in_dim: int, num_actions: int, k: int, hidden: int, dueling: bool, sigma: float, shared: bool = False
    ):
        super().__init__()
        self.num_actions, self.k, self.hidden = num_actions, k, hidden

        def layer(width_in: int, width_out: int) -> nn.Linear:
            return NoisyLinear(width_in, width_out, sigma, shared) if sigma else Dense(width_in, width_out)

        self.inner = layer(in_dim, hidden * (2 if dueling else 1)) if hidden else None
        width = hidden or in_dim
        self.advantage = layer(width, num_actions * k)
        self.value = layer(width, k) if dueling else None

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """[..., F] -> [..., A, K]."""
        advantage_in = value_in = x
        if self.inner is not None:
            hidden = F.relu(self.inner(x, noise))
            advantage_in, value_in = hidden[..., : self.hidden], hidden[..., -self.hidden :]
        out = self.advantage(advantage_in, noise).unflatten(-1, (self.num_actions, self.k))
        if self.value is not None:
            value = self.value(value_in, noise)[..., None, :]
            out = value + out - out.mean(dim=-2, keepdim=True)
        return out


class QHead(nn.Module):
    """Action values (DQN: Mnih et al. 2015)."""

    def __init__(self, in_dim: int, num_actions: int, hidden: int = 0, dueling: bool = False, sigma: float = 0.0):
        super().__init__()
        self.streams = Streams(in_dim, num_actions, 1, hidden, dueling, sigma)

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> QOutput:
        """[..., F] -> q [..., A]."""
        return QOutput(self.streams(x, noise).squeeze(-1))


class CategoricalHead(nn.Module):
    """C51 (Bellemare et al. 2017, section 4): probabilities of `atoms` evenly spaced returns in [`v_min`, `v_max`]."""

    support: Tensor

    def __init__(
        self, in_dim: int, num_actions: int, atoms: int, v_min: float, v_max: float,
        hidden: int = 0, dueling: bool = False, sigma: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.streams = Streams(in_dim, num_actions, atoms, hidden, dueling, sigma)
        self.register_buffer("support", torch.linspace(v_min, v_max, atoms))

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> CategoricalOutput:
        """[..., F] -> q [..., A] and log probabilities [..., A, K]."""
        log_probs = self.streams(x, noise).log_softmax(dim=-1)
        return CategoricalOutput((log_probs.exp() * self.support).sum(dim=-1), log_probs)


class QuantileHead(nn.Module):
    """QR-DQN (Dabney et al. 2018): quantiles at `count` fixed taus, the midpoints of equal intervals of [0, 1]."""

    taus: Tensor

    def __init__(
        self, in_dim: int, num_actions: int, count: int, hidden: int = 0, dueling: bool = False, sigma: float = 0.0
    ):
        super().__init__()
        self.streams = Streams(in_dim, num_actions, count, hidden, dueling, sigma)
        self.register_buffer("taus", (torch.arange(count) + 0.5) / count)

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> QuantileOutput:
        """[..., F] -> q [..., A], quantiles [..., A, N] and their taus [..., N]."""
        quantiles = self.streams(x, noise)
        return QuantileOutput(quantiles.mean(dim=-1), quantiles, self.taus.expand(*x.shape[:-1], -1))


class ImplicitQuantileHead(nn.Module):
    """IQN (Dabney et al. 2018b, equations 3 and 4): quantiles at `samples` random taus for each row.

    A tau is embedded by `cosines` cosines and a layer, and multiplied into the features. Without `noise` the taus are
    the midpoints of `samples` equal intervals, so that evaluation is deterministic.
    """

    frequencies: Tensor

    def __init__(
        self, in_dim: int, num_actions: int, samples: int, cosines: int = 64,
        hidden: int = 0, dueling: bool = False, sigma: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        self.samples = samples
        self.embedding = nn.Linear(cosines, in_dim)
        self.streams = Streams(in_dim, num_actions, 1, hidden, dueling, sigma, shared=True)
        self.register_buffer("frequencies", math.pi * torch.arange(cosines))

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> QuantileOutput:
        """[..., F] -> q [..., A], quantiles [..., A, N] and their taus [..., N]."""
        shape = (*x.shape[:-1], self.samples)
        if noise is None:
            taus = ((torch.arange(self.samples, device=x.device) + 0.5) / self.samples).expand(shape)
        else:
            taus = torch.rand(shape, generator=noise, device=x.device)
        embedded = F.relu(self.embedding(torch.cos(taus[..., None] * self.frequencies)))  # [..., N, F]
        quantiles = self.streams(x[..., None, :] * embedded, noise).squeeze(-1).transpose(-1, -2)
        return QuantileOutput(quantiles.mean(dim=-1), quantiles, taus)

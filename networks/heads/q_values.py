"""Heads: from features to action values, or to distributions of returns; policies.py has those of actor-critics.

Every Q head gives `.q`, so that acting, targets and reports need not know which one it is. Heads take `noise`, the
generator that noisy layers and quantile taus are drawn from; without one they are certain: mean weights, even taus.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class QOutput(NamedTuple):
    """Action values; every Q head has `.q` [..., A]."""

    q: Tensor


class CategoricalOutput(NamedTuple):
    """Return distributions on fixed atoms."""

    q: Tensor
    """[..., A], their means."""
    log_probs: Tensor
    """[..., A, K]"""


class QuantileOutput(NamedTuple):
    """Return distributions as quantiles."""

    q: Tensor
    """[..., A], their means."""
    quantiles: Tensor
    """[..., A, N]"""
    taus: Tensor
    """[..., N] in 0 to 1, the probability that each quantile stands for (tau)."""


class Dense(nn.Linear):
    """A linear layer that takes a generator of noise and needs none."""

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> Tensor:
        """[..., F] -> [..., G]."""
        return super().forward(x)


class NoisyLinear(nn.Linear):
    """A linear layer with learned factorised Gaussian noise on its weights (Fortunato et al. 2018, section 3).

    Every row of a batch gets noise of its own. With factorised noise this takes no weight matrix per row, for
    (sigma * eps_out eps_in^T) x = eps_out * (sigma (eps_in * x)); it also explores better with several environments.
    With `shared` the last axis before the features (IQN's taus) has the same noise throughout.
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
        """[..., F] -> [..., G]; mean weights without `noise`."""
        mean = super().forward(x)
        if noise is None:
            return mean
        rows = (*x.shape[:-2], 1) if self.shared else x.shape[:-1]
        inner = self._scaled((*rows, self.in_features), x, noise)
        outer = self._scaled((*rows, self.out_features), x, noise)
        return mean + outer * F.linear(x * inner, self.sigma_weight, self.sigma_bias)

    @staticmethod
    def _scaled(shape: tuple[int, ...], like: Tensor, noise: torch.Generator) -> Tensor:
        """sign(e) sqrt(|e|) of unit Gaussians e."""
        sample = torch.randn(shape, generator=noise, device=like.device)
        return torch.copysign(sample.abs().sqrt(), sample)


class Streams(nn.Module):
    """Features to K numbers per action: one layer, or two with `hidden` units between; dueling; noisy.

    Dueling (Wang et al. 2016, equation 9): values and advantages have hidden units of their own and are summed for each
    of the K numbers, which for K > 1 is what Rainbow does with its atoms (Hessel et al. 2018, section 3).
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
        for_advantage = for_value = x
        if self.inner is not None:
            hidden = F.relu(self.inner(x, noise))
            for_advantage, for_value = hidden[..., : self.hidden], hidden[..., -self.hidden :]
        out = self.advantage(for_advantage, noise).unflatten(-1, (self.num_actions, self.k))
        if self.value is not None:
            value = self.value(for_value, noise)[..., None, :]
            out = value + out - out.mean(dim=-2, keepdim=True)
        return out


class QHead(nn.Module):
    """Action values."""

    def __init__(self, in_dim: int, num_actions: int, hidden: int = 0, dueling: bool = False, sigma: float = 0.0):
        super().__init__()
        self.streams = Streams(in_dim, num_actions, 1, hidden, dueling, sigma)

    def forward(self, x: Tensor, noise: torch.Generator | None = None) -> QOutput:
        """[..., F] -> q [..., A]."""
        return QOutput(self.streams(x, noise).squeeze(-1))


class CategoricalHead(nn.Module):
    """C51 (Bellemare et al. 2017): probabilities of `atoms` evenly spaced returns from `v_min` to `v_max`."""

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
    """QR-DQN (Dabney et al. 2018): the quantiles at `count` fixed taus, the midpoints of equal parts."""

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
    """IQN (Dabney et al. 2018b, equations 3 and 4): quantiles at taus drawn for each row.

    A level is embedded by `cosines` cosines and a layer, and multiplied into the features. Without `noise` the taus
    are the midpoints of `samples` equal parts, so that an agent which is judged is the same every time.
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

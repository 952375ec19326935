"""Running mean and variance."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class RunningMeanStd(nn.Module):
    """Elementwise mean and variance of all samples so far, as saved buffers; 0 and 1 before the first sample."""

    mean: Tensor
    variance: Tensor
    count: Tensor

    def __init__(self, shape: tuple[int, ...] = ()):
        super().__init__()
        self.register_buffer("mean", torch.zeros(shape))
        self.register_buffer("variance", torch.ones(shape))
        self.register_buffer("count", torch.zeros((), dtype=torch.float64))

    @torch.no_grad()
    def merge(self, samples: Tensor) -> None:
        """Merge `samples` [B, *shape] by the parallel formula of Chan et al. 1983; B may be 0."""
        if not len(samples):
            return
        self.count += len(samples)
        share = (len(samples) / self.count).float()
        variance, mean = torch.var_mean(samples.float(), dim=0, correction=0)
        delta = mean - self.mean
        self.variance.mul_(1.0 - share).add_(share * variance + share * (1.0 - share) * delta**2)
        self.mean.add_(share * delta)

"""Schedules and exploration: pure functions of absolute counts, so a resumed run continues them exactly."""

from __future__ import annotations

import torch
from torch import Tensor


def linear_schedule(start: float, end: float, duration: float, step: float) -> float:
    """Interpolate from `start` to `end` over `duration` steps, and stay at `end` afterwards."""
    fraction = min(max(step / duration, 0.0), 1.0) if duration > 0 else 1.0
    return start + fraction * (end - start)


def epsilon_ladder(base: float, count: int) -> Tensor:
    """base ** (1 + 7 i / (count - 1)), [count], for i = 0 .. count - 1 (Horgan et al. 2018, section 4.1)."""
    return base ** (1.0 + 7.0 * torch.arange(count) / max(count - 1, 1))


def epsilon_greedy(q: Tensor, epsilon: float | Tensor, rng: torch.Generator) -> Tensor:
    """Greedy actions [N] of `q` [N, A], each replaced by a uniform one with probability `epsilon` (a number or [N])."""
    if isinstance(epsilon, Tensor):
        epsilon = epsilon.to(q.device)
    random = torch.randint(q.shape[1], (len(q),), generator=rng, device=q.device)
    explore = torch.rand(len(q), generator=rng, device=q.device) < epsilon
    return torch.where(explore, random, q.argmax(dim=1))


def updates_due(replay_ratio: float, learning_starts: int, env_steps: int, updates: int) -> int:
    """Gradient updates due at `env_steps`: `replay_ratio` per env step since `learning_starts`, less those made."""
    return max(int(replay_ratio * (env_steps - learning_starts)) - updates, 0)

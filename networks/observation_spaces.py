"""Properties of observation spaces."""

from __future__ import annotations

from typing import TypeGuard

import numpy as np
from gymnasium import spaces


def is_image(space: spaces.Space) -> TypeGuard[spaces.Box]:
    """Return whether the space holds images [C, H, W]."""
    return isinstance(space, spaces.Box) and len(space.shape) == 3


def categories(space: spaces.Space) -> list[int]:
    """Return the number of values of each category number, or [] if the space is not Discrete or MultiDiscrete."""
    if isinstance(space, spaces.Discrete):
        return [int(space.n)]
    return space.nvec.tolist() if isinstance(space, spaces.MultiDiscrete) else []


def parts_of(space: spaces.Space) -> tuple[spaces.Space, ...]:
    """Return the spaces inside a Dict, or the space itself."""
    return tuple(space.spaces.values()) if isinstance(space, spaces.Dict) else (space,)


def observation_bytes(space: spaces.Space) -> int:
    """Return the size in bytes of one observation as the environment returns it."""
    return sum(int(np.prod(part.shape or (1,))) * np.dtype(part.dtype).itemsize for part in parts_of(space))

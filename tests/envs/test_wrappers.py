"""Wrappers on the agent's side: cached features, and games whose actions cannot be masked."""

from __future__ import annotations

import numpy as np
import pytest

from envs.make import make_envs
from envs.wrappers import FrozenFeatures, ObserveMask


def test_cached_features_of_texts_are_right_beyond_the_size_of_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FrozenFeatures, "CACHE_SIZE", 8)
    encoded: list[int] = []

    def encode(x: np.ndarray) -> np.ndarray:
        encoded.append(len(x))
        return 2.0 * x[:, :1]

    envs = FrozenFeatures(make_envs("CartPole-v1", 3), {"obs": (encode, 1)})
    plain = make_envs("CartPole-v1", 3)
    envs.reset(seed=[1, 2, 2])
    plain.reset(seed=[1, 2, 2])
    assert encoded == [2]  # equal rows are encoded once
    for _ in range(20):
        obs, expected = envs.step(np.ones(3, int))[0], plain.step(np.ones(3, int))[0]
        np.testing.assert_allclose(obs, 2.0 * expected[:, :1])
    assert len(envs.caches["obs"]) <= 8 + 3


def test_only_listed_actions_can_be_masked() -> None:
    with pytest.raises(ValueError, match="only Discrete and MultiDiscrete actions can be masked"):
        ObserveMask(make_envs("Pendulum-v1", 1))

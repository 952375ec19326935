"""A replay lies in memory where that suffices, else on disk; too little space names a capacity that fits."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from agents.build import build_replay, spills
from agents.errors import ConfigError
from agents.replay.buffer import ReplayLayout, ReplaySampling
from agents.replay.prioritized import PrioritizedReplay
from agents.run import machine
from tests.agents.test_replay import rich_space

CPU_DEVICE = torch.device("cpu")


ROOMY = ReplayLayout(rich_space(4), 4, 10_000, 3, 0.99, 4)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], None]:
    """Return a function that sets the free bytes of memory and disk."""

    def limit(memory_free: float, disk_free: float = 1e15) -> None:
        usage = shutil.disk_usage("/")
        monkeypatch.setattr(machine, "available_memory", lambda: int(memory_free))
        monkeypatch.setattr("agents.build.shutil.disk_usage", lambda path: usage._replace(free=int(disk_free)))

    return limit


@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
def test_auto_uses_memory_where_it_suffices_and_else_the_disk(
    sampling: ReplaySampling, limits: Any, tmp_path: Path
) -> None:
    layout = replace(ROOMY, sampling=sampling)
    for free, spilled in ((2.0, False), (1.12, False), (1.1, True), (0.5, True)):
        limits(free * layout.nbytes)
        assert spills(layout, "auto") is spilled
        replay = build_replay(layout, CPU_DEVICE, "auto", tmp_path)
        assert isinstance(replay, PrioritizedReplay) is (sampling == "prioritized")
        assert isinstance(replay.arrays["obs.frame"], np.memmap) is spilled
    assert spills(layout, "disk")
    limits(1e15)
    assert spills(layout, "disk")
    assert not spills(layout, "memory")
    assert isinstance(build_replay(layout, CPU_DEVICE, "disk", tmp_path).arrays["obs.audio"], np.memmap)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("sampling", ["uniform", "prioritized"])
@pytest.mark.parametrize("share", [0.99, 0.6, 0.3])
@pytest.mark.parametrize("storage", ["memory", "disk"])
def test_too_little_space_names_a_capacity_that_fits(
    storage: str, share: float, sampling: ReplaySampling, limits: Any, tmp_path: Path
) -> None:
    layout = replace(ROOMY, sampling=sampling)
    free = share * layout.nbytes
    limits(*((free, 1e15) if storage == "memory" else (1e15, free)))
    where = "are free" if storage == "memory" else f"are free on the disk of {tmp_path}"
    with pytest.raises(ConfigError, match=rf"the replay needs .* GB and .*{where}") as caught:
        build_replay(layout, CPU_DEVICE, storage, tmp_path)
    fits = int(re.findall(r"--replay-capacity (\d+) or less", str(caught.value))[0])
    smaller = replace(layout, capacity=fits)
    assert 0.5 * free < smaller.nbytes <= free
    build_replay(smaller, CPU_DEVICE, storage, tmp_path)


def test_a_replay_too_large_for_memory_and_disk_is_refused(limits: Any, tmp_path: Path) -> None:
    limits(0.5 * ROOMY.nbytes, 0.5 * ROOMY.nbytes)
    with pytest.raises(ConfigError, match="or another --run-dir"):
        build_replay(ROOMY, CPU_DEVICE, "auto", tmp_path)

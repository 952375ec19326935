"""The code blocks of docs/extending.md run, and what they add trains, saves and loads."""

from __future__ import annotations

import re
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from agents import presets
from agents.build import build_agent
from agents.checkpoint import load_agent, resolve
from envs.make import make_envs
from networks import torsos
from tests.agents.helpers import train
from tests.conftest import CPU

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    algorithms, known, names = dict(presets.ALGORITHMS), dict(presets.PRESETS), dict(torsos.TORSOS)
    module = types.ModuleType("documented")  # dataclasses look their module up by name
    monkeypatch.setitem(sys.modules, "documented", module)
    namespace = vars(module)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), namespace)
    yield namespace
    for table, before in ((presets.ALGORITHMS, algorithms), (presets.PRESETS, known), (torsos.TORSOS, names)):
        table.clear()
        table.update(before)
    gym.registry.pop("Mirror-v0")


@pytest.mark.parametrize(("env", "torso"), [("CartPole-v1", "fourier"), ("CartPole-v1", "auto"), ("Mirror-v0", "auto")])
def test_additions_train_and_load(documented: dict[str, Any], env: str, torso: str, tmp_path: Path) -> None:
    config = replace(presets.tiny(presets.PRESETS["al", "classic"]), env=env, torso=torso)
    envs = make_envs(env, config.num_envs)
    agent, run = train("al", config, envs, tmp_path)
    assert run.updates > 0
    fresh = build_agent("al", config, envs, CPU)
    state = load_agent(resolve(tmp_path / "checkpoints"), fresh)
    assert state["env_steps"] == run.env_steps >= config.total_steps
    assert type(fresh).__name__ == "AdvantageLearning"
    assert all((a == b).all() for a, b in zip(agent.model.parameters(), fresh.model.parameters(), strict=True))

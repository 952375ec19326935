"""The code blocks of docs/extending.md run, and what they add trains, saves and loads."""

from __future__ import annotations

import json
import re
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest

from agents.build import build_agent
from agents.presets import registry
from agents.run.checkpoint import load_agent, resolve
from envs.make import make_envs
from networks.encoders import store
from networks.encoders.base import ARCHITECTURES
from networks.torsos import build
from scripts.supervised.tasks.registry import TASKS
from tests.agents.helpers import train
from tests.machine import CPU
from tests.scripts.inside import call

DOCUMENT = Path(__file__).parents[1] / "docs" / "extending.md"


@pytest.fixture
def documented(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    tables = (registry.ALGORITHMS, registry.PRESETS, build.TORSOS, ARCHITECTURES, TASKS)
    before = [dict(table) for table in tables]
    module = types.ModuleType("documented")  # dataclasses look their module up by name
    for name in ("documented", "scripts.supervised.tasks.poles"):
        monkeypatch.setitem(sys.modules, name, module)
    namespace = vars(module)
    blocks = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert len(blocks) == 6
    for block in blocks:
        exec(compile(block, str(DOCUMENT), "exec"), namespace)
    yield namespace
    for table, entries in zip(tables, before, strict=True):
        table.clear()
        table.update(entries)  # type: ignore[arg-type]
    gym.registry.pop("Mirror-v0")


@pytest.mark.parametrize(("env", "torso"), [("CartPole-v1", "fourier"), ("CartPole-v1", "auto"), ("Mirror-v0", "auto")])
def test_additions_train_and_load(documented: dict[str, Any], env: str, torso: str, tmp_path: Path) -> None:
    config = replace(registry.tiny(registry.PRESETS["al", "classic"]), env=env, torso=torso)
    envs = make_envs(env, config.num_envs)
    agent, run = train("al", config, envs, tmp_path)
    assert run.updates > 0
    fresh = build_agent("al", config, envs, CPU)
    state = load_agent(resolve(tmp_path / "checkpoints"), fresh)
    assert state["env_steps"] == run.env_steps >= config.total_steps
    assert type(fresh).__name__ == "AdvantageLearning"
    assert all((a == b).all() for a, b in zip(agent.model.parameters(), fresh.model.parameters(), strict=True))


def test_an_added_encoder_and_an_added_task_are_trained_and_saved(documented: dict[str, Any], tmp_path: Path) -> None:
    done = call("pretrain", "poles", "--examples", 1500, "--epochs", 5, "--threads", 1, "--run-dir", tmp_path / "poles")
    assert done.code == 0, done.err
    report = json.loads((tmp_path / "poles" / "encoder" / "report.json").read_text())
    assert report["test"]["f1"] > report["baselines"]["majority class"]["f1"] + 0.1
    words = ("--arch", "forgetting", "--examples", 300, "--epochs", 1, "--threads", 1, "--no-baselines")
    done = call("pretrain", "translate-zh-en", *words, "--run-dir", tmp_path / "zh")
    assert done.code == 0, done.err
    assert type(store.load(tmp_path / "zh").encoder).__name__ == "Forgetting"

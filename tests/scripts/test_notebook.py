"""The quick-start notebook runs from its first cell to its last, with small budgets, and installs itself in Colab."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from tests.scripts.runner import ROOT

NOTEBOOK = ROOT / "docs" / "quickstart.ipynb"
BUDGETS = "ppo_steps, dqn_steps, more_steps = "
QUICK = f"""
from agents.run import preflight
from scripts.runner import training

preflight.ROW_SECONDS = preflight.LEARN_SECONDS = 0.0
training.write_report = lambda runs, page: page
{BUDGETS}1_024, 600, 3_000
"""
"""Code that the settings cell gets for the test: small budgets, no timing before a training, no report after it."""


def test_every_cell_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    (settings,) = (cell for cell in notebook.cells if BUDGETS in cell.source)
    settings.source += QUICK
    nbclient.NotebookClient(notebook, timeout=120, resources={"metadata": {"path": str(NOTEBOOK.parent)}}).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    shown = [kind for output in outputs for kind in output.get("data", {})]
    assert shown.count("image/png") == 3
    assert sum("<video" in output.get("data", {}).get("text/html", "") for output in outputs) == 1
    printed = "".join(output.get("text", "") for output in outputs)
    assert "DQN: " in printed
    steps = [int(number.replace(",", "")) for number in re.findall(r"([\d,]+) env steps", printed)]
    assert [1_024 <= steps[0] < 3_000, 3_000 <= steps[1] < 6_000] == [True, True]
    (folder,) = tmp_path.glob("joypad-*")
    assert sorted(path.name for path in folder.iterdir()) == ["dqn", "ppo"]
    assert list((folder / "ppo" / "videos").glob("*.mp4"))


def test_the_install_cell_clones_joypad_where_it_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands: list[list[str]] = []
    monkeypatch.setattr(subprocess, "run", lambda command, **options: commands.append(command))
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("JOYPAD_REPOSITORY", "https://example.org/joypad.git")
    cell = next("".join(cell["source"]) for cell in cells() if "git" in "".join(cell["source"]))
    monkeypatch.chdir(NOTEBOOK.parent)
    exec(cell, {})
    assert commands == []
    assert sys.path[0] == str(ROOT)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "scripts.runner", None)
    exec(cell, {})
    clone = str(tmp_path / "joypad")
    assert commands == [
        ["git", "clone", "--depth", "1", "https://example.org/joypad.git", clone],
        [sys.executable, "-m", "pip", "install", "--quiet", "--editable", clone],
    ]
    assert sys.path[0] == clone


def test_the_saved_outputs_are_small_and_hold_no_path_of_a_machine() -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    text = "".join(str(output.get("text", "")) for cell in cells() for output in cell.get("outputs", ()))
    assert "/tmp" not in text
    assert "Traceback" not in text


def cells() -> list[dict[str, Any]]:
    """Return the notebook's code cells."""
    return [cell for cell in json.loads(NOTEBOOK.read_text())["cells"] if cell["cell_type"] == "code"]

"""benchmark.py startup, and the imports that --help does without."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.experiments import startup
from tests.scripts.inside import assert_one_line, call

ROOT = Path(__file__).resolve().parents[2]


def test_startup_times_every_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(startup, "COMMANDS", ("benchmark",))
    monkeypatch.setattr(startup, "REFERENCE", "import sys")
    done = call("benchmark", "startup", "--repeats", 2, "--out", tmp_path / "startup.json")
    assert done.code == 0, done
    result = json.loads((tmp_path / "startup.json").read_text())
    assert all(len(seconds) == 2 and min(seconds) > 0 for seconds in result["seconds"].values())
    assert result["median_seconds"].keys() == {"import sys", "benchmark.py --help"}
    assert_one_line(call("benchmark", "startup", "--repeats", 0), 2, "--repeats must be at least 1")


@pytest.mark.parametrize("name", startup.COMMANDS)
def test_help_needs_no_torch(name: str) -> None:
    heavy = ("torch", "gymnasium", "wandb", "scipy", "matplotlib", "stable_baselines3")
    code = (
        f"import sys, importlib; sys.argv = ['{name}.py', '--help']\n"
        f"try: importlib.import_module('scripts.{name}').main()\n"
        f"except SystemExit as end: assert not end.code, end.code\n"
        f"print('HEAVY', [m for m in {heavy!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("HEAVY []"), done.stdout[-200:]

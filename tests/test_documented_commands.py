"""Every command of README and docs is typed here, and parsed and checked up to the work that it starts."""

from __future__ import annotations

import importlib
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from scripts import benchmark, evaluate
from scripts.experiments import duel
from scripts.report import page, picture
from scripts.runner import training, watching
from scripts.supervised import human_speech, saved_encoders, train_task
from tests.scripts.inside import call

ROOT = Path(__file__).parents[1]
RECORDS = ("results", "notebook")
"""Folders of docs/ that record commands of past experiments."""
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", *(path for path in DOCS if path.relative_to(ROOT / "docs").parts[0] not in RECORDS)]
OWN_NAMES = ("YourGame-v0", " al ", "...")
"""Games and agents that docs/extending.md adds (test_extending.py trains them), and commands that are cut short."""
RUN = ROOT / "tests" / "data" / "old_layout" / "dqn"
"""Stands for runs/RUN."""
SPACES = re.compile(r"\s{2,}.*$")


def commands() -> Iterator[tuple[str, str]]:
    """Yield page and command of every line of code that runs a script of ours."""
    for path in PAGES:
        text = path.read_text()
        fenced = "\n".join(re.findall(r"^```(?:bash|sh|console)?\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        inline = re.findall(r"`(?:python )?(scripts/\w+\.py [^`]+)`", text)
        fenced = re.sub(r"\\\n\s*", "", fenced)  # a backslash continues a command on the next line
        lines = [line.split(" #")[0].strip() for line in fenced.splitlines()]
        for line in [*lines, *inline]:
            line = SPACES.sub("", line.removeprefix("python ").removeprefix("$ "))
            if re.match(r"(scripts/\w+\.py|joypad) ", line) and not any(name in line for name in OWN_NAMES):
                yield str(path.relative_to(ROOT)), line


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace the work that commands start by a note of its name."""
    notes: list[str] = []

    def note(name: str) -> object:
        return lambda *args, **kwargs: notes.append(name)

    for module, name in (
        (training, "start"), (training, "resume"), (watching, "watch_run"), (watching, "watch_replay"),
        (evaluate, "evaluate"), (duel, "duel"), (train_task, "train"), (human_speech, "record"),
        *((saved_encoders, name) for name in ("evaluate", "probe", "compare", "ensemble", "simplify")),
    ):  # fmt: skip
        monkeypatch.setattr(module, name, note(name))
    monkeypatch.setattr(page, "write_report", lambda *args, **kwargs: notes.append("page") or ROOT / "README.md")
    monkeypatch.setattr(picture, "write_picture", lambda *args, **kwargs: notes.append("picture"))
    for module_name, kind in benchmark.EXPERIMENTS.values():
        experiment = getattr(importlib.import_module(f"scripts.experiments.{module_name}"), kind)
        monkeypatch.setattr(experiment, "run", note("run"))
    return notes


@pytest.mark.parametrize(("where", "line"), list(dict.fromkeys(commands())))
def test_a_documented_command_parses(where: str, line: str, started: list[str]) -> None:
    name, *words = shlex.split(line.replace("runs/RUN", str(RUN)))
    if name == "joypad":
        name, *words = words
    name = Path(name).stem
    done = call(name, *words)
    assert done.code == 0, (where, line, done.err)
    overrides = words[words.index("--") + 1 :] if "--" in words else []
    if overrides:  # options after the -- are train.py's, for each algorithm named before
        env = words[words.index("--env") + 1] if "--env" in words else "CartPole-v1"
        algorithm = next(word for word in words if word in ("ppo", "dqn", "rainbow", "pqn", "reinforce"))
        done = call("train", algorithm, "--env", env, *overrides)
        assert done.code == 0, (where, line, done.err)
    quiet = {"--list", "--help"} & set(words) or name == "doctor"
    assert started or quiet, (where, line)


def test_the_pages_have_commands() -> None:
    assert len(list(commands())) > 60

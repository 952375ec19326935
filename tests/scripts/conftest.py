"""Fixtures of several tests of commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from scripts.experiments import training_jobs
from scripts.runner import training
from tests.scripts.inside import Done, Ended, call


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Train without the page at the end, which takes longer than so short a run; test_page.py reads that page."""
    monkeypatch.setattr(training, "write_report", lambda runs, page: page)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Done]:
    """Run benchmark.py on its own folder, with jobs in this process; `commands` are those of the last call."""

    def start(command: list[str], log: Path, threads: int) -> Ended:
        bench.commands.append(command)
        done = call(Path(command[1]).stem, *command[2:])
        with open(log, "a") as file:
            file.write(done.out + done.err)
        return Ended(done.code)

    def bench(*arguments: object) -> Done:
        bench.commands = []
        words = [str(part) for part in arguments]
        place = words.index("--") if "--" in words else len(words)
        return call("benchmark", *words[:place], "--dir", tmp_path / "bench", *words[place:])

    monkeypatch.setattr(training_jobs, "start", start)
    monkeypatch.setattr(training, "write_report", lambda runs, page: page)  # half the time of so short a run
    return bench

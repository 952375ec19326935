"""Start-up of the commands: seconds until `--help` is printed, beside the imports that every training needs.

All commands take turns, so that whatever slows the machine down slows each of them down; medians count.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from rich.table import Table
from tyro.conf import arg

from agents.errors import ConfigError
from scripts.report.tables import wide_console
from scripts.runner.files import write_json
from scripts.runner.origin import origin

COMMANDS = ("train", "evaluate", "watch", "compare", "pretrain", "benchmark", "doctor")
REFERENCE = "import torch, gymnasium"
SCRIPTS = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, kw_only=True)
class Startup:
    """Measure the start-up of every command's --help, beside `import torch, gymnasium`."""

    repeats: int = 5
    """Turns of each command, after one that is not counted."""
    out: Annotated[Path | None, arg(metavar="FILE.json")] = None
    """Write all numbers to this JSON file."""

    def run(self, overrides: Sequence[str]) -> None:
        """Measure and print."""
        if overrides:
            raise ConfigError("startup takes no options after a --")
        if self.repeats < 1:
            raise ConfigError("--repeats must be at least 1")
        commands = {
            REFERENCE: [sys.executable, "-c", REFERENCE],
            **{f"{name}.py --help": [sys.executable, str(SCRIPTS / f"{name}.py"), "--help"] for name in COMMANDS},
        }
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(self.repeats + 1):
            for name, command in commands.items():
                start = time.perf_counter()
                subprocess.run(command, capture_output=True, check=True)
                if turn:  # the first turn fills the cache of the disk
                    seconds[name].append(time.perf_counter() - start)
        medians = {name: statistics.median(values) for name, values in seconds.items()}
        table = Table("command", "median seconds", f"of {REFERENCE}", box=None)
        for name, median in medians.items():
            table.add_row(name, f"{median:.2f}", f"{median / medians[REFERENCE]:.2f}")
        wide_console().print(table)
        if self.out is not None:
            write_json(self.out, {"median_seconds": medians, "seconds": seconds, **origin().to_json()})

"""Where a run comes from: git commit, uncommitted changes, command line and time."""

from __future__ import annotations

import datetime
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


def describe() -> dict[str, Any]:
    """Return commit, whether there are uncommitted changes, command line, and time in UTC, for config.json."""
    return {
        "git": {"commit": _git("rev-parse", "HEAD"), "dirty": bool(_git("status", "--porcelain"))},
        "command": " ".join(["python", *(shlex.quote(relative(part)) for part in sys.argv)]),
        "created": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    }


def relative(path: str) -> str:
    """Return a path inside this repository relative to its root; any other text unchanged."""
    return str(Path(path).relative_to(ROOT)) if Path(path).is_relative_to(ROOT) else path


def diff() -> str:
    """Return the uncommitted changes as a patch; empty without git or changes."""
    return _git("diff", "HEAD")


def _git(*arguments: str) -> str:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""

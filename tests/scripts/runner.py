"""Run the scripts as a user does, in a process of their own."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "COLUMNS": "200"}


def script(name: str, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run scripts/NAME.py to its end; return its exit code and what it printed."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *(str(part) for part in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, check=False)


def started(name: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start scripts/NAME.py and return at once."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *(str(part) for part in arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, preexec_fn=_interruptible
    )


def kill_once_beyond(env_steps: int, folder: Path, *command: object, within: float = 0.2) -> int:
    """Train, SIGKILL at some moment `within` seconds after `env_steps` were saved; return the newest step saved."""
    process = started("train", *command)
    pointer = folder / "checkpoints" / "latest"
    deadline = time.monotonic() + 200
    while process.poll() is None:
        assert time.monotonic() < deadline, f"{folder} did not come to {env_steps} steps"
        if pointer.exists() and int(pointer.read_text().removeprefix("step_")) >= env_steps:
            time.sleep(random.Random(env_steps).random() * within)
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    return int(pointer.read_text().removeprefix("step_"))


def _interruptible() -> None:
    """Undo what a shell does to jobs in the background, whose children would all ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

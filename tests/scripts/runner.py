"""Run the scripts in processes of their own: cold, as a user's shell does, or forked from a server that has imported.

Use `call` of `tests.scripts.inside` where no process is needed, `forked` where a test kills or interrupts a process,
and `script` or `started` only where a new interpreter is what is tested: each costs seconds of imports.
"""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from tests.scripts.inside import call

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "WANDB_MODE": "offline", "COLUMNS": "200"}
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    [
        "tests.conftest", "tests.scripts.runner", "scripts.train", "scripts.command_line.groups",
        "scripts.runner.training", "matplotlib.backends.backend_svg", "matplotlib.figure", "torch._dynamo", "wandb",
    ]
)  # fmt: skip


def script(name: str, *arguments: object, timeout: float = 240) -> subprocess.CompletedProcess[str]:
    """Run scripts/NAME.py to its end; return its exit code and what it printed."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *(str(part) for part in arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, env=ENVIRONMENT, check=False)


def started(name: str, *arguments: object) -> subprocess.Popen[bytes]:
    """Start scripts/NAME.py in a new interpreter and return at once."""
    command = [sys.executable, str(ROOT / "scripts" / f"{name}.py"), *(str(part) for part in arguments)]
    return subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=ENVIRONMENT, preexec_fn=_interruptible
    )


def forked(name: str, *arguments: object) -> BaseProcess:
    """Start scripts/NAME.py in a process forked from a warm server: signals and kills are real, imports are done."""
    process = SERVER.Process(target=_child, args=(name, *(str(part) for part in arguments)))
    process.start()
    return process


def kill_once_beyond(env_steps: int, folder: Path, *command: object, within: float = 0.05) -> int:
    """Train, SIGKILL at some moment `within` seconds after `env_steps` were saved; return the newest step saved.

    A training that ended before the kill is done again: on a busy machine the kill can come late.
    """
    for _ in range(5):
        shutil.rmtree(folder, ignore_errors=True)
        process = forked("train", *command)
        pointer = folder / "checkpoints" / "latest"
        deadline = time.monotonic() + 200
        while process.is_alive():
            assert time.monotonic() < deadline, f"{folder} did not come to {env_steps} steps"
            if pointer.exists() and int(pointer.read_text().removeprefix("step_")) >= env_steps:
                time.sleep(random.Random(env_steps).random() * within)
                break
            time.sleep(0.002)
        process.kill()
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return int(pointer.read_text().removeprefix("step_"))
    raise AssertionError(f"the training in {folder} ended with {process.exitcode} before it could be killed")


def _child(name: str, *words: str) -> None:
    gc.freeze()
    _interruptible()
    done = call(name, *words)
    sys.stderr.write(done.err)
    sys.exit(done.code)


def _interruptible() -> None:
    """Undo what a shell does to jobs in the background, whose children would all ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.default_int_handler)

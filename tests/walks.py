"""Count the files that a reader meets: those that each command imports, and those that one update runs through.

    python -m tests.walks [--json FILE]

Only files of agents, envs, networks and scripts count. An update is counted by running it: files whose functions are
entered from the end of one update to the end of the next (DQN: env step, replay, update), or from the end of a
gradient step to the end of the next (PPO: a minibatch).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agents", "envs", "networks", "scripts")
COUNT = """
import sys
sys.path.insert(0, {root!r})
sys.argv = {argv!r}
import importlib
from pathlib import Path
try:
    importlib.import_module("scripts." + Path(sys.argv[0]).stem).main()
except SystemExit:
    pass
finally:
    paths = [Path(m.__file__) for m in list(sys.modules.values()) if getattr(m, "__file__", None)]
    ours = [p.relative_to({root!r}) for p in paths if p.is_relative_to({root!r})]
    print("FILES", *sorted(str(p) for p in ours if p.parts[0] in {packages!r}), sep="\\n")
"""


class Walk(NamedTuple):
    """Files of ours, relative to the repository."""

    files: list[str]

    @property
    def lines(self) -> int:
        """Their lines together."""
        return sum(len((ROOT / file).read_text().splitlines()) for file in self.files)


def imported(*argv: str) -> Walk:
    """Run a command in a process of its own; return the files that it imported."""
    code = COUNT.format(root=str(ROOT), argv=[f"scripts/{argv[0]}.py", *argv[1:]], packages=PACKAGES)
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=False).stdout
    return Walk([line for line in out.split("FILES\n")[1].splitlines() if not line.endswith("__init__.py")])


def entered(algorithm: str, family: str, core: str, method: str) -> Walk:
    """Train a tiny preset; return the files entered between the ends of its third and fourth `method`."""
    from agents.build import build_agent
    from scripts.runner.environments import environments
    from tests.agents.helpers import fit
    from tests.agents.test_presets import small
    from tests.machine import CPU

    files: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        path = frame.f_code.co_filename
        if event == "call" and path.startswith(tuple(f"{ROOT}/{package}/" for package in PACKAGES)):
            files.add(str(Path(path).relative_to(ROOT)))

    def counted(original: Callable[..., Any]) -> Callable[..., Any]:
        calls = 0

        def call(*arguments: Any) -> Any:
            nonlocal calls
            calls += 1
            result = original(*arguments)
            sys.setprofile(note if calls == 3 else None)
            return result

        return call

    config = small(algorithm, family, core)  # type: ignore[arg-type]
    envs = environments(config, config.num_envs, threads=1)
    agent = build_agent(algorithm, config, envs, CPU)
    setattr(agent, method, counted(getattr(agent, method)))
    with tempfile.TemporaryDirectory() as folder:
        fit(agent, envs, Path(folder))
    envs.close()
    return Walk(sorted(files))


def walks() -> dict[str, Walk]:
    """Return every walk by its name."""
    with tempfile.TemporaryDirectory() as folder:
        run = f"{folder}/run"
        tiny = ("--env", "CartPole-v1", "--preset", "tiny", "--track", "disabled", "--run-dir")
        return {
            **{f"{name}.py --help": imported(name, "--help") for name in ("train", "watch", "compare", "benchmark")},
            "train.py ppo --env CartPole-v1": imported("train", "ppo", *tiny, run),
            "compare.py RUN": imported("compare", run, "--out", f"{folder}/page.html"),
            "evaluate.py RUN": imported("evaluate", run, "--episodes", "1"),
            "pretrain.py digits": imported("pretrain", "digits", "--epochs", "1", "--run-dir", f"{folder}/digits"),
            "one DQN update, from env step to parameter step": entered("dqn", "classic", "none", "update"),
            "one DQN update with an LSTM": entered("dqn", "toy", "lstm", "update"),
            "one PPO minibatch": entered("ppo", "minatar", "none", "gradient_step"),
            "one PPO minibatch with an LSTM": entered("ppo", "minatar", "lstm", "gradient_step"),
        }


def main() -> None:
    """Print one line for each walk: files, lines, and the files of an update by name."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write files and lines of every walk")
    arguments = parser.parse_args()
    found = walks()
    for name, walk in found.items():
        print(f"{len(walk.files):4} files {walk.lines:6,} lines  {name}")
        if name.startswith("one "):
            print("           ", " ".join(walk.files))
    if arguments.json is not None:
        table = {name: {"lines": walk.lines, "files": walk.files} for name, walk in found.items()}
        arguments.json.write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()

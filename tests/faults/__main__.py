"""Put one deliberate fault at a time into a copy of the code, and see whether the fast tests catch it.

    python -m tests.faults                        all faults
    python -m tests.faults dqn-double-own ppo-*   these, by name or pattern
    python -m tests.faults --json faults.json     write the result to a file too

A fault is a file NAME.patch beside this one: a diff of the product's code, after two header lines that `git apply`
ignores: `Fault:`, one sentence, and `Caught by:`, the test files or node ids that must catch it, separated by spaces.
It is caught if a test fails. Tests that cannot be collected or do not end catch nothing, and without a fault all of
these tests must pass. The exit code is 0 if every fault is caught.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatch
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
FOLDER = Path(__file__).resolve().parent
PRODUCT = ("agents", "envs", "networks", "scripts")
TIMEOUT = 300.0
"""Seconds after which the tests of one fault are stopped."""
ELSEWHERE = 97
"""Exit code where the copy's code would not be the code under test."""
LAUNCHER = f"""
import importlib.util, os, pathlib, sys
for name in filter(os.path.isdir, {PRODUCT}):
    if not pathlib.Path(importlib.util.find_spec(name).origin).is_relative_to(pathlib.Path.cwd()):
        sys.exit({ELSEWHERE})
import pytest
sys.exit(pytest.main(sys.argv[1:]))
"""


class Fault(NamedTuple):
    """A deliberate fault."""

    name: str
    sentence: str
    tests: tuple[str, ...]
    """Files or node ids that must catch it."""
    patch: str


class Outcome(NamedTuple):
    """The verdict of the tests on one copy of the code."""

    verdict: str
    """CAUGHT, MISSED, or a reason why neither is known."""
    test: str
    """First test that failed."""
    seconds: float


def read_fault(path: Path) -> Fault:
    """Read a fault's file; raise ValueError for a missing header."""
    text = path.read_text()
    headers = dict(re.findall(r"^(Fault|Caught by): +(.+)$", text.partition("\ndiff --git ")[0], re.MULTILINE))
    if len(headers) != 2:
        raise ValueError(f"{path} needs the lines `Fault:` and `Caught by:` before its diff")
    return Fault(path.stem, headers["Fault"].strip(), tuple(headers["Caught by"].split()), text)


def read_faults(folder: Path, patterns: Sequence[str] = ()) -> list[Fault]:
    """Read the faults of a folder by name; raise ValueError for a pattern that names none."""
    faults = [read_fault(path) for path in sorted(folder.glob("*.patch"))]
    for pattern in patterns:
        if not any(fnmatch(fault.name, pattern) for fault in faults):
            raise ValueError(f"no fault is named {pattern}")
    return [fault for fault in faults if not patterns or any(fnmatch(fault.name, each) for each in patterns)]


def changed_files(fault: Fault) -> list[str]:
    """Return the files that a fault changes."""
    return sorted(set(re.findall(r"^(?:---|\+\+\+) [ab]/(\S+)", fault.patch, re.MULTILINE)))


def git(*arguments: str, root: Path, text: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run git in `root`."""
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, input=text, capture_output=True, text=True, check=False)


def applies(fault: Fault, root: Path) -> bool:
    """Whether the fault's patch fits the code as it is."""
    return git("apply", "--check", "-", root=root, text=fault.patch).returncode == 0


def copy_tree(root: Path, to: Path) -> None:
    """Copy all files that git tracks or would add, as they are now, and make the copy a repository of its own."""
    for name in git("ls-files", "-z", "-co", "--exclude-standard", root=root).stdout.split("\0"):
        if name and (root / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(root / name, to / name)
    git("init", "-q", root=to)


def run_tests(root: Path, tests: Sequence[str]) -> Outcome:
    """Run fast tests on the code in `root`, up to the first failure."""
    begin = time.monotonic()
    words = ["-m", "not slow", "-x", "-q", "--tb=no", "-p", "no:xdist", "-p", "no:cacheprovider",
             "-p", "no:hypothesispytest", "-rfE"]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    environment.pop("PYTEST_ADDOPTS", None)
    command = [sys.executable, "-c", LAUNCHER, *words, *tests]
    with tempfile.TemporaryFile("w+") as out:  # not a pipe, which a process that was left behind would keep open
        try:
            ended = subprocess.run(
                command,
                cwd=root,
                env=environment,
                stdout=out,
                stderr=subprocess.STDOUT,
                timeout=TIMEOUT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return Outcome("does not end", "", time.monotonic() - begin)
        out.seek(0)
        failed = re.search(r"^(?:FAILED|ERROR) (\S+?(?:\[.*?\])?)(?: - .*)?$", out.read(), re.MULTILINE)
    reasons = {0: "MISSED", 1: "CAUGHT", ELSEWHERE: "tests other code"}
    verdict = reasons.get(ended.returncode, f"pytest exits with {ended.returncode}")
    return Outcome(verdict, failed.group(1) if failed else "", time.monotonic() - begin)


def try_fault(root: Path, fault: Fault) -> Outcome:
    """Run a fault's tests on a copy of `root` that has the fault."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        copy_tree(root, copy)
        if git("apply", "-", root=copy, text=fault.patch).returncode != 0:
            return Outcome("does not apply", "", 0.0)
        for name in changed_files(fault):
            try:
                compile((copy / name).read_text(), name, "exec")
            except SyntaxError:
                return Outcome("is no Python", "", 0.0)
        return run_tests(copy, fault.tests)


def try_unchanged(root: Path, tests: Sequence[str]) -> Outcome:
    """Run tests on a copy of `root` as it is."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder).resolve()
        copy_tree(root, copy)
        return run_tests(copy, tests)


def try_all(root: Path, faults: Sequence[Fault], jobs: int) -> dict[str, Outcome]:
    """Return the outcome of each fault, several at a time; raise ValueError if a test fails without a fault."""
    named = {test for fault in faults for test in fault.tests}
    distinct = sorted(test for test in named if "::" not in test or test.partition("::")[0] not in named)
    with ThreadPoolExecutor(jobs) as pool:
        sound = pool.map(lambda test: try_unchanged(root, [test]), distinct)
        for test, outcome in zip(distinct, sound, strict=True):
            if outcome.verdict != "MISSED":
                raise ValueError(f"{test} without a fault: {outcome.verdict} {outcome.test}".rstrip())
        outcomes = {}
        for fault, outcome in zip(faults, pool.map(lambda each: try_fault(root, each), faults), strict=True):
            outcomes[fault.name] = outcome
            print(f"{fault.name:<40} {outcome.verdict:<8} {outcome.seconds:6.1f} s  {outcome.test}", flush=True)
    return outcomes


def to_json(root: Path, faults: Sequence[Fault], outcomes: dict[str, Outcome]) -> str:
    """Return the outcomes, and which code they are about."""
    rows = [{**fault._asdict(), **outcomes[fault.name]._asdict()} for fault in faults]
    for row in rows:
        del row["patch"]
        row["seconds"] = round(row["seconds"], 1)
    facts = {
        "commit": git("rev-parse", "HEAD", root=root).stdout.strip() or None,
        "uncommitted_changes": bool(git("status", "--porcelain", root=root).stdout.strip()),
        "python": platform.python_version(),
        "caught": sum(outcome.verdict == "CAUGHT" for outcome in outcomes.values()),
        "faults": rows,
    }
    return json.dumps(facts, indent=1) + "\n"


def main(arguments: Sequence[str], root: Path = ROOT, folder: Path = FOLDER) -> int:
    """Try the faults that are named, or all; return the exit code."""
    parser = argparse.ArgumentParser("python -m tests.faults", description="Try whether the tests catch faults.")
    parser.add_argument("names", nargs="*", metavar="NAME", help="name or pattern of faults; default: all")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the result to this file")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="faults tried at once")
    options = parser.parse_args(arguments)
    try:
        faults = read_faults(folder, options.names)
        outcomes = try_all(root, faults, options.jobs)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json is not None:
        options.json.write_text(to_json(root, faults, outcomes))
    caught = sum(outcome.verdict == "CAUGHT" for outcome in outcomes.values())
    print(f"{caught} of {len(faults)} faults caught")
    return 0 if caught == len(faults) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

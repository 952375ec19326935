"""The packages are this repository's, import in one direction only, and never unpickle anything."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("agents", "envs", "networks", "scripts")
OURS = (*PACKAGES, "tests")
LIBRARIES = {"agents", "envs", "networks"}
MAY_IMPORT = {
    "networks": set(),
    "envs": set(),
    "agents": {"networks"},
    "scripts/report": {"networks"},
    "scripts/runner": LIBRARIES | {"scripts/report"},
    "scripts/command_line": LIBRARIES | {"scripts/runner"},
    "scripts/supervised": LIBRARIES | {"scripts/runner", "scripts/report", "scripts/command_line"},
    "scripts/experiments": LIBRARIES | {"scripts/runner", "scripts/report", "scripts/command_line"},
    "scripts": LIBRARIES
    | {f"scripts/{name}" for name in ("report", "runner", "command_line", "supervised", "experiments")},
}
"""Folder -> folders of ours that it may import, beside itself; `scripts` are the commands, which nothing imports."""
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve", "_pickle"}


def sources(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"{package} has no files"
    return files


def imports(tree: ast.AST) -> Iterator[tuple[str, int, int]]:
    """Yield (module, level, line) of every import, inside functions too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, 0, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            bare = module == "scripts"  # `from scripts import x` names a folder or a command
            yield from ((f"scripts.{alias.name}" if bare else module, node.level, node.lineno) for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield str(getattr(node.args[0], "value", "")), 0, node.lineno


def room(parts: Sequence[str]) -> str:
    """Return the folder of MAY_IMPORT that a path or a dotted module lies in."""
    folder = "/".join(parts[:2])
    return folder if folder in MAY_IMPORT else parts[0]


def direction_faults(folder: str, text: str) -> list[str]:
    """Return one line for every import that a file in `folder` may not make."""
    found = []
    for module, level, line in imports(ast.parse(text)):
        target = room(module.split("."))
        if level:
            found.append(f"line {line}: a relative import")
        elif module.split(".")[0] in OURS and target not in MAY_IMPORT[folder] | {folder} - {"scripts"}:
            found.append(f"line {line}: {folder} imports {module}")
    return found


def pickle_faults(text: str) -> list[str]:
    """Return one line for everything that could unpickle a file."""
    tree = ast.parse(text)
    found = [
        f"line {line}: imports {module}" for module, _, line in imports(tree) if module.split(".")[0] in UNPICKLERS
    ]
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        if called == "torch.load" and given.get("weights_only") != "True":
            found.append(f"line {node.lineno}: torch.load without weights_only=True")
        if given.get("allow_pickle") == "True" or called.endswith(("read_pickle", "torch.hub.load")):
            found.append(f"line {node.lineno}: {called} unpickles")
    return found


@pytest.mark.parametrize("name", PACKAGES)
def test_a_package_is_the_one_in_this_repository(name: str) -> None:
    module = importlib.import_module(name)
    places = [module.__file__] if module.__file__ else list(module.__path__)
    for place in places:
        assert place is not None
        assert Path(place).resolve().is_relative_to(ROOT / name), (
            f"'import {name}' finds {place}: another distribution has taken the name; pip uninstall it"
        )


@pytest.mark.parametrize("path", [path for package in PACKAGES for path in sources(package)], ids=str)
def test_a_file_imports_in_one_direction_and_unpickles_nothing(path: Path) -> None:
    text = path.read_text()
    assert direction_faults(room(path.relative_to(ROOT).parts), text) == []
    assert pickle_faults(text) == []


@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("agents", "import envs.make"), ("agents", "def f():\n    from scripts import runner"),
        ("networks", "from agents.config import ConfigError"), ("envs", "import networks"),
        ("agents", "from . import run"), ("agents", "import importlib\nimportlib.import_module('envs.toy')"),
        ("scripts", "from tests.machine import CPU"), ("scripts/report", "from agents.errors import ConfigError"),
        ("scripts/runner", "from scripts.supervised import train_task"), ("scripts/runner", "import scripts.train"),
        ("scripts/experiments", "from scripts import train"), ("scripts", "from scripts import watch"),
    ],
)  # fmt: skip
def test_the_check_of_directions_finds_faults(package: str, text: str) -> None:
    assert len(direction_faults(package, text)) == 1


@pytest.mark.parametrize(
    "text",
    ["import pickle", "from pickle import loads", "import torch\ntorch.load(path)", "np.load(p, allow_pickle=True)",
     "import torch\ntorch.load(path, weights_only=False)", "def f():\n    import joblib", "pd.read_pickle(p)"],
)  # fmt: skip
def test_the_check_of_pickles_finds_faults(text: str) -> None:
    assert len(pickle_faults(text)) == 1
    assert pickle_faults("import torch\ntorch.load(path, weights_only=True)\nnp.load(p)") == []

"""The packages are this repository's, import in one direction only, and never unpickle anything."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("agents", "envs", "networks", "scripts", "tests")
MAY_IMPORT = {
    "networks": {"networks"},
    "envs": {"envs"},
    "agents": {"agents", "networks"},
    "scripts": {"agents", "envs", "networks", "scripts"},
}
"""Package -> what of ours it may import."""
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
            yield node.module or "", node.level, node.lineno
        elif isinstance(node, ast.Call) and ast.unparse(node.func) in ("importlib.import_module", "__import__"):
            yield str(getattr(node.args[0], "value", "")), 0, node.lineno


def direction_faults(package: str, text: str) -> list[str]:
    """Return one line for every import that `package` may not make."""
    found = []
    for module, level, line in imports(ast.parse(text)):
        top = module.split(".")[0]
        if level:
            found.append(f"line {line}: a relative import")
        elif top in OURS and top not in MAY_IMPORT[package]:
            found.append(f"line {line}: {package} imports {module}")
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


@pytest.mark.parametrize("name", ["agents", "envs", "networks", "scripts"])
def test_a_package_is_the_one_in_this_repository(name: str) -> None:
    module = importlib.import_module(name)
    places = [module.__file__] if module.__file__ else list(module.__path__)
    for place in places:
        assert place is not None
        assert Path(place).resolve().is_relative_to(ROOT / name), (
            f"'import {name}' finds {place}: another distribution has taken the name; pip uninstall it"
        )


@pytest.mark.parametrize("path", [path for package in MAY_IMPORT for path in sources(package)], ids=str)
def test_a_file_imports_in_one_direction_and_unpickles_nothing(path: Path) -> None:
    text = path.read_text()
    assert direction_faults(path.relative_to(ROOT).parts[0], text) == []
    faults = pickle_faults(text)
    if path == ROOT / "networks" / "supervised" / "files.py":  # CIFAR-10 is published so: read by an unpickler that
        assert [fault.split(": ")[1] for fault in faults] == ["imports pickle"]  # builds arrays only
        assert text.count("pickle.Unpickler)") == text.count("pickle.Unpickler") == 1
        return
    assert faults == []


@pytest.mark.parametrize(
    ("package", "text"),
    [
        ("agents", "import envs.make"), ("agents", "def f():\n    from scripts import common"),
        ("networks", "from agents.config import ConfigError"), ("envs", "import networks"),
        ("agents", "from . import run"), ("agents", "import importlib\nimportlib.import_module('envs.toy')"),
        ("scripts", "from tests.conftest import CPU"),
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

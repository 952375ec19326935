"""The deliberate faults fit the code as it is, and `python -m tests.faults` tells a caught one from a missed one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.faults.__main__ import FOLDER, PRODUCT, ROOT, applies, changed_files, git, main, read_fault

PATCHES = sorted(FOLDER.glob("*.patch"))


@pytest.mark.parametrize("path", PATCHES, ids=[path.stem for path in PATCHES])
def test_a_fault_fits_the_code_and_names_tests(path: Path) -> None:
    fault = read_fault(path)
    assert fault.sentence.endswith(".")
    assert applies(fault, ROOT)
    assert {name.split("/")[0] for name in changed_files(fault)} <= set(PRODUCT)
    for test in fault.tests:
        file, *names = test.split("::")
        assert Path(file).parts[0] == "tests"
        for name in names[-1:]:
            assert f"def {name.partition('[')[0]}(" in (ROOT / file).read_text()
        assert (ROOT / file).is_file()


def test_there_are_faults_of_every_kind() -> None:
    assert len(PATCHES) >= 40


SUMS = "def add(a, b):\n    total = a + b\n    return total\n"
TEST = "from agents.sums import add\n\n\ndef test_a_sum():\n    assert add(1, 2) == 3\n"
HEADERS = "Fault: The sum is another.\nCaught by: tests/test_sums.py\n\n"


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Return the folder of a project with one function and one test."""
    root = tmp_path / "project"
    for name, text in {"agents/__init__.py": "", "agents/sums.py": SUMS, "tests/test_sums.py": TEST}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    git("init", "-q", root=root)
    git("add", ".", root=root)
    return root


def write_fault(project: Path, path: Path, before: str, after: str) -> None:
    """Write the fault that replaces `before` in the project's function by `after`."""
    path.parent.mkdir(exist_ok=True)
    (project / "agents" / "sums.py").write_text(SUMS.replace(before, after))
    path.write_text(HEADERS + git("diff", root=project).stdout)
    (project / "agents" / "sums.py").write_text(SUMS)


def test_only_a_failed_test_catches_a_fault(project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    faults = tmp_path / "faults"
    for name, before, after in (
        ("wrong", "a + b", "a - b"),
        ("harmless", "a + b", "b + a"),
        ("broken", "a + b", "a +"),
        ("unimportable", "def add", "import nowhere\n\n\ndef add"),
        ("old", "a + b", "a - b"),
    ):
        write_fault(project, faults / f"{name}.patch", before, after)
    old = (faults / "old.patch").read_text()
    (faults / "old.patch").write_text(old.replace("    return total", "    return round(total)"))
    assert main(["--json", str(tmp_path / "out.json"), "--jobs", "2"], project, faults) == 1
    result = json.loads((tmp_path / "out.json").read_text())
    assert {row["name"]: (row["verdict"], row["test"]) for row in result["faults"]} == {
        "wrong": ("CAUGHT", "tests/test_sums.py::test_a_sum"),
        "harmless": ("MISSED", ""),
        "broken": ("is no Python", ""),
        "unimportable": ("pytest exits with 2", "tests/test_sums.py"),
        "old": ("does not apply", ""),
    }
    assert "1 of 5 faults caught" in capsys.readouterr().out
    assert (project / "agents" / "sums.py").read_text() == SUMS  # only copies have faults
    assert main(["wr*"], project, faults) == 0


def test_tests_that_fail_without_a_fault_catch_nothing(
    project: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_fault(project, tmp_path / "faults" / "wrong.patch", "a + b", "a - b")
    (project / "tests" / "test_sums.py").write_text(TEST.replace("== 3", "== 4"))
    assert main([], project, tmp_path / "faults") == 2
    assert "tests/test_sums.py without a fault: CAUGHT" in capsys.readouterr().err

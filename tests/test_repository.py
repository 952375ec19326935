"""Files that people expect of a repository parse and agree with the Makefile; the image's steps install joypad."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import tomllib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from tests import browser, test_documentation

ROOT = Path(__file__).parents[1]
GITHUB, CONTAINER = ROOT / ".github", ROOT / ".devcontainer"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
YAML = [ROOT / "CITATION.cff", ROOT / ".pre-commit-config.yaml", *sorted(GITHUB.rglob("*.yml"))]
FORMS = [GITHUB / "ISSUE_TEMPLATE" / name for name in ("bug.yml", "feature.yml")]
PAGES = [ROOT / "CONTRIBUTING.md", *sorted(GITHUB.glob("*.md"))]
FIELDS = {"markdown": {"value"}, "input": {"label"}, "textarea": {"label"}}
"""Kinds of elements in an issue form that we use -> their required attributes."""
MINUTES = 60


class Step(NamedTuple):
    """One instruction of a Dockerfile."""

    keyword: str
    text: str


def steps() -> list[Step]:
    """Return the Dockerfile's instructions, continued lines joined, without comments."""
    lines = (line for line in (CONTAINER / "Dockerfile").read_text().splitlines() if not line.lstrip().startswith("#"))
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [Step(*line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def runs() -> list[str]:
    """Return the shell commands of the Dockerfile that do not install Debian's packages."""
    return [step.text for step in steps() if step.keyword == "RUN" and not step.text.startswith("apt-get ")]


def targets() -> dict[str, list[str]]:
    """Return the recipe of each of the Makefile's targets, variables expanded as far as BIN."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Makefile").read_text())
    rules = re.findall(r"^([\w -]+):(?!=).*\n((?:\t.*\n)*)", text, re.MULTILINE)
    return {
        name: recipe.replace("$(BIN)", ".venv/bin").replace("\t", "").splitlines()
        for names, recipe in rules
        for name in names.split()
    }


def ignored(path: Path) -> bool:
    """Whether .dockerignore keeps a path of the repository, or a folder that it lies in, out of the build."""
    relative = path.relative_to(ROOT)
    verdict = False
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.removeprefix("!")
        if not line or line.startswith("#"):
            continue
        for part in (relative, *relative.parents[:-1]):
            name = part.name if pattern.startswith("**/") else str(part)
            same_depth = pattern.startswith("**/") or len(part.parts) == len(Path(pattern).parts)
            if same_depth and fnmatch(name, pattern.removeprefix("**/")):
                verdict = not line.startswith("!")
    return verdict


def copy(sources: list[str], destination: str, folder: Path) -> None:
    """Do as COPY: files into a folder, or the content of a folder into another, except for what is ignored."""
    for source in (ROOT / name for name in sources):
        files = [source] if source.is_file() else [path for path in source.rglob("*") if path.is_file()]
        for path in files:
            if not ignored(path):
                name = path.name if source.is_file() else path.relative_to(source)
                target = folder / destination / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(path, target)  # COPY keeps times too, by which make knows that .venv is up to date


def test_the_dockerfile_starts_from_a_supported_python() -> None:
    (base,) = [step.text for step in steps() if step.keyword == "FROM"]
    found = re.fullmatch(r"python:3\.(\d+)-slim", base)
    least = re.fullmatch(r">=3\.(\d+)", PROJECT["requires-python"])
    assert found is not None
    assert least is not None
    assert int(found[1]) >= int(least[1])


def test_the_dockerfile_copies_files_that_exist_and_are_in_the_build() -> None:
    copies = [shlex.split(step.text) for step in steps() if step.keyword == "COPY"]
    assert copies[-1] == [".", "./"], "everything comes last"
    for *sources, destination in copies:
        assert destination.endswith("/")
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source == "." or not ignored(ROOT / source), source


def test_the_dockerfile_runs_make_and_nothing_else() -> None:
    assert "make setup" in runs()
    for command in runs():
        make, target = command.split()
        assert make == "make"
        assert target in targets()


def test_the_image_has_the_programs_that_readme_and_tests_ask_for() -> None:
    (install,) = [step.text for step in steps() if step.text.startswith("apt-get ")]
    command = next(part for part in install.split(" && ") if part.startswith("apt-get install "))
    packages = [word for word in command.split()[2:] if not word.startswith("--")]
    assert packages == ["chromium", "git", "libatomic1", "make"]
    assert "git and make" in (ROOT / "README.md").read_text()
    assert '"chromium"' in Path(browser.__file__).read_text()


def test_the_build_leaves_out_all_that_git_ignores() -> None:
    for name in (".git/HEAD", ".venv/bin/python", "runs/ppo/config.json", "agents/__pycache__/a.pyc", ".coverage.1"):
        assert ignored(ROOT / name), name
    for name in ("runs/.gitkeep", "agents/run/run.py", ".github/SECURITY.md", "tests/data"):
        assert not ignored(ROOT / name), name
    patterns = (ROOT / ".dockerignore").read_text().split()
    for line in (ROOT / ".gitignore").read_text().split():
        assert {line.rstrip("/"), f"**/{line.rstrip('/')}"} & set(patterns), line


def test_the_dev_container_mounts_the_repository_where_the_image_has_its_environment() -> None:
    settings = json.loads((CONTAINER / "devcontainer.json").read_text())
    (home,) = [step.text for step in steps() if step.keyword == "WORKDIR"]
    build = settings["build"]
    assert (CONTAINER / build["dockerfile"]).is_file()
    assert (CONTAINER / build["context"]).resolve() == ROOT
    assert set(build["args"]) == {step.text for step in steps() if step.keyword == "ARG"}
    assert settings["workspaceFolder"] == home
    assert f"target={home}," in settings["workspaceMount"]
    assert [f"target={home}/.venv," in mount for mount in settings["mounts"]] == [True]
    assert settings["postCreateCommand"] in runs()


@pytest.fixture
def image(tmp_path: Path) -> Iterator[Path]:
    """An empty folder that stands for the image's root, and does not outlive the test: it grows to 2 GB."""
    yield tmp_path
    shutil.rmtree(tmp_path)


@pytest.mark.slow
def test_the_steps_of_the_image_install_the_pinned_environment(image: Path) -> None:
    """Everything but apt-get; pip downloads from the registry that this machine is configured for."""
    kept = ("PATH", "LANG", "SSL_", "PIP_", "HTTP", "http", "NO_PROXY", "no_proxy", "REQUESTS_")
    environment = {name: value for name, value in os.environ.items() if name.startswith(kept)}
    environment["HOME"] = str(image)
    folder = image
    for step in steps():
        if step.keyword == "WORKDIR":
            folder = image / step.text.lstrip("/")
            folder.mkdir(parents=True)
        elif step.keyword == "COPY":
            *sources, destination = shlex.split(step.text)
            copy(sources, destination, folder)
        elif step.keyword == "RUN" and step.text in runs():
            done = subprocess.run(
                ["/bin/sh", "-c", step.text], cwd=folder, env=environment, capture_output=True, text=True,
                timeout=30 * MINUTES, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr[-2000:]
    assert not (folder / ".git").exists()
    environment["PATH"] = f"{folder}/.venv/bin:{environment['PATH']}"

    def output(*command: str) -> str:
        done = subprocess.run(
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=10 * MINUTES, check=False
        )
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout.strip()

    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
    installed = {entry["name"]: entry["version"] for entry in json.loads(output("pip", "list", "--format=json"))}
    same = {_plain(name): version.split("+")[0] for name, version in installed.items()}  # 2.13.0+cpu is a 2.13.0
    assert same["torch"] == pins["torch"]
    expected = {_plain(name): version for name, version in pins.items()}
    assert {name: version for name, version in same.items() if expected.get(name, version) != version} == {}
    assert set(same) - set(expected) <= {"joypad", "pip", "setuptools"}
    output("make", "--question", ".venv/installed")
    output("pip", "check")
    assert str(folder / "agents") in output("python", "-P", "-c", "import agents; print(agents.__path__)")
    assert "broken" not in output("python", "scripts/doctor.py")
    output("joypad", "train", "ppo", "--env", "CartPole-v1", "--preset", "tiny", "--run-dir", "runs/first")
    assert (folder / "runs/first/checkpoints/latest").is_file()


def _plain(name: str) -> str:
    """Return a package's name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


@pytest.mark.parametrize("path", YAML, ids=[str(path.relative_to(ROOT)) for path in YAML])
def test_a_yaml_file_parses(path: Path) -> None:
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_citation_has_the_project_s_title_version_and_licence() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["cff-version"] == "1.2.0"
    assert {"message", "title", "authors"} <= citation.keys(), "required by the format"
    assert (citation["title"], citation["version"]) == (PROJECT["name"], PROJECT["version"])
    assert (citation["type"], citation["license"]) == ("software", PROJECT["license"])
    assert citation["abstract"] == PROJECT["description"]
    assert citation["authors"] == [{"name": "The joypad contributors"}], "an entity; nobody is invented"


@pytest.mark.parametrize("path", FORMS, ids=[path.name for path in FORMS])
def test_an_issue_form_has_what_github_requires(path: Path) -> None:
    form = yaml.safe_load(path.read_text())
    assert {"name", "description", "body"} <= form.keys()
    ids = [element["id"] for element in form["body"] if element["type"] != "markdown"]
    assert len(ids) == len(set(ids)) >= 3
    for element in form["body"]:
        assert FIELDS[element["type"]] <= element["attributes"].keys()
        assert element.keys() <= {"type", "id", "attributes", "validations"}


def test_pre_commit_runs_the_commands_of_make_check() -> None:
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    hooks: list[dict[str, Any]] = repository["hooks"]
    assert [hook["entry"] for hook in hooks] == targets()["check"]
    assert {hook["language"] for hook in hooks} == {"system"}
    assert not any(hook["pass_filenames"] for hook in hooks), "make check reads every file"


def made(page: Path) -> Iterator[str]:
    """Yield the targets of all `make` commands in a page's code."""
    for code in re.findall(r"^```\n.*?^```|`[^`\n]+`", page.read_text(), re.DOTALL | re.MULTILINE):
        yield from re.findall(r"(?:^|`)make ([\w-]+)", code, re.MULTILINE)


def test_the_pages_name_targets_of_the_makefile() -> None:
    named = [target for page in PAGES for target in made(page)]
    assert {"setup", "check", "test", "test-slow", "format"} <= set(named)
    assert set(named) <= targets().keys()


def test_the_links_of_these_pages_are_tested() -> None:
    assert set(PAGES) <= set(test_documentation.PAGES)
    assert (ROOT / "docs" / "extending.md") in {
        (ROOT / target).resolve() for target in test_documentation.links(ROOT / "CONTRIBUTING.md")
    }


def test_the_tests_that_the_security_page_names_exist() -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)`", (GITHUB / "SECURITY.md").read_text())
    assert len(set(named)) >= 5
    for name in named:
        assert (ROOT / name).is_file(), name

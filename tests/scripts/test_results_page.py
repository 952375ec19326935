"""The page of results follows from its JSON files, byte for byte; each number is in the file that it links to."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from scripts.experiments.results_page import FOLDER, better, linked, short, steps_cell, write_page
from tests.scripts.inside import assert_one_line, call

LINK = re.compile(r"\[([^\[\]]*)\]\(([^()]+)\)")


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return a copy of docs/results without its page and charts."""
    folder = tmp_path / "results"
    shutil.copytree(FOLDER, folder, ignore=shutil.ignore_patterns("README.md", "charts"))
    return folder


def test_the_committed_page_is_what_its_files_give(copied: Path) -> None:
    done = call("benchmark", "results", "--folder", copied)
    assert done.code == 0, done.err
    assert (copied / "README.md").read_text() == (FOLDER / "README.md").read_text()
    written = {path.name: path.read_text() for path in (copied / "charts").iterdir()}
    assert written == {path.name: path.read_text() for path in (FOLDER / "charts").iterdir()}


def test_every_link_leads_to_a_file() -> None:
    page = (FOLDER / "README.md").read_text()
    links = [target for _, target in LINK.findall(page)]
    assert len(links) > 200
    for target in set(links):
        assert target.startswith("https://") or (FOLDER / target.partition("#")[0]).is_file(), target
    for image in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", page):
        assert (FOLDER / image).is_file()


def test_every_number_is_in_the_file_that_it_links_to() -> None:
    page = (FOLDER / "README.md").read_text()
    checked = 0
    for words, target in LINK.findall(page):
        if not target.endswith(".json") or not re.fullmatch(r"-?[\d,.]+", words):
            continue
        known = numbers(json.loads((FOLDER / target).read_text()))
        decimals = len(words.partition(".")[2])
        value = float(words.replace(",", ""))
        near = any(abs(number - value) <= 0.5000001 * 10**-decimals for number in known)
        assert near or target.startswith("encoders/transfer-") or derived(words, target), (words, target)
        checked += near
    assert checked > 200


def derived(words: str, target: str) -> bool:
    """Whether a number is a mean over the seeds of its file, or stands in the table of Atari scores."""
    if target == "published.json":
        scores = (FOLDER.parents[1] / "scripts" / "report" / "data" / "atari_scores.csv").read_text()
        return any(short(float(score)) == words for score in re.findall(r"-?\d+(?:\.\d+)?", scores))
    rows = json.loads((FOLDER / target).read_text()).get("rows", [])
    means = [sum(run["score"] for run in row["runs"]) / len(row["runs"]) for row in rows]
    return words in {short(value) for value in means}


def numbers(value: Any) -> set[float]:
    """Return every number of a JSON value."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return set().union(*map(numbers, value)) if value else set()
    return {float(value)} if isinstance(value, int | float) else set()


def test_a_chapter_with_curves_shows_them(copied: Path) -> None:
    curves = [
        {"label": label, "seed": seed, "env_steps": [100, 50_000, 100_000], "scores": [20.0, 200.0, 500.0 - seed]}
        for label in ("dqn", "sb3-dqn")
        for seed in (0, 1)
    ]
    (copied / "book" / "curves").mkdir(exist_ok=True)
    path = copied / "book" / "curves" / "cartpole-dqn.json"
    path.write_text(json.dumps({"chapter": "cartpole-dqn", "games": 100, "curves": curves}))
    page = write_page(copied)
    assert "[![cartpole-dqn](charts/cartpole-dqn.svg)](book/curves/cartpole-dqn.json)" in page.read_text()
    svg = (copied / "charts" / "cartpole-dqn.svg").read_text()
    assert "env steps" in svg
    assert "SB3 dqn" in svg
    assert "env steps" not in (copied / "charts" / "pong-ppo.svg").read_text()


def test_cells() -> None:
    assert [short(value) for value in (0.5, -20.17, 1234.5, 99.96)] == ["0.50", "-20.2", "1,234", "100.0"]
    assert linked(None, "x.json") == "-"
    assert steps_cell([None, None], 9, "x.json") == "[never](x.json)"
    assert steps_cell([100, 300], 900, "x.json") == "[200](x.json)"
    assert steps_cell([100, None], 900, "x.json") == "[500](x.json) (1 of 2)"
    assert better({"verdict": "cannot tell: the intervals overlap"}) == "cannot tell"
    assert better({"verdict": "sb3-dqn is better: the intervals do not overlap"}) == "Stable-Baselines3"
    assert better({"verdict": "ppo:fast is better: the intervals do not overlap"}) == "joypad"


def test_what_cannot_be_read_is_one_line(copied: Path, tmp_path: Path) -> None:
    assert_one_line(call("benchmark", "results", "--folder", tmp_path), 2, "has no folder book")
    assert_one_line(call("benchmark", "results", "--", "--gamma", 1), 2, "results takes no options after a --")
    (copied / "speed.json").write_text("{")
    assert_one_line(call("benchmark", "results", "--folder", copied), 2, "speed.json cannot be read")

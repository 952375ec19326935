"""The pages in docs/algorithms agree with the code: every algorithm, its settings, and files that exist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from agents.presets.registry import OURS, PRESETS

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "algorithms"
PAGES = sorted(FOLDER.glob("*.md"))
FAMILIES = ("classic", "box2d", "atari", "minatar", "minigrid", "toy")
SECTIONS = [
    "Paper", "Differences from the paper", "Main settings", "Settings by game family", "Train it", "A run of ours",
    "Read the code",
]  # fmt: skip


def show(value: Any) -> str:
    """Return a setting as the pages write it."""
    if isinstance(value, bool):
        return "on" if value else "off"
    if value is None:
        return "none"
    if isinstance(value, tuple):
        return " ".join(map(str, value))
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}" if isinstance(value, int) else value


def rows(text: str, section: str) -> dict[str, list[str]]:
    """Return the options of a section's table, without the dashes, and the other cells of their rows."""
    part = text.split(f"## {section}\n")[1].split("\n## ")[0]
    cells = [re.split(r"(?<!\\)\|", line)[1:-1] for line in part.splitlines() if line.startswith("| `--")]
    return {name.strip(" `-").replace("-", "_"): [cell.strip() for cell in rest] for name, *rest in cells}


@pytest.mark.parametrize("algorithm", OURS)
def test_a_page_has_the_settings_of_the_code(algorithm: str) -> None:
    text = (FOLDER / f"{algorithm}.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == SECTIONS
    presets = [PRESETS[algorithm, family] for family in FAMILIES]
    by_family = rows(text, "Settings by game family")
    assert len(by_family) >= 4
    for name, cells in by_family.items():
        assert cells == [show(getattr(preset, name)) for preset in presets], name
    main = rows(text, "Main settings")
    assert len(main) >= 7
    for name, (default, _) in main.items():
        values = {show(getattr(preset, name)) for preset in presets}
        assert default == (values.pop() if len(values) == 1 else "by family"), name
        assert default != "by family" or name in by_family, name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_and_files_exist(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("https://") or (page.parent / link).is_file(), link
    for path in re.findall(r"`((?:agents|envs|networks|scripts)/[\w/]+\.py)`", text):
        assert (ROOT / path).is_file(), path
    assert len(text.splitlines()) <= 110


def test_the_index_links_every_page_and_the_pictures_are_small() -> None:
    links = re.findall(r"\]\((\w[\w-]*\.md)\)", (FOLDER / "index.md").read_text())
    assert {page.name for page in PAGES} - {"index.md"} <= set(links)
    pictures = list((FOLDER / "curves").glob("*.svg"))
    assert {picture.stem for picture in pictures} == {*OURS, "sb3"}
    assert max(picture.stat().st_size for picture in pictures) < 60_000

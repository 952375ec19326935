"""The report in a browser without a network: charts are drawn, videos play, nothing fails, and it fits a phone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.scripts.inside import call

pytest.importorskip("playwright")
from tests.browser import CHROMIUM, launch, open_page

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A report on four runs: two algorithms, two seeds, with videos of the first seed."""
    folder = tmp_path_factory.mktemp("page")
    runs = []
    for algorithm in ("ppo", "dqn"):
        for seed in (0, 1):
            runs.append(folder / f"{algorithm}-{seed}")
            options = (algorithm, "--env", "CartPole-v1", "--preset", "tiny", "--track", "disabled", "--seed", seed)
            done = call("train", *options, "--run-dir", runs[-1], *(["--videos"] if not seed else []))
            assert done.code == 0, done.err
    done = call("compare", *runs, "--out", folder / "page.html")
    assert done.code == 0, done.err
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launch() as chromium:
        yield chromium


CHARTS = """[...document.querySelectorAll('svg')].map(svg => {
    const box = svg.getBoundingClientRect();
    const lines = [...svg.querySelectorAll('path')].filter(path => path.getTotalLength() > 50);
    const labels = [...svg.querySelectorAll('text')].filter(text => text.textContent.trim());
    return [box.width, box.height, lines.length, labels.length];
})"""
FITS = "[...document.querySelectorAll('main > *')].every(part => part.getBoundingClientRect().right <= innerWidth)"
PLAY = """Promise.all([...document.querySelectorAll('video')].map(async video => {
    video.muted = true;
    await video.play();
    const start = performance.now();
    while (video.currentTime < 0.15 && performance.now() - start < 8000)
        await new Promise(done => setTimeout(done, 30));
    video.pause();
    return [video.currentTime, video.videoWidth, video.videoHeight, video.error === null];
}))"""


@pytest.mark.parametrize(("width", "phone"), [(1280, False), (390, True)])
def test_the_page_is_drawn_fits_and_plays(browser: Any, report: Path, width: int, phone: bool) -> None:
    with open_page(browser, report, width, 900, phone) as page:
        charts = page.run(CHARTS)
        assert len(charts) >= 3  # over env steps, wall-clock and updates
        for chart_width, height, lines, labels in charts:
            assert 250 < chart_width <= width
            assert height > 150
            assert lines >= 4  # axes, and a curve for each group
            assert labels > 5
        assert page.run("[...document.querySelectorAll('video')].every(video => video.poster.startsWith('data:image'))")
        videos = page.run(PLAY)
        assert len(videos) == 4  # untrained and trained, of two runs
        for seconds, *size, healthy in videos:
            assert seconds >= 0.15
            assert size == [600, 424]  # the game, and a line of score and value
            assert healthy
        assert page.run("document.documentElement.scrollWidth") <= width
        assert page.run(FITS)
        assert page.messages == []
        assert all(address.startswith(("file:", "data:")) for address in page.requests)


def test_the_browser_reports_faults(browser: Any, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(
        "<main style='width:900px'><img src='https://example.org/x.png'><script>nonsense()</script></main>"
    )
    with open_page(browser, broken, 390, 900, phone=True) as page:
        assert any("nonsense" in message for message in page.messages)
        assert "https://example.org/x.png" in page.requests
        assert page.run("document.documentElement.scrollWidth") > 390

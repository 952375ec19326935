"""The report in a real browser, network off: charts are drawn, videos play, nothing complains, phones can read it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.browser import CHROMIUM, Browser
from tests.scripts.inside import call

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of four runs: two agents, two seeds, with videos."""
    folder = tmp_path_factory.mktemp("page")
    runs = []
    for algorithm in ("ppo", "dqn"):
        for seed in (0, 1):
            runs.append(folder / f"{algorithm}-{seed}")
            words = (algorithm, "--env", "CartPole-v1", "--preset", "tiny", "--track", "disabled", "--seed", seed)
            done = call("train", *words, "--run-dir", runs[-1], *(["--videos"] if not seed else []))
            assert done.code == 0, done.err
    done = call("compare", *runs, "--out", folder / "page.html")
    assert done.code == 0, done.err
    return folder / "page.html"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile"), seconds=240) as found:
        yield found


CHARTS = """[...document.querySelectorAll('svg')].map(svg => {
    const box = svg.getBoundingClientRect();
    const lines = [...svg.querySelectorAll('path')].filter(path => path.getTotalLength() > 50);
    const words = [...svg.querySelectorAll('text')].filter(text => text.textContent.trim());
    return [box.width, box.height, lines.length, words.length];
})"""
INSIDE = "[...document.querySelectorAll('main > *')].every(part => part.getBoundingClientRect().right <= innerWidth)"
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
def test_the_page_is_drawn_fits_and_plays(browser: Browser, page: Path, width: int, phone: bool) -> None:
    browser.open(page, width, 900, phone)
    charts = browser.run(CHARTS)
    assert len(charts) >= 3  # over env steps, wall-clock and updates
    for wide, high, lines, words in charts:
        assert 250 < wide <= width
        assert high > 150
        assert lines >= 4  # axes, and a curve for each group
        assert words > 5
    videos = browser.run(PLAY)
    assert len(videos) == 4  # untrained and trained, of two runs
    for seconds, *size, healthy in videos:
        assert seconds >= 0.15
        assert size == [600, 424]  # the game, and a line of score and value
        assert healthy
    assert browser.run("document.documentElement.scrollWidth") <= width
    assert browser.run(
        "[...document.querySelectorAll('main > *')].every(part => part.getBoundingClientRect().right <= innerWidth)"
    )
    assert browser.complaints() == []
    assert all(address.startswith(("file:", "data:")) for address in browser.requests())


def test_the_browser_would_have_noticed(browser: Browser, tmp_path: Path) -> None:
    broken = tmp_path / "broken.html"
    broken.write_text(
        "<main style='width:900px'><img src='https://example.org/x.png'><script>nonsense()</script></main>"
    )
    browser.open(broken, 390, 900, True)
    assert any("nonsense" in line for line in browser.complaints())
    assert "https://example.org/x.png" in browser.requests()
    assert browser.run("document.documentElement.scrollWidth") > 390

"""Open pages in the system's Chromium, without a network."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = ("--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--autoplay-policy=no-user-gesture-required")
TIMEOUT = 120_000
"""Milliseconds, for a busy machine."""


class OpenPage:
    """A page in a window of its own that records requests, console messages and errors."""

    def __init__(self, page: Page, path: Path):
        self.page = page
        self.requests: list[str] = []
        self.messages: list[str] = []
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.messages.append(message.text))
        page.on("pageerror", lambda error: self.messages.append(str(error)))
        page.goto(path.resolve().as_uri())

    def run(self, script: str) -> Any:
        """Return the value of a JavaScript expression, awaited if it is a promise."""
        return self.page.evaluate(script)


@contextmanager
def launch() -> Iterator[Browser]:
    """Start a headless Chromium, and stop it at the end."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS, timeout=TIMEOUT)
        yield browser
        browser.close()


@contextmanager
def open_page(browser: Browser, path: Path, width: int, height: int, phone: bool = False) -> Iterator[OpenPage]:
    """Load a file in a window of this size."""
    context = browser.new_context(viewport={"width": width, "height": height}, is_mobile=phone, offline=True)
    context.set_default_timeout(TIMEOUT)
    yield OpenPage(context.new_page(), path)
    context.close()

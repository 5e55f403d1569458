"""A headless browser, and pages of the report opened in it; skips where there is no browser."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.browser.devices import DESKTOP, find_browser, start_browser
from trianflow.visualization.html_page import Page


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium as the system has it; its event loop ends with the module, as other tests start their own."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright")
    path = find_browser()
    if path is None:
        pytest.skip("no Chromium found for the browser tests: install one (Debian: apt install chromium)")
    with sync_api.sync_playwright() as playwright:
        browser = start_browser(playwright, path)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Write a page and open it, ready to be used; at the end there must have been no error and no request."""
    told: list[str] = []
    contexts = []

    def opened(page: Page | Path, **device: Any) -> Any:
        path = page if isinstance(page, Path) else tmp_path / "report.html"
        if isinstance(page, Page):
            page.save(path)
        contexts.append(browser.new_context(**(device or DESKTOP)))
        tab = contexts[-1].new_page()
        tab.on("console", lambda message: told.append(f"console: {message.text}"))
        tab.on("pageerror", lambda error: told.append(f"error: {error}"))
        tab.on("dialog", lambda dialog: (told.append(f"dialog: {dialog.message}"), dialog.dismiss()))
        tab.on("request", lambda r: told.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        tab.goto(path.as_uri())
        tab.wait_for_selector("html[data-ready]", state="attached", timeout=30_000)
        return tab

    yield opened
    for context in contexts:
        context.close()
    assert told == []

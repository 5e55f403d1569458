"""The browser, and what it pretends to be."""

from __future__ import annotations

import shutil
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
DESKTOP: dict[str, Any] = {"viewport": {"width": 1360, "height": 900}}
PHONE: dict[str, Any] = {
    "viewport": {"width": 390, "height": 844},
    "device_scale_factor": 2,
    "is_mobile": True,
    "has_touch": True,
}


def find_browser() -> str | None:
    """The program, where one is installed."""
    return next(filter(None, map(shutil.which, NAMES)), None)


def start_browser(playwright: Any, path: str) -> Any:
    """Without a window, and without a graphics card."""
    return playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])

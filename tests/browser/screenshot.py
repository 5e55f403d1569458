"""A picture of a report, as a browser shows it: `python -m tests.browser.screenshot report.html out.png`."""

from __future__ import annotations

import argparse
from pathlib import Path

from playwright.sync_api import sync_playwright

from tests.browser.devices import DESKTOP, PHONE, find_browser, start_browser


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--dark", action="store_true")
    parser.add_argument("--phone", action="store_true")
    parser.add_argument("--full", action="store_true", help="the whole page, not one screen of it")
    parser.add_argument("--layer", default="Inliers", help="of the pictures: Image, Flow, Depth, Occlusion or Inliers")
    args = parser.parse_args()
    with sync_playwright() as playwright:
        path = find_browser()
        if path is None:
            parser.error("no Chromium found")
        browser = start_browser(playwright, path)
        device = PHONE if args.phone else DESKTOP
        page = browser.new_page(**device, color_scheme="dark" if args.dark else "light")
        page.goto(args.report.absolute().as_uri())
        page.wait_for_selector("html[data-ready]", state="attached")
        page.get_by_role("button", name=args.layer, exact=True).click()
        page.evaluate("document.activeElement.blur(); scrollTo(0, 0)")
        for image in page.locator("img").all() if args.full else []:
            image.evaluate("(image) => (image.loading = 'eager')")
        page.wait_for_timeout(300)
        page.screenshot(path=args.picture, full_page=args.full)
        browser.close()


if __name__ == "__main__":
    main()

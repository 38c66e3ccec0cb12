"""A headless Chromium for tests of pages: Debian's package `chromium`; skipped loudly where there is none."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

COMMANDS = ("chromium", "chromium-browser", "google-chrome")
WIDE = (1280, 900)
PHONE = (390, 844)


@contextmanager
def chromium() -> Iterator[Any]:
    """A playwright Browser."""
    program = next(filter(None, map(shutil.which, COMMANDS)), None)
    if program is None:
        pytest.skip("NOT TESTED: the page in a browser; install chromium (apt-get install chromium)")
    api = pytest.importorskip(
        "playwright.sync_api", reason="NOT TESTED: the page in a browser; no playwright"
    )
    with api.sync_playwright() as playwright:
        # In containers the sandbox has no user namespaces, and tests load nothing but our own page.
        flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = playwright.chromium.launch(executable_path=program, args=flags)
        try:
            yield browser
        finally:
            browser.close()

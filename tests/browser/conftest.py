"""A real browser, Debian's Chromium, and daemons in this process for it."""

from collections.abc import AsyncIterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

collect_ignore = [] if find_spec("playwright") else ["test_messages.py", "test_page.py"]
"""`make test-browser` installs it; the other tests do without."""

CHROMIUM: Final = Path("/usr/bin/chromium")


@pytest.fixture
async def browser() -> AsyncIterator["Browser"]:
    """Run a browser."""
    from playwright.async_api import async_playwright  # noqa: PLC0415 - not in the other tests

    async with async_playwright() as playwright:
        yield await playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
async def page(browser: "Browser") -> AsyncIterator["Page"]:
    """Return an empty page of the browser. Nothing may fail in it, and no rule be broken."""
    page = await browser.new_page()
    page.set_default_timeout(PATIENCE_SECONDS * 1_000)
    errors: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda line: errors.append(line.text) if "Policy" in line.text else None)
    yield page
    assert errors == []

"""The cards of Teams in Microsoft's own renderer."""

from pathlib import Path

import pytest
from playwright.async_api import Page

from poller.sinks.teams import layout
from tests.docs.message_pages import teams_page
from tests.sinks.message_samples import ALL_MESSAGES, LARGEST_MESSAGES
from tests.support.node_packages import ADAPTIVE_CARDS, install_node_packages, needs_npm

pytestmark = [pytest.mark.anyio, pytest.mark.browser]


@needs_npm
async def test_cards_are_valid_and_show_all_texts(page: Page, tmp_path: Path):
    """The renderer finds nothing wrong in any card, and shows each text as it is."""
    messages = (*ALL_MESSAGES, *LARGEST_MESSAGES)
    file = install_node_packages(tmp_path, ADAPTIVE_CARDS) / "page.html"
    file.write_text(teams_page(map(layout, messages)), "utf-8")
    await page.goto(file.as_uri())
    cards = await page.locator(".card").all_inner_texts()

    assert await page.evaluate("problems") == []
    for card, found in zip(cards, messages, strict=True):
        texts = (found.headline, found.reason, found.advice, found.link and "Open the job")
        assert all(text[:500] in card for text in texts if text)
        assert all(f"{label}: {value[:100]}" in card for label, value in found.facts)

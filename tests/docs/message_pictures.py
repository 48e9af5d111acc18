"""Draw the messages of sinks for docs/images: `python -m tests.docs.message_pictures`.

With a folder, draw those of every type of event into it. It needs `chromium`, `npm` and
`fonts-noto-color-emoji` of Debian, and the packages of `make test-browser`.
"""

import sys
from base64 import b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from playwright.sync_api import Browser, sync_playwright

from poller.core.daily_report import ReportPeriod, daily_report_event
from poller.core.events import DaemonEventType, EventOrigin, daemon_event, digest_event
from poller.sinks.mail import html
from poller.sinks.samples import SAMPLE_DETAILS, SAMPLE_REPORT, sample_event
from poller.sinks.slack import layout as slack_layout
from poller.sinks.testing import DETECTED_AT
from poller.sinks.text import Message, describe
from tests.docs.message_pages import (
    FONTS,
    PAGE,
    discord_page,
    googlechat_page,
    slack_page,
    teams_page,
)
from tests.sinks.message_samples import ALL_MESSAGES, message
from tests.support.node_packages import ADAPTIVE_CARDS, ROBOTO, install_node_packages

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
CHROMIUM: Final = "/usr/bin/chromium"
WIDTH: Final = 540
"""Pixels of a message."""
ORIGIN: Final = EventOrigin(deployment="api.sutro.sh")
DIGEST_JOBS: Final = (
    ("job.succeeded", "Product review sentiment"),
    ("job.cancelled", "Catalogue translation"),
    ("job.succeeded", "Contract summaries"),
    ("job.succeeded", "Support ticket triage"),
)
PAGES: Final[Mapping[str, Callable[[Iterable[Mapping[str, Any]]], str]]] = {
    "slack": slack_page,
    "teams": teams_page,
    "discord": discord_page,
    "googlechat": googlechat_page,
}
"""The page of each kind, which gets what the sink sends."""


def shown_messages() -> list[Message]:
    """Return the messages that the pages show: of a failure, of a success, and of the daemon."""
    kind = DaemonEventType.AUTH_FAILED
    rejected = daemon_event(
        kind, ORIGIN, DETECTED_AT, instance="", occurrence=1, detail=SAMPLE_DETAILS[kind]
    )
    failed = message(name="Support ticket triage", cost_estimate=0.0217)
    return [failed, message("job.succeeded"), describe(rejected)]


def digest() -> Message:
    """Return a digest of more jobs than it shows."""
    events = [
        sample_event(kind, ORIGIN, DETECTED_AT, job_id=f"job-{number}", name=name)
        for number, (kind, name) in enumerate(DIGEST_JOBS * 6)
    ]
    found = describe(digest_event(events, ORIGIN, DETECTED_AT, sink="slack"))
    shown = len(DIGEST_JOBS)
    return replace(found, lines=found.lines[:shown], omitted=len(events) - shown)


def daily_report() -> Message:
    """Return the report of a day."""
    period = ReportPeriod.of_today(DETECTED_AT, DETECTED_AT.time(), UTC)
    return describe(daily_report_event(SAMPLE_REPORT, period, ORIGIN, DETECTED_AT))


def draw(browser: Browser, file: Path, page: str, width: int = WIDTH, **media: Any) -> bytes:
    """Return a page as PNG; the file is beside the packages of Node.js."""
    file.write_text(page, "utf-8")
    tab = browser.new_page(viewport={"width": width, "height": 10}, **media)
    tab.goto(file.as_uri())
    tab.evaluate("document.fonts.ready")
    picture = tab.screenshot(full_page=True)
    tab.close()
    return picture


def draw_mail(browser: Browser, file: Path, found: Message) -> bytes:
    """Return a mail as PNG, on a light and on a dark background."""
    fonts = f"{FONTS}<style>body {{ font-family: Roboto, 'Noto Color Emoji' !important }}</style>"
    page = html(found).replace("</head>", f"{fonts}</head>")
    pictures = [
        draw(browser, file, page, WIDTH - 20, color_scheme=scheme) for scheme in ("light", "dark")
    ]
    images = "".join(
        f'<img style="float: left" src="data:image/png;base64,{b64encode(picture).decode()}">'
        for picture in pictures
    )
    return draw(browser, file, PAGE.format(style="", body=images), 2 * (WIDTH - 20))


def draw_all(browser: Browser, packages: Path, folder: Path, messages: list[Message]) -> None:
    """Write one picture for each kind, and those of a digest and of a daily report."""
    file = packages / "page.html"
    for kind, page in PAGES.items():
        layout = import_module(f"poller.sinks.{kind}").layout
        picture = draw(browser, file, page(map(layout, messages)))
        (folder / f"{kind}.png").write_bytes(picture)
    (folder / "email.png").write_bytes(draw_mail(browser, file, messages[0]))
    picture = draw(browser, file, slack_page([slack_layout(digest())]))
    (folder / "digest.png").write_bytes(picture)
    (folder / "daily-report.png").write_bytes(draw_mail(browser, file, daily_report()))


def main(folder: Path = IMAGES) -> None:
    """Draw the pictures."""
    messages = shown_messages() if folder == IMAGES else [*ALL_MESSAGES]
    with TemporaryDirectory() as name, sync_playwright() as playwright:
        packages = install_node_packages(Path(name), ADAPTIVE_CARDS, ROBOTO)
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        draw_all(browser, packages, folder, messages)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))

"""The files that pages load, under names with a digest of their contents: they never change."""

import hashlib
from functools import cache
from importlib.resources import files
from typing import Final, NamedTuple

from aiohttp import web

from poller.api.context import ApiContext
from poller.api.page.responses import HEADERS
from poller.api.problems import Problem

CONTENT_TYPES: Final = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
FILES: Final = ("page.css", "charts.css", "page.js", "icon.svg")
IMMUTABLE: Final = "public, max-age=31536000, immutable"


class Asset(NamedTuple):
    """A file, and the name that it is served under."""

    name: str
    content: bytes
    content_type: str


async def asset(_context: ApiContext, name: str) -> web.Response:
    """Return a file."""
    for found in assets().values():
        if found.name == name:
            return web.Response(
                body=found.content,
                content_type=found.content_type,
                charset="utf-8",
                headers=HEADERS | {"Cache-Control": IMMUTABLE},
            )
    raise Problem("not-found", "no such file")


@cache
def assets() -> dict[str, Asset]:
    """Return the files by their own names."""
    return {name: _load(name) for name in FILES}


def _load(name: str) -> Asset:
    content = files("poller.api.page").joinpath("static", name).read_bytes()
    stem, _, kind = name.partition(".")
    digest = hashlib.sha256(content).hexdigest()[:16]
    return Asset(f"{stem}.{digest}.{kind}", content, CONTENT_TYPES[kind])

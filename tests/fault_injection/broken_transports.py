"""HTTP responses that are broken before their JSON is parsed; few are an observation.

Each class gets the body of a complete response which says that the job was cancelled. A client that
trusts any part of a broken response reports an end that never happened.
"""

import base64
import zlib
from collections.abc import Callable
from functools import cache, partial
from typing import Final

import anyio
from anyio.abc import ByteStream

from poller.sutro.client import JOB_BYTES_CAP
from tests.support.http_peers import (
    BREAKING,
    CHUNKED,
    OK,
    STALLING,
    ConnectionHandler,
    drips,
    floods,
    reply,
    resets,
    responds,
    sends,
    stalls,
)

Transport = Callable[[bytes], ConnectionHandler]
"""How a response with this body is broken."""

BROTLI_BOMB: Final = base64.b64decode(
    "y///P/glQOKxQCD3/o///3/wSwDEYRGA7v0f////4JcAiMMCAN37P/7//8EvARCHBQC693/8//+D"
    "XwIgDgsAdO//8g9eD78EQBwWAOig6wE="
)
"""50 MB of spaces."""

REDIRECTS: Final = (301, 302, 303, 307, 308)


@cache
def gzip_bomb(megabytes: int = 20) -> bytes:
    """Compress so many megabytes of zeros."""
    return zlib.compress(bytes(megabytes * 1_000_000), wbits=31)


def zstd_bomb(blocks: int = 400) -> bytes:
    """Return a frame of RFC 8878 whose blocks each repeat one byte 131,071 times."""
    block = (131_071 << 3 | 1 << 1).to_bytes(3, "little") + b" "
    last = (1 << 3 | 1 << 1 | 1).to_bytes(3, "little") + b" "
    return b"\x28\xb5\x2f\xfd\x00\x58" + block * blocks + last


def with_headers(*lines: bytes, status: bytes = b"200 OK") -> Transport:
    """Add lines to the head of a response."""

    def handler(body: bytes) -> ConnectionHandler:
        head = b"".join(line + b"\r\n" for line in lines)
        return sends(b"HTTP/1.1 " + status + b"\r\n" + head + b"\r\n" + body)

    return handler


def chunk(body: bytes) -> bytes:
    """Encode one chunk."""
    return b"%x\r\n%s\r\n" % (len(body), body)


def closed_after(seconds: float, handler: ConnectionHandler) -> ConnectionHandler:
    """Close the connection after so many seconds, so that no flood lasts for a virtual minute."""

    async def bounded(stream: ByteStream) -> None:
        with anyio.move_on_after(seconds):
            await handler(stream)

    return bounded


def with_status(status: int, **headers: str) -> Transport:
    """Send the body with another status."""
    return partial(_reply, status, headers)


def _reply(status: int, headers: dict[str, str], body: bytes) -> ConnectionHandler:
    return responds(status, body, **headers)


def without_body(handler: ConnectionHandler) -> Transport:
    """Use a handler that sends no body."""
    return lambda _body: handler


def long_header(body: bytes) -> ConnectionHandler:
    """Send a header of 200 kB before the body."""
    return sends(reply(200, body, x_long="a" * 200_000))


def many_headers(body: bytes) -> ConnectionHandler:
    """Send 5,000 headers before the body."""
    return sends(OK + b"".join(b"X-%d: 1\r\n" % number for number in range(5_000)) + b"\r\n" + body)


BROKEN: Final[dict[str, Transport]] = {
    **{name: without_body(handler) for name, handler in BREAKING.items()},
    "reset after a whole body": lambda body: resets(
        OK + b"Content-Length: %d\r\n\r\n" % (len(body) + 1) + body
    ),
    "whole JSON in a short body": with_headers(b"Content-Length: 99999"),
    "chunks that never end, cut": lambda body: sends(CHUNKED + chunk(body)),
    "bad chunk after a whole body": lambda body: sends(CHUNKED + chunk(body) + b"zz\r\n"),
    "long header before a claim": long_header,
    "many headers before a claim": many_headers,
    "header without a colon": with_headers(b"what is this"),
    "garbage before the status line": lambda body: sends(b"\x00\xff" + reply(200, body)),
    "HTTP/9.9": lambda body: sends(b"HTTP/9.9" + reply(200, body).removeprefix(b"HTTP/1.1")),
    "status of four digits": with_headers(status=b"2000 OK"),
    "Content-Length and chunks": with_headers(b"Content-Length: 5", b"Transfer-Encoding: chunked"),
}
"""Responses that break off or are not HTTP."""

SLOW: Final[dict[str, Transport]] = {
    **{name: without_body(handler) for name, handler in STALLING.items()},
    "whole JSON, then silence": lambda body: stalls(CHUNKED + chunk(body)),
    "whole JSON, then dripped chunks": lambda body: drips(
        CHUNKED + chunk(body), chunk(b" "), every=2.0
    ),
    "trailers without end": lambda body: drips(
        CHUNKED + chunk(body) + b"0\r\n", b"X-Trailer: 1\r\n", every=2.0
    ),
    "1xx and never an answer": without_body(
        drips(b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\n\r\n", every=2.0)
    ),
}
"""Responses that never end: the request ends at its deadline."""

ENCODED: Final[dict[str, Transport]] = {
    "br bomb": without_body(responds(200, BROTLI_BOMB, content_encoding="br")),
    "zstd bomb": without_body(responds(200, zstd_bomb(), content_encoding="zstd")),
    "invalid gzip": without_body(responds(200, b"\x1f\x8b junk", content_encoding="gzip")),
    "plain under gzip": with_status(200, content_encoding="gzip"),
    "unknown encoding": with_status(200, content_encoding="x-unknown"),
    "two encodings": with_status(200, content_encoding="identity, gzip"),
}
"""Responses whose encoding was not requested and is not what it says, or is unknown."""

LARGE: Final[dict[str, Transport]] = {
    "endless chunks": lambda _body: closed_after(20.0, floods(CHUNKED, chunk(b" " * 65_536))),
    "endless body": lambda body: closed_after(20.0, floods(OK + b"\r\n" + body, b" " * 65_536)),
    "gzip bomb": lambda _body: responds(200, gzip_bomb(), content_encoding="gzip"),
    "body over the cap": lambda body: responds(200, body + b" " * JOB_BYTES_CAP),
}
"""Responses over the size limit of a job: the client then requests the status alone."""

STATUSES: Final[dict[str, Transport]] = {
    **{
        f"{code} with a claim": with_status(code)
        for code in (201, 203, 206, 299, 408, 425, 500, 599)
    },
    "204": with_headers(status=b"204 No Content"),
    "205": with_headers(b"Content-Length: 0", status=b"205 Reset Content"),
    "304": with_headers(status=b"304 Not Modified"),
    "304 with a claim": with_status(304),
    "404 of others": with_status(404),
    "404 in HTML": without_body(responds(404, b"<html>Not Found</html>", content_type="text/html")),
    "101 and a claim": with_headers(
        b"Upgrade: h2c", b"Connection: upgrade", status=b"101 Switching Protocols"
    ),
}
"""Responses whose status is not 200."""

USABLE_TRANSPORTS: Final[dict[str, Transport]] = {
    "gzip that was not requested": lambda body: responds(
        200, zlib.compress(body, wbits=31), content_encoding="gzip"
    ),
    "deflate that was not requested": lambda body: responds(
        200, zlib.compress(body), content_encoding="deflate"
    ),
    "header of 60 kB": lambda body: responds(200, body, content_security_policy="a" * 60_000),
    "400 headers": lambda body: responds(
        200, body, **{f"x_{number}": "1" for number in range(400)}
    ),
}
"""Responses that are odd, but whole: they are observations."""

TRANSPORTS: Final = BROKEN | SLOW | ENCODED | LARGE | STATUSES

"""Peers on loopback that speak HTTP well, badly, or not at all."""

import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener

ConnectionHandler = Callable[[ByteStream], Awaitable[None]]
"""Handles a connection whose request has been read."""

NEVER: Final = 1_000_000.0
HANG_UP: Final = (anyio.BrokenResourceError, anyio.ClosedResourceError, anyio.EndOfStream)


@dataclass
class Peer:
    """A peer that listens: its URL, and the requests that it has read."""

    base: str
    requests: list[bytes] = field(default_factory=list)

    @property
    def lines(self) -> list[str]:
        """The first line of each request."""
        return [request.split(b"\r\n", 1)[0].decode() for request in self.requests]

    def header(self, name: str) -> str | None:
        """Return a header of the last request."""
        head = self.requests[-1].partition(b"\r\n\r\n")[0].decode()
        for line in head.split("\r\n")[1:]:
            key, _, value = line.partition(":")
            if key.lower() == name.lower():
                return value.strip()
        return None


@asynccontextmanager
async def peer(
    *handlers: ConnectionHandler, tls: ssl.SSLContext | None = None, skips_request: bool = False
) -> AsyncIterator[Peer]:
    """Listen; the nth connection gets the nth handler, later ones the last.

    `skips_request`: respond without reading the request.
    """
    queue = list(handlers)
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    server = Peer(f"{'https' if tls else 'http'}://127.0.0.1:{port}")

    async def serve(stream: ByteStream) -> None:
        handler = queue.pop(0) if len(queue) > 1 else queue[0]
        try:
            if not skips_request:
                server.requests.append(await read_request(stream))
            await handler(stream)
        except HANG_UP:
            return
        finally:
            with anyio.CancelScope(shield=True, deadline=anyio.current_time() + 1):
                await _close(stream)

    door = TLSListener(listener, tls, standard_compatible=False) if tls else listener
    async with listener, anyio.create_task_group() as group:
        group.start_soon(door.serve, serve)
        yield server
        group.cancel_scope.cancel()


async def _close(stream: ByteStream) -> None:
    try:
        await stream.aclose()
    except (OSError, *HANG_UP):
        return


async def read_request(stream: ByteStream) -> bytes:
    """Read one request with its body."""
    text = b""
    while b"\r\n\r\n" not in text:
        text += await stream.receive()
    head, _, body = text.partition(b"\r\n\r\n")
    lengths = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    missing = int(lengths[0].split(b":")[1]) - len(body) if lengths else 0
    while missing > 0:
        more = await stream.receive()
        text, missing = text + more, missing - len(more)
    return text


def reply(status: int = 200, body: bytes = b"", **headers: str) -> bytes:
    """Return a complete response; `retry_after="1"` becomes Retry-After: 1."""
    lines = {"Content-Length": str(len(body)), "Connection": "close"}
    lines |= {name.replace("_", "-").title(): text for name, text in headers.items()}
    head = "".join(f"{name}: {text}\r\n" for name, text in lines.items())
    return f"HTTP/1.1 {status} Fine\r\n{head}\r\n".encode() + body


def responds(status: int = 200, body: bytes = b"", **headers: str) -> ConnectionHandler:
    """Send one complete response."""
    return sends(reply(status, body, **headers))


def sends(*parts: bytes) -> ConnectionHandler:
    """Send these parts and close the connection."""

    async def handler(stream: ByteStream) -> None:
        for part in parts:
            await stream.send(part)

    return handler


def stalls(beginning: bytes = b"") -> ConnectionHandler:
    """Send a beginning and then nothing, for ever."""

    async def handler(stream: ByteStream) -> None:
        await stream.send(beginning)
        await anyio.sleep(NEVER)

    return handler


def drips(beginning: bytes, drop: bytes, every: float = 0.5) -> ConnectionHandler:
    """Send a beginning, then a few bytes now and then, for ever."""

    async def handler(stream: ByteStream) -> None:
        await stream.send(beginning)
        while True:
            await anyio.sleep(every)
            await stream.send(drop)

    return handler


def floods(beginning: bytes, wave: bytes) -> ConnectionHandler:
    """Send a beginning, then as much as the client reads, for ever."""

    async def handler(stream: ByteStream) -> None:
        await stream.send(beginning)
        while True:
            await stream.send(wave)

    return handler


def resets(beginning: bytes = b"") -> ConnectionHandler:
    """Send a beginning, let it arrive, and reset the connection."""

    async def handler(stream: ByteStream) -> None:
        await stream.send(beginning)
        await anyio.sleep(0.01)
        raw = stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    return handler


OK: Final = b"HTTP/1.1 200 OK\r\n"
CHUNKED: Final = OK + b"Transfer-Encoding: chunked\r\n\r\n"
EARLY_HINTS: Final = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
LENGTH_100: Final = OK + b"Content-Length: 100\r\n\r\n"

BREAKING: Final[dict[str, ConnectionHandler]] = {
    "closed": sends(),
    "reset before the header": resets(),
    "reset in the header": resets(OK + b"Content-"),
    "reset in the body": resets(LENGTH_100 + b"{"),
    "closed in the header": sends(OK + b"Content-"),
    "short body": sends(LENGTH_100 + b"{}"),
    "Content-Length of letters": sends(OK + b"Content-Length: ten\r\n\r\n{}"),
    "negative Content-Length": sends(OK + b"Content-Length: -1\r\n\r\n{}"),
    "two Content-Lengths": sends(OK + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "huge Content-Length": sends(OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\n{}"),
    "long Content-Length": sends(OK + b"Content-Length: 9000000000000000\r\n\r\n{}"),
    "chunks and a Content-Length": sends(
        OK + b"Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    ),
    "204 with a body": sends(b"HTTP/1.1 204 No Content\r\n\r\nok"),
    "space in a header name": sends(OK + b"X Odd: 1\r\nContent-Length: 2\r\n\r\nok"),
    "space before a colon": sends(OK + b"X-Odd : 1\r\nContent-Length: 2\r\n\r\nok"),
    "odd header in parts": sends(b"HTT", b"P/1.1 2", b"00 OK\r", b"\nX Odd: 1\r\n", b"\r\n"),
    "odd header after a 103": sends(EARLY_HINTS + OK + b"X Odd: 1\r\n\r\n"),
    "bad chunk": sends(CHUNKED + b"zz\r\n{}\r\n"),
    "short chunks": sends(CHUNKED + b"2\r\n{}\r\n"),
    "garbage": sends(b"\x00\xff\x00 what? \r\n\r\n"),
    "status line of letters": sends(b"HTTP/1.1 OK OK\r\n\r\n"),
    "many headers": sends(
        OK + b"".join(b"X-%d: 1\r\n" % number for number in range(5_000)) + b"\r\n"
    ),
    "long header": sends(OK + b"X-Long: " + b"a" * 200_000 + b"\r\n\r\n"),
    "megabytes of headers": sends(OK, *[b"X-Long: " + b"a" * 60_000 + b"\r\n"] * 400),
    "103 alone": sends(EARLY_HINTS),
    "odd header after a 500": sends(
        b"HTTP/1.1 500 Oops\r\nX Odd: 1\r\n\r\nHTTP/1.1 200 OK\r\n\r\n"
    ),
    "switching protocols": sends(b"HTTP/1.1 101 Switching\r\nUpgrade: h2c\r\n\r\n"),
}
"""Peers whose response breaks off or is not HTTP; the request ends at once."""

STALLING: Final[dict[str, ConnectionHandler]] = {
    "silence": stalls(),
    "silence after the status line": stalls(OK),
    "silence after the header": stalls(LENGTH_100),
    "dripped header": drips(OK + b"X-Slow: ", b"a"),
    "dripped headers": drips(OK, b"X-Slow: 1\r\n", every=1.0),
    "dripped body": drips(OK + b"Content-Length: 1000\r\n\r\n{", b" "),
    "dripped chunks": drips(CHUNKED, b"1\r\n \r\n"),
    "dripped body without a length": drips(OK + b"\r\n", b" "),
    "endless 1xx": drips(b"", b"HTTP/1.1 102 Processing\r\n\r\n", every=0.1),
}
"""Peers whose response never ends; the request ends at its deadline."""


@asynccontextmanager
async def proxy() -> AsyncIterator[Peer]:
    """Serve as an HTTP proxy on loopback, for CONNECT and for plain requests."""

    async def pass_on(source: ByteStream, target: ByteStream) -> None:
        try:
            while True:
                await target.send(await source.receive())
        except HANG_UP:
            return

    async def handler(stream: ByteStream) -> None:
        method, target, _ = server.lines[-1].split()
        if method != "CONNECT":
            await stream.send(reply(200, target.encode()))
            return
        host, _, port = target.rpartition(":")
        async with (
            await anyio.connect_tcp(host, int(port)) as there,
            anyio.create_task_group() as both,
        ):
            await stream.send(b"HTTP/1.1 200 Connected\r\n\r\n")
            both.start_soon(pass_on, stream, there)
            await pass_on(there, stream)
            both.cancel_scope.cancel()

    async with peer(handler) as server:
        yield server

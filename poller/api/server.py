"""The address, and how many may come, for how long, without saying what they want."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Container
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Final

import anyio
import structlog
from aiohttp import web

from poller.api.context import Premises
from poller.api.routes import application
from poller.core.errors import AddressTaken, ConfigError
from poller.runtime.address import Address, bracketed
from poller.settings.sources import DEFAULT

CONNECTIONS: Final = 100
IDLE: Final = 15.0
"""Seconds that a connection may take for the header of a request, or be without one."""
UNREAD: Final = 30.0
"""Seconds that a peer may leave unread what was sent to it."""
LAST_ANSWERS: Final = 0.5
SOCKET_MODE: Final = 0o660
LAG_EVERY: Final = 1.0

SILENT: Final = logging.getLogger("poller.api")
"""Where the library tells with a traceback that somebody does not speak HTTP."""

log = structlog.get_logger()


def door(premises: Premises) -> AbstractAsyncContextManager[None]:
    """Give what serves while its block runs.

    Raises ConfigError where it cannot listen, unless that is a default which nobody asked for:
    of two daemons on a machine the second has no door.
    """
    address = premises.address
    try:
        listener = _socket(address.path) if address.path else _port(address)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        why = "another process listens there" if is_taken else _reason(error)
        told = f"POLLER_LISTEN: cannot listen on {address}: {why}"
        if premises.config.found["POLLER_LISTEN"].origin != DEFAULT:
            raise (AddressTaken if is_taken else ConfigError)(told) from None
        log.error("door.shut", error=told, advice="set POLLER_LISTEN to another address, or off")
        return nullcontext()
    if not address.is_local and premises.config.settings.listen_token is None:
        advice = "set POLLER_LISTEN_TOKEN to serve more than probes, metrics and the version"
        log.warning("door.without_token", address=str(address), advice=advice)
    return _opened(premises, listener)


@asynccontextmanager
async def _opened(premises: Premises, listener: socket.socket) -> AsyncIterator[None]:
    runner = web.AppRunner(
        application(premises),
        access_log=None,
        logger=SILENT,
        keepalive_timeout=IDLE,
        shutdown_timeout=LAST_ANSWERS,
    )
    SILENT.setLevel(logging.CRITICAL)
    await runner.setup()
    server = await _serve(runner, premises, listener)
    log.info("door.open", address=_told(premises.address, listener))
    try:
        async with anyio.create_task_group() as measuring:
            measuring.start_soon(_measure_lag, premises, name="loop lag")
            yield
            measuring.cancel_scope.cancel()
    finally:
        server.close()
        premises.end()
        with anyio.move_on_after(4 * LAST_ANSWERS, shield=True):
            await runner.cleanup()
        if premises.address.path:
            with suppress(OSError):
                premises.address.path.unlink()


async def _serve(
    runner: web.AppRunner, premises: Premises, listener: socket.socket
) -> asyncio.Server:
    assert runner.server is not None
    doorman, loop = Doorman(runner.server, premises.busy), asyncio.get_running_loop()
    if premises.address.path:
        return await loop.create_unix_server(doorman, sock=listener)
    return await loop.create_server(doorman, sock=listener)


class Doorman:
    """Lets connections in, so many at a time: who says nothing longest makes room."""

    def __init__(self, server: web.Server, busy: Container[object]) -> None:
        self._server = server
        self._busy = busy

    def __call__(self) -> asyncio.BaseProtocol:
        """Give the next connection its protocol."""
        # The oldest first; those that make room are there for a moment more.
        connections = [it for it in self._server.connections if it.transport is not None]
        if len(connections) >= CONNECTIONS:
            silent = next((it for it in connections if it not in self._busy), None)
            if silent is None:
                return _Shut()
            silent.force_close()
        return self._server()


class _Shut(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _measure_lag(premises: Premises) -> None:
    now = premises.clock.monotonic  # the loop's own time is that of its last turn
    while True:
        began = now()
        await anyio.sleep(LAG_EVERY)
        premises.counts.loop_lag = max(now() - began - LAG_EVERY, 0.0)


def _port(address: Address) -> socket.socket:
    is_six = ":" in address.host
    listener = socket.create_server(
        (address.host, address.port), family=socket.AF_INET6 if is_six else socket.AF_INET
    )
    # What is accepted here inherits it: the system closes a connection whose peer reads nothing.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(UNREAD * 1_000))
    return listener


def _socket(path: Path) -> socket.socket:
    """Bind a socket for this user and group; nobody can connect before it is theirs alone."""
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(str(path))
        path.chmod(SOCKET_MODE)
    except OSError:
        listener.close()
        raise
    return listener


def _remove_stale(path: Path) -> None:
    """Remove the socket that a killed process has left. Raises OSError when it is in use."""
    if not path.is_socket():
        return
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
        else:
            raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def _reason(error: OSError) -> str:
    # The library adds the address to the system's words.
    return os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror)


def _told(address: Address, listener: socket.socket) -> str:
    """Write the address, with the port that port 0 became."""
    if address.path:
        return str(address)
    return f"http://{bracketed(address.host)}:{listener.getsockname()[1]}"

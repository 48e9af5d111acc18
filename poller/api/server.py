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

from poller.api.context import ApiContext
from poller.api.routes import application
from poller.core.errors import AddressInUse, ConfigError
from poller.runtime.address import ListenAddress, format_host

MAX_CONNECTIONS: Final = 100
IDLE_SECONDS: Final = 15.0
"""Seconds that a connection may take for the header of a request, or be without one."""
UNREAD: Final = 30.0
"""Seconds that a peer may leave unread what was sent to it."""
DRAIN_SECONDS: Final = 0.5
SOCKET_MODE: Final = 0o660
LAG_INTERVAL: Final = 1.0

AIOHTTP_LOGGER: Final = logging.getLogger("poller.api")
"""Where the library tells with a traceback that somebody does not speak HTTP."""

log = structlog.get_logger()


def serve(context: ApiContext) -> AbstractAsyncContextManager[None]:
    """Give what serves while its block runs.

    Raises ConfigError where it cannot listen, unless that is a default which nobody asked for:
    of two daemons on a machine the second has no door.
    """
    address = context.address
    try:
        listener = _socket(address.path) if address.path else _port(address)
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        why = "another process listens there" if is_taken else _reason(error)
        told = f"POLLER_LISTEN: cannot listen on {address}: {why}"
        if not context.config.is_default("POLLER_LISTEN"):
            raise (AddressInUse if is_taken else ConfigError)(told) from None
        log.error(
            "api.listen_failed", error=told, advice="set POLLER_LISTEN to another address, or off"
        )
        return nullcontext()
    if not address.is_local and context.config.settings.listen_token is None:
        advice = "set POLLER_LISTEN_TOKEN to serve more than probes, metrics and the version"
        log.warning("api.unauthenticated", address=str(address), advice=advice)
    return _opened(context, listener)


@asynccontextmanager
async def _opened(context: ApiContext, listener: socket.socket) -> AsyncIterator[None]:
    runner = web.AppRunner(
        application(context),
        access_log=None,
        logger=AIOHTTP_LOGGER,
        keepalive_timeout=IDLE_SECONDS,
        shutdown_timeout=DRAIN_SECONDS,
    )
    AIOHTTP_LOGGER.setLevel(logging.CRITICAL)
    await runner.setup()
    server = await _serve(runner, context, listener)
    log.info("api.listening", address=_told(context.address, listener))
    try:
        async with anyio.create_task_group() as measuring:
            measuring.start_soon(_measure_lag, context, name="loop lag")
            yield
            measuring.cancel_scope.cancel()
    finally:
        server.close()
        context.detach()
        with anyio.move_on_after(4 * DRAIN_SECONDS, shield=True):
            await runner.cleanup()
        if context.address.path:
            with suppress(OSError):
                context.address.path.unlink()


async def _serve(
    runner: web.AppRunner, context: ApiContext, listener: socket.socket
) -> asyncio.Server:
    assert runner.server is not None
    doorman, loop = ConnectionLimiter(runner.server, context.busy), asyncio.get_running_loop()
    if context.address.path:
        return await loop.create_unix_server(doorman, sock=listener)
    return await loop.create_server(doorman, sock=listener)


class ConnectionLimiter:
    """Lets connections in, so many at a time: who says nothing longest makes room."""

    def __init__(self, server: web.Server, busy: Container[object]) -> None:
        self._server = server
        self._busy = busy

    def __call__(self) -> asyncio.BaseProtocol:
        """Give the next connection its protocol."""
        # The oldest first; those that make room are there for a moment more.
        connections = [it for it in self._server.connections if it.transport is not None]
        if len(connections) >= MAX_CONNECTIONS:
            silent = next((it for it in connections if it not in self._busy), None)
            if silent is None:
                return _RejectedConnection()
            silent.force_close()
        return self._server()


class _RejectedConnection(asyncio.Protocol):
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()


async def _measure_lag(context: ApiContext) -> None:
    now = context.clock.monotonic  # the loop's own time is that of its last turn
    while True:
        began = now()
        await anyio.sleep(LAG_INTERVAL)
        context.counters.loop_lag = max(now() - began - LAG_INTERVAL, 0.0)


def _port(address: ListenAddress) -> socket.socket:
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


def _told(address: ListenAddress, listener: socket.socket) -> str:
    """Write the address, with the port that port 0 became."""
    if address.path:
        return str(address)
    return f"http://{format_host(address.host)}:{listener.getsockname()[1]}"

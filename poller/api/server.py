"""Bind the listeners, limit idle connections, and serve the API."""

import asyncio
import errno
import logging
import os
import socket
from collections.abc import AsyncIterator, Container
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import anyio
import structlog
from aiohttp import web

from poller.api.context import ApiContext
from poller.api.endpoint import CONTEXT
from poller.api.routes import application, metrics_application
from poller.core.errors import AddressInUse, ConfigError
from poller.runtime.address import ALL_ADDRESSES, ListenAddress

MAX_CONNECTIONS: Final = 100
"""More than can be busy: there is always one to close for a probe."""
MAX_UNREAD_BYTES: Final = 8 * 1024 * 1024
"""The size of all responses that clients have not read yet."""
SEND_BUFFER_BYTES: Final = 64 * 1024
"""The system's own buffer of a connection; it would grow to megabytes for a client that is slow."""
IDLE_TIMEOUT: Final = 15.0
"""Seconds that a connection may take for the header of a request, or stay without one."""
UNREAD_TIMEOUT: Final = 30.0
"""Seconds for which a peer may leave a response unread."""
DRAIN_SECONDS: Final = 0.5
SOCKET_MODE: Final = 0o660
ANY_IPV4: Final = "0.0.0.0"  # noqa: S104 - a wildcard address was configured
LAG_INTERVAL: Final = 1.0

SYSTEM_ADVICE: Final = {
    errno.ENOENT: "create the folder of the socket",
    errno.EADDRNOTAVAIL: "use an address of this machine, or :PORT for all of them",
    errno.EACCES: "use a folder that this user can write to, or a port above 1023",
}
AIOHTTP_LOGGER: Final = logging.getLogger("poller.api")
"""Where aiohttp logs a traceback for each client that does not speak HTTP."""

log = structlog.get_logger()


@asynccontextmanager
async def serve(context: ApiContext) -> AsyncIterator[None]:
    """Serve the API, and metrics at an address of their own, while the block runs.

    Raises ConfigError if an address cannot be used. If it is the default, which may belong to
    another daemon on this machine, log that instead and do not serve.
    """
    async with AsyncExitStack() as stack:
        api, metrics = application(context), metrics_application(context)
        if listener := _bind(context, "POLLER_LISTEN", context.address):
            _warn_unauthenticated(context)
            serving = _serve(api, context.address, listener, event="api.listening")
            context.limit_unread = (await stack.enter_async_context(serving)).limit_unread
        address = context.config.settings.metrics_listen
        if listener := _bind(context, "POLLER_METRICS_LISTEN", address):
            serving = _serve(metrics, address, listener, event="metrics.listening")
            await stack.enter_async_context(serving)
        async with anyio.create_task_group() as measuring:
            measuring.start_soon(_measure_lag, context, name="event loop lag")
            yield
            measuring.cancel_scope.cancel()


def _bind(context: ApiContext, variable: str, address: ListenAddress) -> socket.socket | None:
    """Bind an address; return None if it is off, or a default that cannot be used."""
    if address.is_off:
        return None
    try:
        return _bind_socket(address.path) if address.path else _bind_port(address)
    except OSError as error:
        is_in_use = error.errno == errno.EADDRINUSE
        reason = "the address is in use, perhaps by another daemon" if is_in_use else _reason(error)
        text = f"{variable}: cannot listen on {address}: {reason}"
        if not context.config.is_default(variable):
            raise (AddressInUse if is_in_use else ConfigError)(text) from None
        advice = f"set {variable} to another address, or off"
        log.error("api.listen_failed", error=text, advice=advice)
        return None


def _warn_unauthenticated(context: ApiContext) -> None:
    if not context.address.is_local and context.config.settings.listen_token is None:
        advice = "set POLLER_LISTEN_TOKEN to serve more than probes, metrics and the version"
        log.warning("api.unauthenticated", address=str(context.address), advice=advice)


@asynccontextmanager
async def _serve(
    app: web.Application, address: ListenAddress, listener: socket.socket, *, event: str
) -> AsyncIterator["ConnectionLimiter"]:
    """Serve an application, log that as an event, and yield the limiter of its connections."""
    context = app[CONTEXT]
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=AIOHTTP_LOGGER,
        keepalive_timeout=IDLE_TIMEOUT,
        shutdown_timeout=DRAIN_SECONDS,
    )
    AIOHTTP_LOGGER.setLevel(logging.CRITICAL)
    await runner.setup()
    assert runner.server is not None
    limiter = ConnectionLimiter(runner.server, context.busy_connections)
    server = await asyncio.get_running_loop().create_server(limiter, sock=listener)
    if not address.path:
        address = replace(address, port=listener.getsockname()[1])  # it was chosen for port 0
    log.info(event, address=str(address))
    try:
        yield limiter
    finally:
        server.close()
        context.detach()
        with anyio.move_on_after(4 * DRAIN_SECONDS, shield=True):
            await runner.cleanup()
        if address.path:
            with suppress(OSError):
                address.path.unlink()


class ConnectionLimiter:
    """Accept a limited number of connections: the longest idle one is closed for a new one.

    A connection without a complete request is idle, and so is one that reads a public path.
    """

    def __init__(self, server: web.Server, busy: Container[object]) -> None:
        self._server = server
        self._busy = busy

    def __call__(self) -> asyncio.BaseProtocol:
        """Return the protocol of a new connection."""
        connections = self._open_connections()
        idle = [connection for connection in connections if connection not in self._busy]
        # More than one if several came at once: they are listed a moment later.
        for longest_idle in idle[: max(len(connections) + 1 - MAX_CONNECTIONS, 0)]:
            longest_idle.force_close()
        return self._server()

    def limit_unread(self) -> None:
        """Close the connections whose clients leave the most unread, if it is too much in all."""
        unread = self.unread_bytes()
        transports = sorted(unread, key=unread.__getitem__)
        while sum(unread.values()) > MAX_UNREAD_BYTES:
            transport = transports.pop()
            del unread[transport]
            transport.abort()  # a close would wait until the client has read the rest

    def unread_bytes(self) -> dict[asyncio.Transport, int]:
        """Return how many bytes the client of each connection has not read yet."""
        transports = (connection.transport for connection in self._open_connections())
        return {
            transport: transport.get_write_buffer_size() for transport in transports if transport
        }

    def _open_connections(self) -> list[web.RequestHandler]:
        """Return the connections, in the order of their arrival."""
        # Those that were closed stay listed for a moment.
        return [connection for connection in self._server.connections if connection.transport]


async def _measure_lag(context: ApiContext) -> None:
    now = context.clock.monotonic  # the loop's own time is that of its last iteration
    while True:
        started_at = now()
        await anyio.sleep(LAG_INTERVAL)
        context.counters.loop_lag = max(now() - started_at - LAG_INTERVAL, 0.0)


def _bind_port(address: ListenAddress) -> socket.socket:
    """Bind a host and a port. All addresses are those of both families, if there are two."""
    host, is_dual = address.host, False
    if host == ALL_ADDRESSES:
        is_dual = socket.has_dualstack_ipv6()
        host = host if is_dual else ANY_IPV4
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.create_server((host, address.port), family=family, dualstack_ipv6=is_dual)
    # Accepted connections inherit both: the system closes them if the peer reads nothing.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux
        timeout_ms = int(UNREAD_TIMEOUT * 1_000)
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, timeout_ms)
    return listener


def _bind_socket(path: Path) -> socket.socket:
    """Bind a socket for this user and group. Set its mode before anyone can connect."""
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
    """Remove the socket of a killed process. Raises OSError if a process listens on it."""
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
    number = error.errno or 0
    # asyncio appends the address to the system's message.
    text = os.strerror(number) if number > 0 else str(error.strerror)
    return f"{text}; {SYSTEM_ADVICE[number]}" if number in SYSTEM_ADVICE else text

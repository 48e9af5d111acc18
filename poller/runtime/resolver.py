"""The addresses of host names, by the system's own resolver."""

import asyncio
import errno
import socket
from collections import defaultdict
from concurrent.futures import Future
from functools import cache, partial
from typing import Final

import anyio
from aiohttp.abc import AbstractResolver, ResolveResult

from poller.runtime.threads import call_in_thread

LOOKUP_TIMEOUT: Final = 60.0
"""Seconds after which a lookup is given up. Those of the C library usually end within 30."""
MAX_HUNG_LOOKUPS: Final = 4

Addresses = list[tuple[socket.AddressFamily, str]]


class SystemResolver(AbstractResolver):
    """Looks names up with `getaddrinfo`, each in a thread that everyone who needs it waits for.

    A lookup can hang, and nothing can end it. Names therefore share no pool that
    hanging ones could exhaust: a name costs one thread, however often it is needed. A lookup that
    was given up keeps its thread, and the next one starts beside it, as long as fewer than
    `MAX_HUNG_LOOKUPS` of the same name hang. The process does not wait for them at its exit.
    """

    def __init__(self) -> None:
        self._lookups: dict[str, Future[Addresses]] = {}
        self._hung: defaultdict[str, set[Future[Addresses]]] = defaultdict(set)

    def is_resolving(self, host: str) -> bool:
        """Return whether the name is being looked up."""
        return host in self._lookups

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Return every address of a name, in the system's order. Raises OSError."""
        lookup = self._lookups.get(host) or self._start(host)
        try:
            with anyio.fail_after(LOOKUP_TIMEOUT):
                addresses = await asyncio.wrap_future(lookup)
        except TimeoutError:
            self._give_up(host, lookup)
            raise OSError(errno.ETIMEDOUT, "the lookup does not end") from None
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=kind,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, address in addresses
            if family in {socket.AF_UNSPEC, kind}
        ]

    async def close(self) -> None:
        """Do nothing: all sessions share this resolver."""

    def _start(self, host: str) -> Future[Addresses]:
        lookup = self._lookups[host] = call_in_thread(partial(_look_up, host), "resolver")
        lookup.add_done_callback(lambda _: self._forget(host, lookup))
        return lookup

    def _give_up(self, host: str, lookup: Future[Addresses]) -> None:
        hung = self._hung[host]
        if len(hung) < MAX_HUNG_LOOKUPS:
            self._forget(host, lookup)
            hung.add(lookup)
            lookup.add_done_callback(hung.discard)

    def _forget(self, host: str, lookup: Future[Addresses]) -> None:
        if self._lookups.get(host) is lookup:
            del self._lookups[host]


@cache
def system_resolver() -> SystemResolver:
    """Return the resolver that all sessions of this process share."""
    return SystemResolver()


def _look_up(host: str) -> Addresses:
    """Return the addresses of a name. Raises OSError."""
    # As bytes, which Python passes on as they are.
    found = socket.getaddrinfo(
        host.encode(), None, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
    )
    return [(kind, _host(address)) for kind, _, _, _, address in found]


def _host(address: tuple[object, ...]) -> str:
    """Return the address alone; that of a link keeps the number of its interface."""
    scope = address[3:]
    return f"{address[0]}%{scope[0]}" if any(scope) else f"{address[0]}"

"""Host names, with a fake of the system's resolver that can hang."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator

import anyio
import pytest

from poller.runtime import resolver as resolver_module
from poller.runtime.http_values import OutboundSettings
from poller.runtime.resolver import MAX_HUNG_LOOKUPS, SystemResolver
from tests.support.fake_disk import FakeDisk
from tests.support.http_peers import peer, responds
from tests.support.http_requests import failure, get, session

REAL_GETADDRINFO = socket.getaddrinfo
NO_NAME = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class FakeSystem:
    """A resolver that knows some names; look-ups of the others hang until `released`."""

    def __init__(self) -> None:
        self.known: dict[str, list[tuple] | OSError] = {}
        self.lookups = Counter()
        self.released = threading.Event()

    def release(self) -> None:
        """End all look-ups."""
        self.released.set()
        for thread in threading.enumerate():
            if thread.name == "resolver":
                thread.join(60.0)

    def getaddrinfo(self, host: bytes | str, *arguments: object, **options: object) -> list[tuple]:
        """Answer as `socket.getaddrinfo` does, but leave loopback to it."""
        name = host if isinstance(host, str) else host.decode()
        if not name.endswith(".test"):
            return REAL_GETADDRINFO(host, *arguments, **options)
        self.lookups[name] += 1
        if name not in self.known:
            self.released.wait()
            return [ipv4("127.0.0.1")]
        if isinstance(found := self.known[name], OSError):
            raise found
        return found


def ipv4(host: str) -> tuple:
    """Return an address as `getaddrinfo` does."""
    return (socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, 0))


@pytest.fixture
def system(monkeypatch) -> Iterator[FakeSystem]:
    """Return a fake system with a new resolver of the process."""
    fake = FakeSystem()
    monkeypatch.setattr(resolver_module.socket, "getaddrinfo", fake.getaddrinfo)
    resolver_module.system_resolver.cache_clear()
    yield fake
    fake.release()


async def addresses(resolver: SystemResolver, host: str) -> list[str]:
    """Return the addresses of a host."""
    return [found["host"] for found in await resolver.resolve(host, 80)]


async def test_resolver_returns_all_addresses_in_order(system: FakeSystem):
    """Addresses of both families come in the system's order, those of a link with its interface."""
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 2)),
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
        ipv4("127.0.0.1"),
    ]
    system.known["a.test"] = found
    resolver = SystemResolver()

    assert await addresses(resolver, "a.test") == ["fe80::1%2", "::1", "127.0.0.1"]
    (only,) = await resolver.resolve("a.test", 80, socket.AF_INET)
    assert (only["host"], only["port"], only["family"]) == ("127.0.0.1", 80, socket.AF_INET)


async def test_resolver_remembers_nothing(system: FakeSystem):
    """A name that does not resolve is looked up anew the next time."""
    system.known["a.test"] = NO_NAME
    resolver = SystemResolver()
    with pytest.raises(OSError, match="Name or service not known"):
        await addresses(resolver, "a.test")
    system.known["a.test"] = [ipv4("127.0.0.7")]

    assert await addresses(resolver, "a.test") == ["127.0.0.7"]


async def test_resolver_hung_names_hold_up_no_other(system: FakeSystem):
    """While many names hang, at one thread each for all that wait, another one resolves."""
    system.known["api.test"] = [ipv4("127.0.0.1")]
    resolver, before = SystemResolver(), threading.active_count()
    async with anyio.create_task_group() as group:
        for number in range(20):
            for _ in range(3):
                group.start_soon(addresses, resolver, f"hung{number}.test")
        await anyio.wait_all_tasks_blocked()
        found, threads = await addresses(resolver, "api.test"), threading.active_count()
        group.cancel_scope.cancel()

    assert found == ["127.0.0.1"]
    assert threads - before <= 20
    assert set(system.lookups.values()) == {1}


async def test_resolver_waiter_that_leaves_cancels_no_other(system: FakeSystem):
    """Of two that wait for a name, one may give up; the other gets the result."""
    resolver, found = SystemResolver(), []

    async def keep_waiting() -> None:
        found.extend(await addresses(resolver, "slow.test"))

    async with anyio.create_task_group() as group:
        group.start_soon(keep_waiting)
        with anyio.move_on_after(0.0):
            await addresses(resolver, "slow.test")
        system.released.set()

    assert found == ["127.0.0.1"]


@pytest.mark.virtual(limit=10_000.0)
async def test_resolver_gives_up_hung_lookups(system: FakeSystem):
    """A name that hangs for ever is looked up anew, and a few threads are all it costs."""
    resolver = SystemResolver()
    for _ in range(2 * MAX_HUNG_LOOKUPS):
        with pytest.raises(OSError, match="does not end"):
            await addresses(resolver, "hung.test")
    system.release()

    assert system.lookups["hung.test"] == MAX_HUNG_LOOKUPS + 1


@pytest.mark.virtual(limit=10_000.0)
async def test_resolver_hung_lookups_of_one_name_bind_no_other(system: FakeSystem, monkeypatch):
    """A name whose lookup hung once resolves later, however many of another name still hang."""
    resolver = SystemResolver()
    for _ in range(2 * MAX_HUNG_LOOKUPS):
        with pytest.raises(OSError, match="does not end"):
            await addresses(resolver, "hung.test")
    with pytest.raises(OSError, match="does not end"):
        await addresses(resolver, "late.test")
    system.known["late.test"] = [ipv4("127.0.0.1")]
    monkeypatch.setattr(resolver_module, "call_in_thread", FakeDisk().begin)  # no time passes

    assert await addresses(resolver, "late.test") == ["127.0.0.1"]


async def test_resolver_without_threads(system: FakeSystem, monkeypatch):
    """Where no thread can be started, the name does not resolve this time."""

    def refuse(_thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    resolver = SystemResolver()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(OSError, match="start new thread"):
            await addresses(resolver, "a.test")
    system.known["a.test"] = [ipv4("127.0.0.1")]

    assert await addresses(resolver, "a.test") == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["nonexistent.test", "a..test", "a" * 64 + ".test"])
async def test_name_that_does_not_resolve(system: FakeSystem, host: str):
    """A name that is unknown, or that cannot be one, is an error that says so."""
    system.known[host] = NO_NAME

    text = await failure(f"https://{host}/secret")

    assert text == f"{host}: the name does not resolve (Name or service not known); check its URL"


async def test_name_of_a_proxy_that_does_not_resolve(system: FakeSystem):
    """An unknown name of the proxy is the proxy's, not the URL's."""
    system.known["proxy.test"] = NO_NAME
    outbound = OutboundSettings(proxy_for=lambda *_: "http://me:canary@proxy.test:3128")

    text = await failure("https://a.test/secret", outbound)

    error = "proxy.test: the name does not resolve (Name or service not known)"
    assert text == f"{error}; check POLLER_PROXY, or HTTPS_PROXY and HTTP_PROXY"


@pytest.mark.virtual(limit=60.0)
async def test_name_whose_lookup_hangs(system: FakeSystem):
    """A request whose name hangs ends at its deadline, with the reason."""
    text = await failure("https://silent.test/secret", limit=30.0)

    assert text == "silent.test: the name does not resolve within 30 s; check its URL"
    assert anyio.current_time() <= 31.0


async def test_request_tries_the_other_addresses(system: FakeSystem):
    """Where one address of a name refuses the connection, the next one is used."""
    async with peer(responds(200, b"{}")) as server, session() as http:
        system.known["dual.test"] = [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0)),
            ipv4("127.0.0.1"),
        ]
        response = await get(http, server.base.replace("127.0.0.1", "dual.test"))

    assert response.body == b"{}"

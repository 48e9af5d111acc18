"""Host names with real resolvers: they are silent, know no such name, change, or are a file."""

import os
import shutil
import signal
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from subprocess import DEVNULL
from typing import Final, Literal

import anyio
import pytest

from poller.cli.exit_codes import TIMED_OUT
from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import (
    SCALE,
    ForkedProcess,
    ProcessForker,
    process_forker,
    tally,
)
from tests.support.waiting import now, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("unshare"),
        reason="needs root and unshare, to give a process a resolver of its own",
    ),
]

PROMISE = "a name that does not resolve costs one thread, and nothing is lost"
RESOLVER: Final = f"127.77.{os.getpid() >> 8 & 255}.{os.getpid() & 255}"
"""A loopback address that no other test run uses."""
API_HOST: Final = "api.sutro.test"
DEAD: Final = b"\4dead"
HEADER_BYTES: Final = 12
"""Bytes before the question of a DNS message (RFC 1035 4.1)."""


@dataclass
class DnsServer:
    """A DNS server that knows all names, none, or does not respond, as never about `dead`."""

    mode: Literal["silent", "unknown", "good"] = "silent"
    queries: int = 0

    async def serve(self) -> None:
        """Serve on a loopback address that no one else uses."""
        async with await anyio.create_udp_socket(local_host=RESOLVER, local_port=53) as socket:
            async for query, (host, port) in socket:
                self.queries += 1
                if self.mode != "silent" and DEAD not in query:
                    await socket.sendto(self.answer(query), host, port)

    def answer(self, query: bytes) -> bytes:
        """Return a response: the address of loopback, or no such name, to be kept for 600 s."""
        end = query.index(b"\0", HEADER_BYTES) + 5
        question, kind = query[HEADER_BYTES:end], query[end - 4 : end - 2]
        if self.mode == "unknown":
            return query[:2] + b"\x81\x83\0\1\0\0\0\1\0\0" + question + START_OF_AUTHORITY
        answers = A_RECORD if kind == b"\0\x01" else b""
        flags = b"\x81\x80\0\1" + (b"\0\1" if answers else b"\0\0") + bytes(4)
        return query[:2] + flags + question + answers


A_RECORD: Final = b"\xc0\x0c\0\x01\0\x01" + bytes(4) + b"\0\x04" + IPv4Address("127.0.0.1").packed
START_OF_AUTHORITY: Final = (
    b"\0\0\x06\0\x01\0\0\x02\x58\0\x16\0\0" + bytes(16) + (600).to_bytes(4, "big")
)
"""That of the root, whose minimum of 600 s is how long a negative response may be kept."""


def threads(child: ForkedProcess) -> int:
    """Return the number of threads of a process."""
    return len(list(Path(f"/proc/{child.pid}/task").iterdir()))


@dataclass(frozen=True)
class Namespace:
    """A daemon's own /etc, and the servers around it, whose API has a name."""

    etc: Path
    dns: DnsServer
    servers: FakeServers
    forker: ProcessForker
    folder: Path
    enter: tuple[str, ...]

    @property
    def variables(self) -> dict[str, str]:
        """The environment of a daemon."""
        settings = {"POLLER_REQUEST_TIMEOUT": "0.3s", "POLLER_ALLOW_HTTP": "on"}
        return environment(self.servers, self.folder, **settings)

    async def start(self, **settings: str) -> ForkedProcess:
        """Start a daemon."""
        return await self.forker.start(self.variables | settings, self.folder / "log")

    async def failed(self, child: ForkedProcess, words: str) -> None:
        """Wait until requests have failed for a reason."""
        await until(lambda: words in child.text)


@asynccontextmanager
async def namespace(
    command: Path,
    folder: Path,
    *,
    prepare: Callable[[Path], object],
    then: str = ":",
    jobs: int = 1,
) -> AsyncIterator[Namespace]:
    """Serve in a namespace with an /etc of its own: `prepare` changes it, `then` is a command."""
    etc, dns, servers = folder / "etc", DnsServer(), FakeServers(now, SCALE.random("names"))
    shutil.copytree("/etc", etc, symlinks=True)
    (etc / "resolv.conf").unlink()
    prepare(etc)
    script = f'mount --bind {etc} /etc && {then} && exec "$@"'
    enter = ("unshare", "-m", "sh", "-c", script, "-")
    async with (
        anyio.create_task_group() as group,
        serving(servers),
        process_forker(command, *enter) as forker,
    ):
        group.start_soon(dns.serve)
        for number in range(jobs):
            servers.add(f"job-{number}")
        servers.api_url = servers.api_url.replace("127.0.0.1", API_HOST)
        yield Namespace(etc, dns, servers, forker, folder, enter)
        group.cancel_scope.cancel()


def slow_resolver(etc: Path) -> None:
    """Have look-ups wait for long, so that those of silent name servers hang."""
    conf = f"nameserver {RESOLVER}\noptions timeout:30 attempts:1\n"
    (etc / "resolv.conf").write_text(conf, "utf-8")


@pytest.mark.slow
async def test_dns_failures_cost_no_threads(command: Path, tmp_path: Path):
    """However many look-ups hang or fail, they cost one thread, and every event arrives."""
    thread_counts = []
    async with namespace(command, tmp_path, prepare=slow_resolver, jobs=10) as world:
        dns = world.dns
        child = await world.start()
        await until(lambda: dns.queries)
        thread_counts.append(threads(child))
        for dns.mode in ("silent", "unknown") * SCALE.cases(1, 20):
            await anyio.sleep(3.0)
            thread_counts.append(threads(child))
        dns.mode, failed = "good", dns.queries
        await until(lambda: world.servers.is_reported)
        code = await child.stop()

    violations = [f"threads: {thread_counts}"] if max(thread_counts) > thread_counts[0] + 1 else []
    tally(PROMISE, cases=failed, violations=violations)
    assert code == 0


@pytest.mark.parametrize("arguments", [["run"], ["wait", "job-0", "--timeout", "1s"]])
async def test_dns_hung_lookup_delays_no_exit(command: Path, tmp_path: Path, arguments: list[str]):
    """A process ends in time although a look-up hangs."""
    async with namespace(command, tmp_path, prepare=slow_resolver) as world:
        order = [*world.enter, str(command), *arguments]
        async with await anyio.open_process(order, env=world.variables, stdout=DEVNULL) as process:
            await until(lambda: world.dns.queries)
            if arguments == ["run"]:
                process.send_signal(signal.SIGTERM)
            with anyio.fail_after(25.0):
                code = await process.wait()

    assert code == (0 if arguments == ["run"] else TIMED_OUT)


async def test_dns_dead_names_hold_up_no_other(command: Path, tmp_path: Path):
    """Webhooks whose names hang hold up neither another webhook nor the API."""
    async with namespace(command, tmp_path, prepare=slow_resolver) as world:
        world.dns.mode = "good"
        world.servers.hook_url = world.servers.hook_url.replace("127.0.0.1", "hook.sutro.test")
        names = [f"dead{number}" for number in range(8)]
        dead = {f"POLLER_WEBHOOK_{name.upper()}_URL": f"http://dead.{name}/" for name in names}
        sinks = ",".join(f"webhook.{name}" for name in names)
        child = await world.start(POLLER_SINKS=f"{sinks},webhook", **dead)
        await until(lambda: world.servers.is_reported, within=25.0)
        await until(lambda: threads(child) > len(names))
        assert "does not resolve" not in child.text  # all of them hang still
        await child.kill()


GONE: Final = "nameserver 127.77.0.1\n"
HERE: Final = f"nameserver {RESOLVER}\n"


def linked_resolver(etc: Path) -> None:
    """Keep the name servers where a link points to, as systemd-resolved and others do."""
    (etc / "resolv.conf").symlink_to("target.conf")
    (etc / "target.conf").write_text(GONE, "utf-8")
    (etc / "mounted.conf").write_text(GONE, "utf-8")


def new_target(world: Namespace) -> None:
    """Replace the target of the link."""
    (world.etc / "new.conf").write_text(HERE, "utf-8")
    (world.etc / "new.conf").rename(world.etc / "target.conf")


def new_content(world: Namespace) -> None:
    """Write the mounted file in place, as container engines do."""
    (world.etc / "mounted.conf").write_text(HERE, "utf-8")


@pytest.mark.parametrize(
    ("change", "then"),
    [(new_target, ":"), (new_content, "mount --bind /etc/mounted.conf /etc/target.conf")],
)
async def test_dns_change_of_the_name_servers(
    command: Path, tmp_path: Path, change: Callable[[Namespace], None], then: str
):
    """A daemon that started with a wrong name server uses the right one once it is configured."""
    async with namespace(command, tmp_path, prepare=linked_resolver, then=then) as world:
        world.dns.mode = "good"
        child = await world.start()
        await world.failed(child, "does not resolve")
        change(world)
        await until(lambda: world.servers.is_reported)
        await child.kill()


async def test_dns_new_name(command: Path, tmp_path: Path):
    """A name that comes to exist is found, however long its absence may be cached elsewhere."""
    async with namespace(command, tmp_path, prepare=slow_resolver) as world:
        world.dns.mode = "unknown"
        child = await world.start()
        await world.failed(child, "does not resolve")
        world.dns.mode = "good"
        await until(lambda: world.servers.is_reported)
        await child.kill()


def shared_addresses(etc: Path) -> None:
    """Have a name with an address of each family, and another that shares one of them."""
    (etc / "resolv.conf").touch()
    (etc / "hosts").write_text(
        f"127.0.0.1 localhost\n::1 {API_HOST}\n127.0.0.1 {API_HOST}\n"
        "127.0.0.1 other.test\n127.77.0.2 other.test\n",
        "utf-8",
    )


async def test_dns_addresses_of_the_hosts_file(command: Path, tmp_path: Path):
    """All addresses of a name are tried, and none of a name that shares an address with it."""
    async with namespace(command, tmp_path, prepare=shared_addresses) as world:
        port = int(world.servers.api_url.rpartition(":")[2].partition("/")[0])
        with socket.create_server(("127.77.0.2", port)) as stranger:
            stranger.setblocking(False)
            child = await world.start()
            await until(lambda: world.servers.is_reported)
            await child.kill()
            with pytest.raises(BlockingIOError):
                stranger.accept()

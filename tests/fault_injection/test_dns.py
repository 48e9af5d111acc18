"""Host names that do not resolve: the DNS server is silent, or knows no such name."""

import os
import shutil
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal

import anyio
import pytest

from tests.fault_injection.fake_servers import FakeServers, environment, serving
from tests.fault_injection.harness import SCALE, ForkedProcess, process_forker, tally
from tests.support.waiting import now, until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(
        os.geteuid() != 0 or not shutil.which("unshare"),
        reason="needs root and unshare, to give a process a resolver of its own",
    ),
]

PROMISE = "names that do not resolve cost no threads, and nothing is lost"
RESOLVER: Final = "127.77.7.7"
HEADER_BYTES: Final = 12
"""Bytes before the question of a DNS message (RFC 1035 4.1)."""


@dataclass
class DnsServer:
    """A DNS server that knows all names, none, or does not respond."""

    mode: Literal["silent", "unknown", "good"] = "silent"
    queries: int = 0

    async def serve(self) -> None:
        """Serve on a loopback address that no one else uses."""
        async with await anyio.create_udp_socket(local_host=RESOLVER, local_port=53) as socket:
            async for query, (host, port) in socket:
                self.queries += 1
                if self.mode != "silent":
                    await socket.sendto(self.answer(query), host, port)

    def answer(self, query: bytes) -> bytes:
        """Return a response: no such name, or the address of loopback."""
        end = query.index(b"\0", HEADER_BYTES) + 5
        question, kind = query[HEADER_BYTES:end], query[end - 4 : end - 2]
        is_known = self.mode == "good"
        found = is_known and kind == b"\0\x01"
        flags = b"\x81\x80" if is_known else b"\x81\x83"
        head = query[:2] + flags + b"\0\x01" + (b"\0\x01" if found else b"\0\0") + bytes(4)
        record = b"\xc0\x0c\0\x01\0\x01" + bytes(4) + b"\0\x04" + IPv4Address("127.0.0.1").packed
        return head + question + (record if found else b"")


def threads(child: ForkedProcess) -> int:
    """Return the number of threads of a process."""
    return len(list(Path(f"/proc/{child.pid}/task").iterdir()))


async def test_dns_failures_cost_no_threads(command: Path, tmp_path: Path):
    """However many look-ups hang or fail, there are no more threads, and every event arrives."""
    dns, thread_counts = DnsServer(), []
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {RESOLVER}\noptions timeout:30 attempts:1\n")
    with_resolver = (
        "unshare",
        "-m",
        "sh",
        "-c",
        f'mount --bind {conf} /etc/resolv.conf && exec "$@"',
        "-",
    )
    servers = FakeServers(now, SCALE.random("names"))
    async with (
        anyio.create_task_group() as group,
        serving(servers),
        process_forker(command, *with_resolver) as forker,
    ):
        group.start_soon(dns.serve)
        for number in range(10):
            servers.add(f"job-{number}")
        servers.api_url = servers.api_url.replace("127.0.0.1", "api.sutro.test")
        settings = {"POLLER_REQUEST_TIMEOUT": "0.3s", "POLLER_ALLOW_HTTP": "on"}
        child = await forker.start(environment(servers, tmp_path, **settings), tmp_path / "log")
        await until(lambda: dns.queries)
        thread_counts.append(threads(child))
        for dns.mode in ("silent", "unknown") * SCALE.cases(1, 20):
            await anyio.sleep(3.0)
            thread_counts.append(threads(child))
        dns.mode, failed = "good", dns.queries
        await until(lambda: servers.is_reported, within=90.0)
        code = await child.stop()
        group.cancel_scope.cancel()

    violations = [f"threads: {thread_counts}"] if max(thread_counts) > thread_counts[0] + 1 else []
    tally(PROMISE, cases=failed, violations=violations)
    assert code == 0

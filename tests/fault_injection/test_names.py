"""Names that do not resolve: a resolver that answers never, or that there is no such name."""

import os
import shutil
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Final, Literal

import anyio
import pytest

from tests.fault_injection.rig import SCALE, Child, nursery, tally
from tests.fault_injection.world import World, environment, inhabited
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
HEADER: Final = 12
"""Bytes before the question of a DNS message (RFC 1035 4.1)."""


@dataclass
class Names:
    """A DNS server that knows all names, none, or does not answer."""

    mood: Literal["silent", "ignorant", "good"] = "silent"
    asked: int = 0

    async def serve(self) -> None:
        """Answer on a loopback address that nobody else has."""
        async with await anyio.create_udp_socket(local_host=RESOLVER, local_port=53) as socket:
            async for query, (host, port) in socket:
                self.asked += 1
                if self.mood != "silent":
                    await socket.sendto(self.answer(query), host, port)

    def answer(self, query: bytes) -> bytes:
        """Say that there is no such name, or that it is loopback's."""
        end = query.index(b"\0", HEADER) + 5
        question, kind = query[HEADER:end], query[end - 4 : end - 2]
        is_there = self.mood == "good"
        found = is_there and kind == b"\0\x01"
        flags = b"\x81\x80" if is_there else b"\x81\x83"
        head = query[:2] + flags + b"\0\x01" + (b"\0\x01" if found else b"\0\0") + bytes(4)
        record = b"\xc0\x0c\0\x01\0\x01" + bytes(4) + b"\0\x04" + IPv4Address("127.0.0.1").packed
        return head + question + (record if found else b"")


def threads(child: Child) -> int:
    """Count a process's threads."""
    return len(list(Path(f"/proc/{child.pid}/task").iterdir()))


async def test_names_that_do_not_resolve(command: Path, tmp_path: Path):
    """However many look-ups hang or fail, there are no more threads, and then all is told."""
    names, counted = Names(), []
    conf = tmp_path / "resolv.conf"
    conf.write_text(f"nameserver {RESOLVER}\noptions timeout:30 attempts:1\n")
    rebound = (
        "unshare",
        "-m",
        "sh",
        "-c",
        f'mount --bind {conf} /etc/resolv.conf && exec "$@"',
        "-",
    )
    world = World(now, SCALE.random("names"))
    async with (
        anyio.create_task_group() as group,
        inhabited(world),
        nursery(command, *rebound) as births,
    ):
        group.start_soon(names.serve)
        for number in range(10):
            world.add(f"job-{number}")
        world.api_url = world.api_url.replace("127.0.0.1", "api.sutro.test")
        few = {"POLLER_REQUEST_TIMEOUT": "0.3s", "POLLER_ALLOW_HTTP": "on"}
        child = await births.bear(environment(world, tmp_path, **few), tmp_path / "log")
        await until(lambda: names.asked)
        counted.append(threads(child))
        for names.mood in ("silent", "ignorant") * SCALE.cases(1, 20):
            await anyio.sleep(3.0)
            counted.append(threads(child))
        names.mood, failed = "good", names.asked
        await until(lambda: world.is_told, within=90.0)
        code = await child.stop()
        group.cancel_scope.cancel()

    violations = [f"threads: {counted}"] if max(counted) > counted[0] + 1 else []
    tally(PROMISE, cases=failed, violations=violations)
    assert code == 0

"""The service `sutro-poller` of a host: its environment file, commands, properties and log."""

import json
import shlex
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import anyio

from tests.deploy.host import Host, eventually
from tests.support.daemon_process import Place
from tests.support.waiting import now

UNIT: Final = "sutro-poller.service"
FOLDER: Final = "/etc/sutro-poller"
STATE: Final = "/var/lib/sutro-poller/state.db"
REPLACED: Final = dict.fromkeys(("PATH", "HOME", "SUTRO_API_KEY", "POLLER_STORE", "POLLER_LISTEN"))
"""Variables that the unit sets or replaces."""


@dataclass(frozen=True, slots=True)
class Service:
    """The installed unit, between an API and a receiver."""

    host: Host
    place: Place
    since: float

    async def configure(self, **changes: str | None) -> None:
        """Write its environment file."""
        variables = self.place.environment(REPLACED | changes)
        lines = [f"{name}={shlex.quote(text)}\n" for name, text in variables.items()]
        await self.host.write(f"{FOLDER}/poller.env", "".join(lines))

    async def start(self, **changes: str | None) -> None:
        """Start it with some variables, and wait until it is ready."""
        await self.configure(**changes)
        await self.ctl("start")

    async def ctl(self, *words: str) -> None:
        """Run a command of systemctl that must succeed."""
        verb, *options = words
        await self.host.run("systemctl", verb, *options, UNIT)

    @asynccontextmanager
    async def overridden(self, setting: str) -> AsyncIterator[None]:
        """Change one setting of the unit by a drop-in while the block runs."""
        folder = f"/run/systemd/system/{UNIT}.d"
        await self.host.write(f"{folder}/test.conf", f"[Service]\n{setting}\n", mode="0644")
        await self.host.run("systemctl", "daemon-reload")
        try:
            yield
        finally:
            with anyio.CancelScope(shield=True):
                await self.host.run("rm", "-r", folder)
                await self.host.run("systemctl", "daemon-reload")

    async def show(self, *names: str) -> list[str]:
        """Return its properties, in the order of the names."""
        text = await self.host.run(
            "systemctl", "show", *(f"--property={name}" for name in names), UNIT
        )
        found = dict(line.split("=", 1) for line in text.splitlines())
        return [found[name] for name in names]

    async def pid(self) -> int:
        """Return its process id there."""
        (pid,) = await self.show("MainPID")
        return int(pid)

    async def becomes(self, *, within: float = 120.0, **wanted: str) -> None:
        """Wait until its properties have the given values."""

        async def is_so() -> bool:
            return await self.show(*wanted) == list(wanted.values())

        await eventually(is_so, within=within)

    async def journal(self, *matches: str) -> list[str]:
        """Return the journal of a service since the test began."""
        since = f"--since=@{self.since:.6f}"
        options = ["--output=cat", "--no-pager", "--quiet", since]
        return (await self.host.run("journalctl", *options, *matches)).splitlines()

    async def said(self, event: str) -> list[dict[str, Any]]:
        """Return its log lines of an event."""
        lines = await self.journal(f"_SYSTEMD_UNIT={UNIT}")
        entries = [json.loads(line) for line in lines if line.startswith("{")]
        return [entry for entry in entries if entry["event"] == event]

    async def saying(self, event: str) -> list[dict[str, Any]]:
        """Wait for a log line of an event."""
        return await eventually(partial(self.said, event))


@asynccontextmanager
async def clean_service(host: Host, place: Place) -> AsyncIterator[Service]:
    """Yield the service without a state; write its journal to the folder afterwards."""
    service = Service(host, place, now())
    try:
        yield service
    finally:
        with anyio.CancelScope(shield=True):
            await host.code("systemctl", "stop", UNIT)
            (place.folder / "journal").write_text("\n".join(await service.journal()), "utf-8")
            await host.code("systemctl", "reset-failed", UNIT)  # it may not have failed
            await service.ctl("clean", "--what=state")

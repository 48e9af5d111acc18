"""The service `sutro-poller` of a host: its environment file, its verbs, what it shows and logs."""

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
ELSEWHERE: Final = dict.fromkeys(("PATH", "HOME", "SUTRO_API_KEY", "POLLER_STORE", "POLLER_LISTEN"))
"""Variables that the unit brings, or replaces by what a unit has."""


@dataclass(frozen=True, slots=True)
class Service:
    """The installed unit, between the API and the receiver of a place."""

    host: Host
    place: Place
    since: float

    async def configure(self, **changes: str | None) -> None:
        """Write its environment file."""
        variables = self.place.environment(ELSEWHERE | changes)
        lines = [f"{name}={shlex.quote(text)}\n" for name, text in variables.items()]
        await self.host.write(f"{FOLDER}/poller.env", "".join(lines))

    async def start(self, **changes: str | None) -> None:
        """Start it with some variables; this is over when it has said that it is ready."""
        await self.configure(**changes)
        await self.ctl("start")

    async def ctl(self, *words: str) -> None:
        """Do something with it that has to succeed."""
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
        """Give properties of it, in the order of the names."""
        text = await self.host.run("systemctl", "show", *(f"--property={it}" for it in names), UNIT)
        found = dict(line.split("=", 1) for line in text.splitlines())
        return [found[it] for it in names]

    async def pid(self) -> int:
        """Give its process id there."""
        (pid,) = await self.show("MainPID")
        return int(pid)

    async def becomes(self, *, within: float = 30.0, **wanted: str) -> None:
        """Wait until properties are what is wanted."""

        async def is_so() -> bool:
            return await self.show(*wanted) == list(wanted.values())

        await eventually(is_so, within=within)

    async def poll_log(self, *matches: str) -> list[str]:
        """Give what the journal has of a service since this one's test began."""
        since = f"--since=@{self.since:.6f}"
        options = ["--output=cat", "--no-pager", "--quiet", since]
        return (await self.host.run("journalctl", *options, *matches)).splitlines()

    async def said(self, event: str) -> list[dict[str, Any]]:
        """Give its log lines of one name."""
        lines = await self.poll_log(f"_SYSTEMD_UNIT={UNIT}")
        told = [json.loads(it) for it in lines if it.startswith("{")]
        return [it for it in told if it["event"] == event]

    async def saying(self, event: str) -> list[dict[str, Any]]:
        """Wait for a log line of a name."""
        return await eventually(partial(self.said, event))


@asynccontextmanager
async def serving(host: Host, place: Place) -> AsyncIterator[Service]:
    """Give the service without a state; afterwards leave in the place all that it logged."""
    it = Service(host, place, now())
    try:
        yield it
    finally:
        with anyio.CancelScope(shield=True):
            await host.code("systemctl", "stop", UNIT)
            (place.folder / "journal").write_text("\n".join(await it.poll_log()), "utf-8")
            await host.code("systemctl", "reset-failed", UNIT)  # it need not have failed
            await it.ctl("clean", "--what=state")

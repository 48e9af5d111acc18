"""Notifications to systemd: when they are sent, and what they contain."""

import math
import os
import socket
import time
from dataclasses import dataclass, field
from types import SimpleNamespace

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import StoreUnavailable
from poller.runtime.systemd import SystemdNotifier
from poller.status import Health
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.support.fakes import FailingStore
from tests.support.notify_socket import listening
from tests.support.running_app import KEY, Receiver, an_app, in_memory, running_app, served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=10_000.0)

PID = 4_711
NOWHERE = "http://127.0.0.1:9"
"""A URL at which nothing listens."""


@pytest.fixture
def systemd():
    """Listen at a path."""
    with listening() as opened:
        yield opened


@dataclass
class FakeStatus:
    """A status that the test sets."""

    health: Health = field(default_factory=lambda: Health(is_running=True))
    text: str = "jobs: 1 RUNNING"

    async def line(self):
        """Return the text."""
        return self.text


async def run(notifier, daemon_status):
    """Run a notifier on a status."""
    await notifier.run(lambda: daemon_status.health.stalled, daemon_status.line)


async def run_for(seconds, notifier, daemon_status):
    """Run a notifier on a status for some time."""
    with anyio.move_on_after(seconds):
        await run(notifier, daemon_status)


@pytest.mark.parametrize(
    "name", [None, f"sutro-poller/test/{os.getpid()}"], ids=["path", "abstract"]
)
async def test_systemd_address_is_a_path_or_an_abstract_name(name):
    """The socket has a path, or an abstract name, which begins with @ in the variable."""
    with listening(name) as systemd:
        notifier = SystemdNotifier.of({"NOTIFY_SOCKET": systemd.address}, PID)
        await run_for(1.0, notifier, FakeStatus())
        messages = systemd.messages

    assert messages == [{"READY": "1"}, {"STATUS": "jobs: 1 RUNNING"}]


async def test_systemd_notifier_does_nothing_outside_systemd(monkeypatch):
    """Without NOTIFY_SOCKET no socket is opened, and nothing waits."""
    monkeypatch.setattr(socket, "socket", None)
    notifier = SystemdNotifier.of({"WATCHDOG_USEC": "1000"}, PID)
    await run(notifier, FakeStatus())
    with notifier.reloading():
        notifier.status("well")
    notifier.stopping()

    assert anyio.current_time() == 0.0


@pytest.mark.parametrize(
    ("variables", "seconds"),
    [
        ({}, math.inf),
        ({"WATCHDOG_USEC": "60000000"}, 60.0),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": str(PID)}, 0.5),
        ({"WATCHDOG_USEC": "500000", "WATCHDOG_PID": "1"}, math.inf),
        ({"WATCHDOG_USEC": "0"}, math.inf),
        ({"WATCHDOG_USEC": "soon"}, math.inf),
        ({"WATCHDOG_USEC": ""}, math.inf),
    ],
)
async def test_watchdog_interval_is_read_from_the_environment(variables, seconds):
    """It is WATCHDOG_USEC, unless that is for another process or invalid."""
    assert SystemdNotifier.of(variables, PID).watchdog == seconds


async def test_watchdog_notifications_come_four_times_per_interval(systemd):
    """With an interval of a minute one is sent every 15 s."""
    await run_for(50.0, SystemdNotifier(systemd.address, watchdog=60.0), FakeStatus())

    assert systemd.names == ["READY", "WATCHDOG", "WATCHDOG", "WATCHDOG"]


async def test_watchdog_is_notified_in_time_after_one_late_moment(systemd):
    """A notification that is left out once leaves half of the interval for the next one."""
    stalled = iter([("polling",), (), ()])
    notifier = SystemdNotifier(systemd.address, watchdog=60.0)
    with anyio.move_on_after(31.0):
        await notifier.run(lambda: next(stalled), FakeStatus().line)

    assert systemd.names == ["READY", "WATCHDOG"]


async def test_watchdog_is_not_notified_while_a_loop_is_stalled(systemd):
    """The log names the stalled loops instead; when they run again, notifications resume."""
    daemon_status = FakeStatus()
    with capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(run, SystemdNotifier(systemd.address, watchdog=60.0), daemon_status)
            await anyio.sleep(16.0)
            daemon_status.health = Health(is_running=True, stalled=("polling", "recording"))
            await anyio.sleep(30.0)
            stalled = list(systemd.names)
            daemon_status.health = Health(is_running=True)
            await anyio.sleep(15.0)
            group.cancel_scope.cancel()

    assert stalled == ["READY", "WATCHDOG"]
    assert systemd.names == [*stalled, "WATCHDOG"]
    assert [line["stalled"] for line in lines if line["event"] == "watchdog.skipped"] == [
        "polling,recording"
    ] * 2


async def test_watchdog_does_not_wait_for_a_slow_status(systemd):
    """WATCHDOG is sent while the status is still being read."""
    daemon_status = SimpleNamespace(health=Health(is_running=True), line=anyio.sleep_forever)
    await run_for(20.0, SystemdNotifier(systemd.address, watchdog=60.0), daemon_status)

    assert systemd.names == ["READY", "WATCHDOG"]


async def test_status_is_sent_when_it_changes(systemd):
    """The same status is sent once, a new one within ten seconds."""
    daemon_status = FakeStatus()
    async with anyio.create_task_group() as group:
        group.start_soon(run, SystemdNotifier(systemd.address), daemon_status)
        await anyio.sleep(100.0)
        daemon_status.text = "jobs: 1 SUCCEEDED"
        await anyio.sleep(10.0)
        group.cancel_scope.cancel()

    assert systemd.statuses == ["jobs: 1 RUNNING", "jobs: 1 SUCCEEDED"]


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("the disk\nREADY=1", "the disk READY=1"),
        ("\N{PILE OF POO}" * 5_000, "\N{PILE OF POO}" * 1_000),
        ("\udcff", "?"),
    ],
    ids=["lines", "long", "surrogate"],
)
async def test_status_is_one_short_line(systemd, text, sent):
    """No text of an error can become another assignment or be too long for systemd."""
    SystemdNotifier(systemd.address).status(text)

    assert systemd.messages == [{"STATUS": sent}]


async def test_systemd_socket_that_is_closed_is_only_logged(systemd):
    """If systemd does not listen, a warning is logged."""
    systemd.close()
    with capture_logs() as lines:
        SystemdNotifier(systemd.address).stopping()

    assert [(line["event"], line["variable"]) for line in lines] == [
        ("systemd.notify_failed", "STOPPING")
    ]


async def test_systemd_socket_that_is_full_blocks_nothing(systemd):
    """When the socket is full, the notification is dropped at once."""
    with capture_logs() as lines:
        for number in range(1_000):
            SystemdNotifier(systemd.address).status(str(number))

    assert lines[0]["event"] == "systemd.notify_failed"
    assert systemd.statuses[0] == "0"


class HangingStore(FailingStore):
    """A store for a daemon, with verbs that may hang."""

    async def __aenter__(self):
        """Open nothing."""
        return self

    async def __aexit__(self, *_):
        """Close nothing."""


@pytest.fixture
async def ends():
    """Serve an API with a job that ends after a minute, and a receiver."""
    simulator = Simulator(now=virtual_clock().steady, key=KEY)
    simulator.add(JobScript(job_id="job-1", run_seconds=60.0))
    async with serve(simulator) as api, served(Receiver().take) as hook:
        yield api, hook


async def test_daemon_is_ready_while_the_api_is_down(systemd):
    """The watchdog is notified for hours, and the status names the issue."""
    async with running_app(
        an_app(NOWHERE, NOWHERE, notifier=SystemdNotifier(systemd.address, watchdog=60.0))
    ):
        await anyio.sleep(1.0)
        for _ in range(120):
            await anyio.sleep(60.0)
            assert systemd.names[-1] == "WATCHDOG"

    assert systemd.names == ["READY", *["WATCHDOG"] * 480, "STOPPING"]
    assert systemd.statuses[0] == "jobs: 1 UNKNOWN; 0 pending, 0 dead"
    assert "No response from the API for 5 minutes" in systemd.statuses[-2]
    assert systemd.statuses[-1].startswith("stopping")


async def test_daemon_is_not_ready_before_its_store_is_open(systemd):
    """Until then the start is extended, and the status says why.

    A reload is not notified, since its end would mean ready.
    """
    opens_at = 60.0

    def new_store(config, clock):
        if anyio.current_time() < opens_at:
            raise StoreUnavailable("the disk is full")
        return in_memory(config, clock)

    app = an_app(NOWHERE, NOWHERE, notifier=SystemdNotifier(systemd.address), new_store=new_store)
    async with running_app(app):
        await anyio.sleep(35.0)
        app.reload()
        early = [message for message in systemd.messages if "STATUS" not in message]
        statuses = {*systemd.statuses}
        await anyio.sleep(40.0)

    assert early == [{"EXTEND_TIMEOUT_USEC": "30000000"}] * 3
    assert statuses == {"waiting for the store: the disk is full"}
    assert systemd.names[-3:] == ["EXTEND_TIMEOUT_USEC", "READY", "STOPPING"]


async def test_reload_is_notified_with_its_time(systemd):
    """By the time systemd knows which of several reloads is over."""
    app = an_app(NOWHERE, NOWHERE, notifier=SystemdNotifier(systemd.address))
    async with running_app(app):
        await anyio.sleep(1.0)
        before = time.monotonic_ns() // 1_000
        app.reload()
        await anyio.sleep(1.0)
        after = time.monotonic_ns() // 1_000

    (message,) = [message for message in systemd.messages if "RELOADING" in message]
    assert systemd.names == ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"]
    assert before <= int(message["MONOTONIC_USEC"]) <= after


@pytest.mark.parametrize(
    ("verb", "loop"),
    [("write", "recording"), ("due_deliveries", "sink webhook"), ("settle", "outcomes")],
)
async def test_watchdog_is_not_notified_while_one_loop_hangs(systemd, ends, verb, loop):
    """One verb of the store hangs after the end of the job; all other loops still run."""
    kept = []

    def new_store(config, clock):
        kept.append(HangingStore(in_memory(config, clock)))
        return kept[-1]

    app = an_app(
        *ends, notifier=SystemdNotifier(systemd.address, watchdog=60.0), new_store=new_store
    )
    with capture_logs() as lines, anyio.move_on_after(400.0):
        async with running_app(app):
            await anyio.sleep(50.0)
            kept[0].hangs = {verb}
            await anyio.sleep(150.0)
            names = list(systemd.names)
            await anyio.sleep(100.0)

    stalled = {line["stalled"] for line in lines if line["event"] == "watchdog.skipped"}
    assert stalled == {loop}
    assert "WATCHDOG" in names
    assert systemd.names == [*names, "STOPPING"]

"""What systemd is told: at which moments, in which words, and when it is told nothing."""

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
from tests.support.running_app import KEY, Receiver, an_app, in_memory, living, served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=10_000.0)

PID = 4_711
NOWHERE = "http://127.0.0.1:9"
"""Where nothing listens."""


@pytest.fixture
def ear():
    """Listen at a path."""
    with listening() as it:
        yield it


@dataclass
class FakeVitals:
    """Vitals that say what the test says."""

    health: Health = field(default_factory=lambda: Health(is_running=True))
    text: str = "jobs: 1 RUNNING"

    async def line(self):
        """Say it."""
        return self.text


async def attend(supervisor, daemon_status):
    """Run the notifier on what the vitals say."""
    await supervisor.run(lambda: daemon_status.health.stalled, daemon_status.line)


async def attended(supervisor, daemon_status, seconds):
    """Let a supervisor be told of vitals for some time."""
    with anyio.move_on_after(seconds):
        await attend(supervisor, daemon_status)


@pytest.mark.parametrize(
    "name", [None, f"sutro-poller/test/{os.getpid()}"], ids=["path", "abstract"]
)
async def test_where_systemd_listens(name):
    """It is told at a path, or at a name in the abstract, which begins with @ in the variable."""
    with listening(name) as ear:
        await attended(SystemdNotifier.of({"NOTIFY_SOCKET": ear.address}, PID), FakeVitals(), 1.0)
        heard = ear.heard

    assert heard == [{"READY": "1"}, {"STATUS": "jobs: 1 RUNNING"}]


async def test_outside_systemd_nobody_is_told(monkeypatch):
    """Without NOTIFY_SOCKET no socket is made, and nothing waits or beats."""
    monkeypatch.setattr(socket, "socket", None)
    supervisor = SystemdNotifier.of({"WATCHDOG_USEC": "1000"}, PID)
    await attend(supervisor, FakeVitals())
    with supervisor.reloading():
        supervisor.status("well")
    supervisor.stopping()

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
async def test_the_time_of_the_watchdog(variables, seconds):
    """It is WATCHDOG_USEC, unless that was meant for another process or makes no sense."""
    assert SystemdNotifier.of(variables, PID).watchdog == seconds


async def test_signs_of_life_are_given_in_half_the_time(ear):
    """A process that has to give one within a minute gives one every 30 s."""
    await attended(SystemdNotifier(ear.address, watchdog=60.0), FakeVitals(), 100.0)

    assert ear.signs == ["READY", "WATCHDOG", "WATCHDOG", "WATCHDOG"]


async def test_no_sign_of_life_while_a_loop_stands_still(ear):
    """The loops that stand still are named in the log instead; when they turn again, so is life."""
    daemon_status = FakeVitals()
    with capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(attend, SystemdNotifier(ear.address, watchdog=60.0), daemon_status)
            await anyio.sleep(31.0)
            daemon_status.health = Health(is_running=True, stalled=("polling", "recording"))
            await anyio.sleep(60.0)
            stalled = list(ear.signs)
            daemon_status.health = Health(is_running=True)
            await anyio.sleep(30.0)
            group.cancel_scope.cancel()

    assert stalled == ["READY", "WATCHDOG"]
    assert ear.signs == [*stalled, "WATCHDOG"]
    assert [it["stalled"] for it in lines if it["event"] == "watchdog.skipped"] == [
        "polling,recording"
    ] * 2


async def test_a_slow_status_starves_no_watchdog(ear):
    """Signs of life do not wait for the counts."""
    daemon_status = SimpleNamespace(health=Health(is_running=True), line=anyio.sleep_forever)
    await attended(SystemdNotifier(ear.address, watchdog=60.0), daemon_status, 40.0)

    assert ear.signs == ["READY", "WATCHDOG"]


async def test_a_status_is_told_when_it_changes(ear):
    """The same status is told once, a new one within ten seconds."""
    daemon_status = FakeVitals()
    async with anyio.create_task_group() as group:
        group.start_soon(attend, SystemdNotifier(ear.address), daemon_status)
        await anyio.sleep(100.0)
        daemon_status.text = "jobs: 1 SUCCEEDED"
        await anyio.sleep(10.0)
        group.cancel_scope.cancel()

    assert ear.statuses == ["jobs: 1 RUNNING", "jobs: 1 SUCCEEDED"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("the disk\nREADY=1", "the disk READY=1"),
        ("\N{PILE OF POO}" * 5_000, "\N{PILE OF POO}" * 1_000),
        ("\udcff", "?"),
    ],
    ids=["lines", "long", "surrogate"],
)
async def test_a_status_is_one_short_line(ear, text, told):
    """Whatever an error says, it cannot become another assignment or be too long for systemd."""
    SystemdNotifier(ear.address).status(text)

    assert ear.heard == [{"STATUS": told}]


async def test_a_supervisor_that_does_not_hear_is_no_trouble(ear):
    """With nobody at the socket, or nobody who reads, a warning is logged, and no more."""
    ear.close()
    with capture_logs() as lines:
        SystemdNotifier(ear.address).stopping()

    assert [(it["event"], it["variable"]) for it in lines] == [
        ("systemd.notify_failed", "STOPPING")
    ]


async def test_a_supervisor_that_does_not_read_holds_up_nothing(ear):
    """When the socket is full, what is told is given up at once."""
    with capture_logs() as lines:
        for number in range(1_000):
            SystemdNotifier(ear.address).status(str(number))

    assert lines[0]["event"] == "systemd.notify_failed"
    assert ear.statuses[0] == "0"


class HangingStore(FailingStore):
    """A store to put into a daemon, whose verbs may hang."""

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


async def test_a_daemon_is_ready_though_the_api_is_down(ear):
    """It lives and says so for hours, and its status says what is wrong."""
    async with living(
        an_app(NOWHERE, NOWHERE, notifier=SystemdNotifier(ear.address, watchdog=60.0))
    ):
        await anyio.sleep(1.0)
        for _ in range(120):
            await anyio.sleep(60.0)
            assert ear.signs[-1] == "WATCHDOG"

    assert ear.signs == ["READY", *["WATCHDOG"] * 240, "STOPPING"]
    assert ear.statuses[0] == "jobs: 1 UNKNOWN; 0 pending, 0 dead"
    assert "No response from the API for 5 minutes" in ear.statuses[-2]
    assert ear.statuses[-1].startswith("stopping")


async def test_a_daemon_is_not_ready_before_its_store_is(ear):
    """Meanwhile its status says why, and a reload is not told: its end would mean ready."""
    opens_at = 60.0

    def new_store(config, clock):
        if anyio.current_time() < opens_at:
            raise StoreUnavailable("the disk is full")
        return in_memory(config, clock)

    app = an_app(NOWHERE, NOWHERE, notifier=SystemdNotifier(ear.address), new_store=new_store)
    async with living(app):
        await anyio.sleep(30.0)
        app.reload()
        early = ear.signs, set(ear.statuses)
        await anyio.sleep(40.0)

    assert early == ([], {"waiting for the store: the disk is full"})
    assert ear.signs == ["READY", "STOPPING"]


async def test_a_reload_is_told_with_its_moment(ear):
    """By the moment systemd knows which of several reloads is over."""
    app = an_app(NOWHERE, NOWHERE, notifier=SystemdNotifier(ear.address))
    async with living(app):
        await anyio.sleep(1.0)
        before = time.monotonic_ns() // 1_000
        app.reload()
        after = time.monotonic_ns() // 1_000
        await anyio.sleep(1.0)

    (moment,) = [int(it["MONOTONIC_USEC"]) for it in ear.heard if "RELOADING" in it]
    assert ear.signs == ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"]
    assert before <= moment <= after


@pytest.mark.parametrize(
    ("verb", "loop"),
    [("write", "recording"), ("due_deliveries", "sink webhook"), ("settle", "outcomes")],
)
async def test_one_loop_that_stands_still_ends_all_signs_of_life(ear, ends, verb, loop):
    """One verb of the store hangs from the job's end on; all other loops go on turning."""
    kept = []

    def new_store(config, clock):
        kept.append(HangingStore(in_memory(config, clock)))
        return kept[-1]

    app = an_app(*ends, notifier=SystemdNotifier(ear.address, watchdog=60.0), new_store=new_store)
    with capture_logs() as lines, anyio.move_on_after(400.0):
        async with living(app):
            await anyio.sleep(50.0)
            kept[0].hangs = {verb}
            await anyio.sleep(150.0)
            signs = list(ear.signs)
            await anyio.sleep(100.0)

    told = {it["stalled"] for it in lines if it["event"] == "watchdog.skipped"}
    assert told == {loop}
    assert "WATCHDOG" in signs
    assert ear.signs == [*signs, "STOPPING"]

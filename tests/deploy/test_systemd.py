"""The unit as it ships, and the wheel, under a real systemd."""

import os
import re
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import anyio
import pytest

from poller.cli.exit_codes import UNREACHABLE
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import serve
from tests.deploy.host import Host, prepared_host
from tests.deploy.service import FOLDER, STATE, UNIT, Service, clean_service
from tests.support.daemon_process import a_place
from tests.support.installed_wheel import PROJECT
from tests.support.secret_canaries import KEY
from tests.support.waiting import until

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.deploy,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may boot a systemd"),
    pytest.mark.skipif(not shutil.which("systemd-nspawn"), reason="systemd-nspawn boots it"),
]

TREE: Final = "/srv/sutro-poller"
PROGRAM: Final = "/opt/sutro-poller/bin/sutro-poller"
SHIPPED: Final = f"/etc/systemd/system/{UNIT}"
JOBS: Final = f"{FOLDER}/jobs.txt"
API_SOCKET: Final = "/run/sutro-poller/api.sock"
NOBODY: Final = ("--reuid=65534", "--regid=65534", "--clear-groups")
DYNAMIC: Final = range(61_184, 65_520)
"""The ids of systemd's dynamic users."""


def ended(job_id: str, *, after: float = 0.0) -> JobScript:
    """Return a job that ends so many seconds from now."""
    return JobScript(job_id=job_id, queue_seconds=0.0, run_seconds=after)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Keep one event loop for all tests here, as they share a host."""
    return "asyncio"


@pytest.fixture(scope="module")
def wheel(command: Path) -> Path:
    """Return the wheel that is installed."""
    (wheel,) = command.parents[2].glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
async def host(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """Yield a booted host after `make install`, with the API key in its place."""
    async with prepared_host(tmp_path_factory.mktemp("host")) as host:
        host.binds = {PROJECT: TREE, wheel: f"/srv/{wheel.name}"}
        await host.boot()
        await install(host, wheel)
        await host.write(f"{FOLDER}/SUTRO_API_KEY", KEY)
        yield host


async def install(host: Host, wheel: Path) -> None:
    """Install the wheel, or install it again."""
    await host.run("make", f"--directory={TREE}", "install", f"WHEEL=/srv/{wheel.name}")


@pytest.fixture
async def service(host: Host, command: Path, tmp_path: Path) -> AsyncIterator[Service]:
    """Yield the service; fail if the journal has a secret."""
    async with a_place(command, tmp_path / "place") as place, clean_service(host, place) as service:
        yield service


async def test_unit_verifies(host: Host):
    """The unit is installed unchanged; systemd verifies it, with an exposure of at most 1.1."""
    shipped = (PROJECT / "deploy" / "systemd" / UNIT).read_text("utf-8")
    verified = await host.run("sh", "-c", f"systemd-analyze verify {SHIPPED} 2>&1")
    security = ["systemd-analyze", "security", "--offline=true", SHIPPED]

    assert await host.run("cat", SHIPPED) == shipped
    assert verified == ""
    assert await host.code(*security, "--threshold=11") == 0
    assert await host.code(*security, "--threshold=10") == 1


async def test_service_is_ready_while_the_api_is_down(service: Service):
    """The service starts while the API is down, and reports an end once it is up."""
    async with serve(service.place.api) as url:
        pass  # from here on the API is down
    await service.start(SUTRO_API_URL=url, POLLER_JOB_IDS=service.place.jobs(ended("job-1")))
    await service.saying("poll.failed")
    *state, status = await service.show("ActiveState", "SubState", "NRestarts", "StatusText")
    async with serve(service.place.api, port=int(url.rpartition(":")[2])):
        await until(lambda: service.place.receiver.ends)

    assert state == ["active", "running", "0"]
    assert status.startswith("jobs: ")


async def test_service_is_unprivileged(service: Service):
    """The service has a user of its own without privileges, and a key that it alone can read."""
    await service.start(POLLER_JOB_IDS=service.place.jobs(ended("job-1")))
    await until(lambda: service.place.receiver.ends)  # the API accepts no other key
    process = f"/proc/{await service.pid()}"
    lines = (await service.host.run("cat", f"{process}/status")).splitlines()
    status = {name: text.split() for name, text in (line.split(":", 1) for line in lines)}
    key = f"{process}/root/run/credentials/{UNIT}/SUTRO_API_KEY"
    mode = await service.host.run("stat", "--format=%a", key)
    environment = await service.host.run("cat", f"{process}/environ")

    assert int(status["Uid"][0]) in DYNAMIC
    assert {int(status[name][0], 16) for name in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"]
    assert mode.strip() in {"400", "440"}
    assert KEY not in environment


async def test_api_socket_is_for_root_alone(service: Service):
    """Root adds a job through the socket of the API; no other user of the host can."""
    host, receiver = service.host, service.place.receiver
    add = ("env", f"POLLER_LISTEN=unix:{API_SOCKET}", PROGRAM, "jobs", "add")
    await service.start(POLLER_JOB_IDS=service.place.jobs(ended("job-1")))
    service.place.jobs(ended("job-2"), ended("job-3"))
    refused = await host.code("setpriv", *NOBODY, *add, "job-3")
    await host.run(*add, "job-2")
    await until(lambda: len(receiver.ends) == 2)

    assert refused == UNREACHABLE
    assert sorted(receiver.ends) == ["job-1", "job-2"]


async def test_reload_reads_the_jobs_file(service: Service):
    """`systemctl reload` reads a file that looks unchanged; systemd gets every notification."""
    host, receiver = service.host, service.place.receiver
    service.place.jobs(ended("job-1"), ended("job-2"))
    await write_jobs(host, "job-1\n")
    await host.run("systemctl", "log-level", "debug")
    await service.start(POLLER_JOBS_FILE=JOBS)
    await until(lambda: receiver.ends)
    await write_jobs(host, "job-2\n")
    await anyio.sleep(2.5)  # a changed file would have been read by now
    before = list(receiver.ends)
    await service.ctl("reload")
    await until(lambda: len(receiver.ends) == 2)
    await service.ctl("stop")
    await host.run("systemctl", "log-level", "info")
    notifications = [
        line for line in await service.journal("_PID=1") if line.startswith(f"{UNIT}: Got notif")
    ]

    assert before == ["job-1"]
    assert receiver.ends == ["job-1", "job-2"]
    steps = re.findall(r"\((READY|RELOADING|STOPPING)=1", "\n".join(notifications))
    assert steps == ["READY", "RELOADING", "READY", "STOPPING"]


async def write_jobs(host: Host, text: str) -> None:
    """Write the jobs file without a change of its time and inode."""
    await host.run("sh", "-c", f"cat > {JOBS}; touch --date=2024-01-15 {JOBS}", stdin=text)
    await host.run("chmod", "0644", JOBS)


async def test_stop_waits_for_deliveries(service: Service):
    """Deliveries in flight at a stop succeed; the exit code is 0, and nothing comes twice."""
    receiver = service.place.receiver
    receiver.delay = 2.0
    await service.start(POLLER_JOB_IDS=service.place.jobs(ended("job-1"), ended("job-2")))
    await until(lambda: len(receiver.received) == 2)
    before = set(receiver.acknowledged)
    await service.ctl("stop")
    after = set(receiver.acknowledged)
    state = await service.show("ActiveState", "Result", "ExecMainStatus")
    receiver.delay = 0.0
    await service.start(POLLER_JOB_IDS=service.place.jobs(ended("job-3")))
    await until(lambda: "job-3" in receiver.ends)

    assert before == set()
    assert after == {"job-1", "job-2"}
    assert state == ["inactive", "success", "0"]
    assert sorted(receiver.ends) == ["job-1", "job-2", "job-3"]


async def test_watchdog_restarts_a_stopped_process(service: Service):
    """The watchdog ends a stopped process with its stacks in the journal; nothing is lost.

    A drop-in shortens the time of the watchdog; the unit is not changed.
    """
    receiver = service.place.receiver
    receiver.delay = 60.0
    async with service.overridden("WatchdogSec=2"):
        jobs = service.place.jobs(ended("job-1"), ended("job-2", after=5.0))
        await service.start(POLLER_JOB_IDS=jobs)
        await until(lambda: receiver.ends)
        await anyio.sleep(3.0)
        alive = await service.show("NRestarts")
        await service.ctl("kill", "--signal=STOP", "--kill-who=main")
        receiver.delay = 0.0
        await service.becomes(NRestarts="1", SubState="running")
        await until(lambda: len(receiver.ends) >= 3)
    journal_text = "\n".join(await service.journal())

    assert alive == ["0"]
    assert sorted(receiver.ends) == ["job-1", "job-1", "job-2"]
    assert len({event.id for event in receiver.received}) == 2
    assert "Failed with result 'watchdog'" in journal_text
    assert "Fatal Python error: Aborted" in journal_text
    assert "most recent call first" in journal_text


async def test_full_disk_at_the_start_is_retried(service: Service):
    """The status shows a full disk at the start; a start that takes too long is repeated.

    A drop-in shortens the time that a start may take.
    """
    host, disk = service.host, "/var/lib/private/sutro-poller"
    await service.configure(POLLER_JOB_IDS=service.place.jobs(ended("job-1")))
    async with service.overridden("TimeoutStartSec=3"):
        await host.run("mkdir", "-p", disk)
        await host.run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", disk)
        await host.code("dd", "if=/dev/zero", f"of={disk}/filler")
        await host.run("systemctl", "start", "--no-block", UNIT)
        await service.saying("store.unavailable")
        (status,) = await service.show("StatusText")
        await service.becomes(NRestarts="1")
        await host.run("mount", "-o", "remount,size=16m", disk)
        await until(lambda: service.place.receiver.ends)
        await service.ctl("stop")
        await host.run("umount", disk)

    assert status.startswith("waiting for the store: ")


async def test_invalid_configuration_is_not_restarted(service: Service):
    """Exit code 78 fails the start, and the service is not started again."""
    await service.configure(POLLER_MIN_INTERVAL="often")
    code = await service.host.code("systemctl", "start", UNIT)
    state = await service.show("ActiveState", "ExecMainStatus", "NRestarts")

    assert code != 0
    assert state == ["failed", "78", "0"]
    assert await service.show("StartLimitIntervalUSec") == ["0"]


async def test_state_survives_restarts(service: Service):
    """After a restart of the service or the host, nothing is reported twice and no job is lost."""
    host, receiver, place = service.host, service.place.receiver, service.place
    await service.start(POLLER_JOB_IDS=place.jobs(ended("job-1")))
    await until(lambda: len(receiver.acknowledged) == 1)
    await service.configure(POLLER_JOB_IDS="job-1," + place.jobs(ended("job-2")))
    await service.ctl("restart")
    await until(lambda: len(receiver.acknowledged) == 2)
    await service.ctl("enable")
    await service.configure(POLLER_JOB_IDS="job-1,job-2," + place.jobs(ended("job-3")))
    await host.power_off()
    await host.boot()
    await until(lambda: len(receiver.acknowledged) == 3)
    mode = await host.run("stat", "--format=%a", STATE)
    jobs = await host.run("env", f"POLLER_STORE={STATE}", PROGRAM, "jobs", "ls")

    assert sorted(receiver.ends) == ["job-1", "job-2", "job-3"]
    assert mode.strip() == "600"
    assert jobs.count("SUCCEEDED") == 3


async def test_upgrade_keeps_the_settings(service: Service, wheel: Path):
    """`make install` over an installation keeps the environment file and its mode."""
    await service.configure(POLLER_JOB_IDS="job-1")
    settings = await service.host.run("cat", f"{FOLDER}/poller.env")
    await install(service.host, wheel)

    assert await service.host.run("cat", f"{FOLDER}/poller.env") == settings
    assert (await service.host.run("stat", "--format=%a", f"{FOLDER}/poller.env")).strip() == "600"

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
from tests.deploy.host import Host, held
from tests.deploy.service import FOLDER, STATE, UNIT, Service, serving
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
DOOR: Final = "/run/sutro-poller/api.sock"
NOBODY: Final = ("--reuid=65534", "--regid=65534", "--clear-groups")
DYNAMIC: Final = range(61_184, 65_520)
"""The ids of the users that systemd makes up."""


def ended(job_id: str, *, after: float = 0.0) -> JobScript:
    """Give a job that ends so many seconds from now."""
    return JobScript(job_id=job_id, queue_seconds=0.0, run_seconds=after)


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    """Keep one event loop for all tests here, as they share a host."""
    return "asyncio"


@pytest.fixture(scope="module")
def wheel(command: Path) -> Path:
    """Give the wheel that is installed."""
    (it,) = command.parents[2].glob("*.whl")
    return it


@pytest.fixture(scope="module")
async def host(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Host]:
    """Give a booted host on which `make install` was run, and the key was put where it belongs."""
    async with held(tmp_path_factory.mktemp("host")) as it:
        it.binds = {PROJECT: TREE, wheel: f"/srv/{wheel.name}"}
        await it.boot()
        await install(it, wheel)
        await it.write(f"{FOLDER}/SUTRO_API_KEY", KEY)
        yield it


async def install(host: Host, wheel: Path) -> None:
    """Install the wheel, or install it anew."""
    await host.run("make", f"--directory={TREE}", "install", f"WHEEL=/srv/{wheel.name}")


@pytest.fixture
async def service(host: Host, command: Path, tmp_path: Path) -> AsyncIterator[Service]:
    """Give the service, and look afterwards for secrets in all that the journal has."""
    async with a_place(command, tmp_path / "place") as place, serving(host, place) as it:
        yield it


async def test_the_unit_that_ships_is_flawless(host: Host):
    """It is installed as it is; systemd finds nothing odd in it, and an exposure of at most 1.1."""
    shipped = (PROJECT / "deploy" / "systemd" / UNIT).read_text("utf-8")
    verified = await host.run("sh", "-c", f"systemd-analyze verify {SHIPPED} 2>&1")
    security = ["systemd-analyze", "security", "--offline=true", SHIPPED]

    assert await host.run("cat", SHIPPED) == shipped
    assert verified == ""
    assert await host.code(*security, "--threshold=11") == 0
    assert await host.code(*security, "--threshold=10") == 1


async def test_it_is_ready_though_the_api_is_down(service: Service):
    """Its start is over while nothing listens where the API is; once it does, an end is told."""
    async with serve(service.place.api) as url:
        pass  # from here on it is down
    await service.start(SUTRO_API_URL=url, POLLER_JOB_IDS=service.place.jobs(ended("job-1")))
    await service.saying("poll.failed")
    *state, status = await service.show("ActiveState", "SubState", "NRestarts", "StatusText")
    async with serve(service.place.api, port=int(url.rpartition(":")[2])):
        await until(lambda: service.place.receiver.ends)

    assert state == ["active", "running", "0"]
    assert status.startswith("jobs: ")


async def test_what_it_is_allowed(service: Service):
    """It is a user of its own without a privilege, and its key is a file that it alone may read."""
    await service.start(POLLER_JOB_IDS=service.place.jobs(ended("job-1")))
    await until(lambda: service.place.receiver.ends)  # the API takes no other key
    process = f"/proc/{await service.pid()}"
    lines = (await service.host.run("cat", f"{process}/status")).splitlines()
    status = {name: text.split() for name, text in (line.split(":", 1) for line in lines)}
    key = f"{process}/root/run/credentials/{UNIT}/SUTRO_API_KEY"
    mode = await service.host.run("stat", "--format=%a", key)
    environment = await service.host.run("cat", f"{process}/environ")

    assert int(status["Uid"][0]) in DYNAMIC
    assert {int(status[it][0], 16) for it in ("CapEff", "CapPrm", "CapBnd")} == {0}
    assert status["NoNewPrivs"] == ["1"]
    assert status["Seccomp"] == ["2"]
    assert mode.strip() in {"400", "440"}
    assert KEY not in environment


async def test_the_door_is_for_root_alone(service: Service):
    """Root adds a job through its socket; no other user of the host can come to it."""
    host, receiver = service.host, service.place.receiver
    add = ("env", f"POLLER_LISTEN=unix:{DOOR}", PROGRAM, "jobs", "add")
    await service.start(POLLER_JOB_IDS=service.place.jobs(ended("job-1")))
    service.place.jobs(ended("job-2"), ended("job-3"))
    refused = await host.code("setpriv", *NOBODY, *add, "job-3")
    await host.run(*add, "job-2")
    await until(lambda: len(receiver.ends) == 2)

    assert refused == UNREACHABLE
    assert sorted(receiver.ends) == ["job-1", "job-2"]


async def test_a_reload_reads_the_file_of_jobs(service: Service):
    """`systemctl reload` takes in even a file that looks unchanged; systemd hears of every step."""
    host, receiver = service.host, service.place.receiver
    service.place.jobs(ended("job-1"), ended("job-2"))
    await write_jobs(host, "job-1\n")
    await host.run("systemctl", "log-level", "debug")
    await service.start(POLLER_JOBS_FILE=JOBS)
    await until(lambda: receiver.ends)
    await write_jobs(host, "job-2\n")
    await anyio.sleep(2.5)  # a changed file would have been noticed by now
    before = list(receiver.ends)
    await service.ctl("reload")
    await until(lambda: len(receiver.ends) == 2)
    await service.ctl("stop")
    await host.run("systemctl", "log-level", "info")
    heard = [it for it in await service.poll_log("_PID=1") if it.startswith(f"{UNIT}: Got notif")]

    assert before == ["job-1"]
    assert receiver.ends == ["job-1", "job-2"]
    steps = re.findall(r"\((READY|RELOADING|STOPPING)=1", "\n".join(heard))
    assert steps == ["READY", "RELOADING", "READY", "STOPPING"]


async def write_jobs(host: Host, text: str) -> None:
    """Write the file of jobs so that its time and place stay what they are."""
    await host.run("sh", "-c", f"cat > {JOBS}; touch --date=2024-01-15 {JOBS}", stdin=text)
    await host.run("chmod", "0644", JOBS)


async def test_a_stop_lets_deliveries_end(service: Service):
    """What is under way at a stop is received; the exit code is 0, and nothing comes twice."""
    receiver = service.place.receiver
    receiver.delay = 2.0
    await service.start(POLLER_JOB_IDS=service.place.jobs(ended("job-1"), ended("job-2")))
    await until(lambda: len(receiver.receipts) == 2)
    before = set(receiver.answered)
    await service.ctl("stop")
    after = set(receiver.answered)
    state = await service.show("ActiveState", "Result", "ExecMainStatus")
    receiver.delay = 0.0
    await service.start(POLLER_JOB_IDS=service.place.jobs(ended("job-3")))
    await until(lambda: "job-3" in receiver.ends)

    assert before == set()
    assert after == {"job-1", "job-2"}
    assert state == ["inactive", "success", "0"]
    assert sorted(receiver.ends) == ["job-1", "job-2", "job-3"]


async def test_a_process_that_stands_still_is_replaced(service: Service):
    """The watchdog ends it with its stacks in the journal, and the next one loses nothing.

    The time of the watchdog is shortened by a drop-in; the unit stays as it is.
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
        await until(lambda: len(receiver.ends) == 3)
    told = "\n".join(await service.poll_log())

    assert alive == ["0"]
    assert sorted(receiver.ends) == ["job-1", "job-1", "job-2"]
    assert len({it.id for it in receiver.receipts}) == 2
    assert "Failed with result 'watchdog'" in told
    assert "Fatal Python error: Aborted" in told
    assert "most recent call first" in told


async def test_a_full_disk_at_the_start_is_waited_for(service: Service):
    """Its status says what it waits for; a start that takes too long is begun again, for ever.

    The time that a start may take is shortened by a drop-in.
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


async def test_a_wrong_configuration_is_not_tried_again(service: Service):
    """With exit code 78 the start has failed, and stays so until somebody mends it."""
    await service.configure(POLLER_MIN_INTERVAL="often")
    code = await service.host.code("systemctl", "start", UNIT)
    state = await service.show("ActiveState", "ExecMainStatus", "NRestarts")

    assert code != 0
    assert state == ["failed", "78", "0"]
    assert await service.show("StartLimitIntervalUSec") == ["0"]


async def test_the_state_survives(service: Service):
    """After a restart, and after one of the host, nothing is told twice and no job forgotten."""
    host, receiver, place = service.host, service.place.receiver, service.place
    await service.start(POLLER_JOB_IDS=place.jobs(ended("job-1")))
    await until(lambda: len(receiver.answered) == 1)
    await service.configure(POLLER_JOB_IDS="job-1," + place.jobs(ended("job-2")))
    await service.ctl("restart")
    await until(lambda: len(receiver.answered) == 2)
    await service.ctl("enable")
    await service.configure(POLLER_JOB_IDS="job-1,job-2," + place.jobs(ended("job-3")))
    await host.power_off()
    await host.boot()
    await until(lambda: len(receiver.answered) == 3)
    mode = await host.run("stat", "--format=%a", STATE)
    jobs = await host.run("env", f"POLLER_STORE={STATE}", PROGRAM, "jobs", "ls")

    assert sorted(receiver.ends) == ["job-1", "job-2", "job-3"]
    assert mode.strip() == "600"
    assert jobs.count("SUCCEEDED") == 3


async def test_a_new_version_keeps_the_settings(service: Service, wheel: Path):
    """`make install` over an installation leaves the environment file as it is, and private."""
    await service.configure(POLLER_JOB_IDS="job-1")
    settings = await service.host.run("cat", f"{FOLDER}/poller.env")
    await install(service.host, wheel)

    assert await service.host.run("cat", f"{FOLDER}/poller.env") == settings
    assert (await service.host.run("stat", "--format=%a", f"{FOLDER}/poller.env")).strip() == "600"

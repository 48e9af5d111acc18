"""The notifications of the daemon to systemd."""

import signal

import pytest

from tests.support.daemon_process import Place
from tests.support.notify_socket import listening
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_notify_sends_every_step(place: Place):
    """The daemon notifies ready, watchdog, reload and stop, given the variables of systemd."""
    with listening() as systemd:
        variables = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"}
        async with place.running("run", POLLER_JOB_IDS="job-1", **variables) as daemon:
            await until(lambda: "WATCHDOG" in systemd.names)
            daemon.process.send_signal(signal.SIGHUP)
            await until(lambda: systemd.names.count("READY") == 2)
            code = await daemon.stop()
        steps = [name for name in systemd.names if name != "WATCHDOG"]

    assert code == 0
    assert steps == ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"]


async def test_notify_sends_nothing_for_an_invalid_configuration(place: Place):
    """A daemon with an invalid configuration never notifies that it is ready."""
    with listening() as systemd:
        code, _ = await place.run("run", POLLER_MIN_INTERVAL="often", NOTIFY_SOCKET=systemd.address)

        assert systemd.messages == []
    assert code == 78

"""The process tells who started it how it is, as systemd expects it."""

import signal

import pytest

from tests.support.daemon_process import Place
from tests.support.notify_socket import listening
from tests.support.waiting import until

pytestmark = pytest.mark.anyio


async def test_a_life_as_systemd_hears_it(place: Place):
    """It is ready, lives, reloads and stops; the variables of systemd are all that it needs."""
    with listening() as systemd:
        variables = {"NOTIFY_SOCKET": systemd.address, "WATCHDOG_USEC": "200000"}
        async with place.running("run", POLLER_JOB_IDS="job-1", **variables) as daemon:
            await until(lambda: "WATCHDOG" in systemd.names)
            daemon.process.send_signal(signal.SIGHUP)
            await until(lambda: "RELOADING" in systemd.names)
            code = await daemon.stop()
        steps = [it for it in systemd.names if it != "WATCHDOG"]

    assert code == 0
    assert steps == ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"]


async def test_a_configuration_that_is_wrong_is_never_ready(place: Place):
    """Whoever waits for the start sees it fail, and not a start that ends at once."""
    with listening() as systemd:
        code, _ = await place.run("run", POLLER_MIN_INTERVAL="often", NOTIFY_SOCKET=systemd.address)

        assert systemd.messages == []
    assert code == 78

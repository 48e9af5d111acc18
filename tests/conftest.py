"""Fixtures and markers of every test: a backend, virtual time, and fixed Hypothesis examples."""

import logging
import os
import signal
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

from poller.runtime import bounded_read
from tests.support.fake_disk import FakeDisk
from tests.support.installed_wheel import installed
from tests.support.virtual_time import VirtualLoop

ANY_SPEED: Final = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, database=None, **ANY_SPEED)
settings.register_profile("thorough", database=None, max_examples=5_000, **ANY_SPEED)
settings.load_profile("ci")

SLOW: Final = ("slow", "sdk", "deploy", "browser")
SLOW_TIMEOUT: Final = 3_000.0
"""Real seconds that a test with a marker of SLOW may take; the others have 300."""

ALARM_INTERVAL: Final = 10.0
"""Real seconds from one alarm of a test that exceeds its time limit to the next."""


def pytest_configure(config: pytest.Config) -> None:
    """Declare the markers of these tests, and restore SIGINT for the processes that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell does for a job with `&`
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line(
        "markers",
        "virtual(limit=3600.0): run in virtual time, and fail after so many virtual seconds.",
    )
    config.addinivalue_line("markers", "slow: takes more than 5 s; `make test-fast` leaves it out.")
    config.addinivalue_line(
        "markers", "sdk: installs the official SDK and uv from the package index; `make test-sdk`."
    )
    config.addinivalue_line(
        "markers", "browser: opens the pages in Debian's Chromium; `make test-browser`."
    )
    config.addinivalue_line(
        "markers", "deploy: runs deploy/ with systemd and containers, as root; `make test-deploy`."
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Fail skipped tests where all are to run: a test that never runs proves nothing."""
    report = yield
    if report.skipped and "CI" in os.environ:
        report.outcome = "failed"
    return report


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Allow slow tests more time than the others."""
    for item in items:
        if any(map(item.get_closest_marker, SLOW)):
            item.add_marker(pytest.mark.timeout(SLOW_TIMEOUT))


@pytest.hookimpl(wrapper=True)
def pytest_timeout_set_timer(settings: Any) -> Generator[None, bool, bool]:
    """Repeat the alarm of pytest-timeout: the first one may reach a task that nothing awaits."""
    is_set = yield
    if settings.method == "signal":
        signal.setitimer(signal.ITIMER_REAL, settings.timeout, ALARM_INTERVAL)
    return is_set


@pytest.fixture(autouse=True)
def _restore_logging() -> Generator[None, None, None]:
    """Restore the root logger, which commands in this process configure."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    """Run async tests on plain asyncio, and those marked `virtual` in virtual time."""
    marker = request.node.get_closest_marker("virtual")
    loop = {"loop_factory": partial(VirtualLoop, **marker.kwargs)} if marker else {}
    return "asyncio", loop


@pytest.fixture(autouse=True)
def fake_disk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> FakeDisk:
    """Return the disk that bounded reads are from where time is virtual."""
    disk = FakeDisk()
    if request.node.get_closest_marker("virtual"):
        monkeypatch.setattr(bounded_read, "call_in_thread", disk.begin)
    return disk


@pytest.fixture(scope="session")
def command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the `sutro-poller` of a wheel that is built and installed once for this test run."""
    root = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        root = root.parent
    return installed(root) / "bin" / "sutro-poller"

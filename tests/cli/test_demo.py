"""The environment in which the demo runs the daemon."""

import pytest

from poller.cli.demo import Receiver, daemon_environment
from poller.config import load
from poller.sutro.simulator.server import Simulator


def test_demo_needs_no_proxy(monkeypatch: pytest.MonkeyPatch):
    """A proxy that the daemon rejects does not keep the demo, which is local, from starting."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    simulator, receiver = Simulator(key="sk_demo"), Receiver("whsec_" + 8 * "aaaa")
    url = "http://127.0.0.1:1"

    assert load(daemon_environment(simulator, receiver, api=url, url=url, folder="/tmp"))

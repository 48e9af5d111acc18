"""The verification of the demo's receiver, compared with the official library."""

import base64
from datetime import UTC, datetime

import pytest
from standardwebhooks import Webhook

from poller.cli.demo import TOLERANCE, Receiver, daemon_environment, is_genuine
from poller.config import load
from poller.sutro.simulator.server import Simulator

SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
NOW = 1_705_312_800
BODY = b'{"type":"job.succeeded"}'


def headers(*, secret: str = SECRET, at: int = NOW) -> dict[str, str]:
    """Return the headers of a webhook that the official library signs."""
    signature = Webhook(secret).sign("evt_1", datetime.fromtimestamp(at, UTC), BODY.decode())
    return {
        "webhook-id": "evt_1",
        "webhook-timestamp": str(at),
        "webhook-signature": signature,
    }


def test_demo_needs_no_proxy(monkeypatch: pytest.MonkeyPatch):
    """A proxy that the daemon rejects does not keep the demo, which is local, from starting."""
    monkeypatch.setenv("ALL_PROXY", "socks5://127.0.0.1:1080")
    simulator, receiver = Simulator(key="sk_demo"), Receiver(SECRET)
    url = "http://127.0.0.1:1"

    assert load(daemon_environment(simulator, receiver, api=url, url=url, folder="/tmp"))


@pytest.mark.parametrize("drift", [-TOLERANCE, 0.0, TOLERANCE])
def test_demo_accepts_a_webhook_signed_by_the_official_library(drift: float):
    """A right signature with a timestamp of at most five minutes off is accepted."""
    assert is_genuine(SECRET, headers(), BODY, now=NOW + drift)


def test_demo_accepts_one_right_signature_of_several():
    """While a secret is rotated, the signature by either secret is accepted."""
    both = headers(secret=OTHER)["webhook-signature"] + " " + headers()["webhook-signature"]

    assert is_genuine(SECRET, headers() | {"webhook-signature": both}, BODY, now=NOW)


@pytest.mark.parametrize("part", ["id", "timestamp", "signature"])
def test_demo_rejects_a_webhook_without_a_header(part: str):
    """Each of the three headers is required."""
    received = headers()
    del received[f"webhook-{part}"]

    assert not is_genuine(SECRET, received, BODY, now=NOW)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("webhook-id", "evt_2"),
        ("webhook-timestamp", str(NOW + 1)),
        ("webhook-timestamp", "yesterday"),
        ("webhook-signature", headers(secret=OTHER)["webhook-signature"]),
        ("webhook-signature", "v1,ü"),
    ],
)
def test_demo_rejects_a_webhook_with_a_changed_header(name: str, text: str):
    """ID, timestamp and signature belong together."""
    assert not is_genuine(SECRET, headers() | {name: text}, BODY, now=NOW)


def test_demo_rejects_a_webhook_with_a_changed_body():
    """The signature covers every byte of the body."""
    assert not is_genuine(SECRET, headers(), BODY + b" ", now=NOW)


@pytest.mark.parametrize("drift", [-TOLERANCE - 1, TOLERANCE + 1])
def test_demo_rejects_an_old_or_early_webhook(drift: float):
    """A timestamp of more than five minutes off may be a replay."""
    assert not is_genuine(SECRET, headers(), BODY, now=NOW + drift)

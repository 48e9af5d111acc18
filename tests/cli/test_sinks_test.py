"""`sinks test`: one event through the real sink, without a database."""

import json

import pytest

from poller.core.errors import DeliveryError
from poller.core.events import RECORDED_TYPES, event_id
from poller.sinks import log as log_sink
from poller.sinks.text import describe
from tests.cli.conftest import RunCli
from tests.support.builders import check_event

SECRET = "whsec_" + "c4n4" * 8


def test_sinks_test_sends_one_event(run_cli: RunCli, path):
    """The log sink gets a valid test event; no database is created."""
    result = run_cli("sinks", "test", "log")

    line, last = result.out.splitlines()
    event = json.loads(line)
    assert result.code == 0
    assert event["event"] == "poller.test"
    assert last == f"Test event {event['event_id']} delivered to log."
    assert not path.exists()


@pytest.mark.parametrize("event_type", sorted(RECORDED_TYPES))
def test_sinks_test_sends_a_sample_of_any_type(run_cli: RunCli, monkeypatch, event_type: str):
    """A sample follows the schema, is marked as a test, and has an id that no real event has."""
    got = []

    async def send(_sink, delivery) -> None:
        got.append(delivery.event)

    monkeypatch.setattr(log_sink.LogSink, "send", send)

    result = run_cli("sinks", "test", "log", "--type", event_type)

    (event,) = got
    real = event_id("sutro", event.data.get("job", {}).get("job_id", ""), event_type)
    assert result.code == 0
    assert check_event(event.body)["type"] == event.type == event_type
    assert event.data["test"] is True
    assert event.id != real
    assert describe(event).title.startswith(("Test: ", "This is a test"))


def test_sinks_test_uses_a_new_id_each_time(run_cli: RunCli):
    """Each test event has its own id, so that a receiver does not drop it as a repetition."""
    ids = {
        json.loads(run_cli("sinks", "test", "log").out.splitlines()[0])["event_id"] for _ in "ab"
    }

    assert len(ids) == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeliveryError("cannot write to stdout"), "cannot write to stdout"),
        (KeyError(SECRET), "KeyError"),
    ],
    ids=["foreseen", "bug"],
)
def test_sinks_test_reports_a_failure(run_cli: RunCli, monkeypatch, error: Exception, reason: str):
    """A sink that fails is exit 1 and the reason; so is a plug-in's bug."""
    got = []

    async def send(_sink, delivery) -> None:
        got.append(delivery.event)
        raise error

    monkeypatch.setattr(log_sink.LogSink, "send", send)

    result = run_cli(
        "sinks", "test", "log", "-o", "json",
        POLLER_WEBHOOK_URL="https://h.example/x", POLLER_WEBHOOK_SECRET=SECRET,
    )  # fmt: skip

    answer = json.loads(result.out)
    assert result.code == 1
    assert answer["sink"] == "log"
    assert reason in answer["error"]
    assert SECRET not in result.out + result.err
    assert check_event(got[0].body)["data"]["sink"] == "log"


def test_sinks_test_reports_an_unreachable_receiver(run_cli: RunCli):
    """A receiver that cannot be reached is reported in one line, with the variable to check."""
    result = run_cli(
        "sinks", "test", "webhook.audit",
        POLLER_SINKS="webhook.audit", POLLER_WEBHOOK_AUDIT_URL="http://127.0.0.1:9/secret",
    )  # fmt: skip

    assert result.code == 1
    assert result.out.startswith("Test event evt_")
    assert result.out.endswith(
        " was not delivered to webhook.audit: 127.0.0.1:9: cannot connect (Connection refused);"
        " check POLLER_WEBHOOK_AUDIT_URL.\n"
    )


def test_sinks_test_rejects_an_unknown_sink(run_cli: RunCli):
    """An unknown sink is exit 2 and a line with the configured ones."""
    result = run_cli("sinks", "test", "pager")

    assert (result.code, result.out) == (2, "")
    assert result.err == (
        "sutro-poller: POLLER_SINKS: no sink 'pager'; configured: log;"
        " set the variables of the daemon, or give its --env-file\n"
    )

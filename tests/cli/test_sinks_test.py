"""`sinks test`: one event through the real sink, at once, without any database."""

import json

import pytest

from poller.core.errors import DeliveryError
from poller.sinks import log as log_sink
from tests.cli.conftest import Ask
from tests.support.builders import check_event

SECRET = "whsec_" + "c4n4" * 8


def test_a_sink_takes_the_test(ask: Ask, path):
    """The log sink gets a valid event of its own type; there is still no database."""
    told = ask("sinks", "test", "log")

    line, last = told.out.splitlines()
    event = json.loads(line)
    assert told.code == 0
    assert event["event"] == "poller.test"
    assert last == f"Test event {event['event_id']} delivered to log."
    assert not path.exists()


def test_every_test_has_an_id_of_its_own(ask: Ask):
    """A receiver that drops repetitions sees the second test too."""
    ids = {json.loads(ask("sinks", "test", "log").out.splitlines()[0])["event_id"] for _ in "ab"}

    assert len(ids) == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (DeliveryError("cannot write to stdout"), "cannot write to stdout"),
        (KeyError(SECRET), "KeyError"),
    ],
    ids=["foreseen", "bug"],
)
def test_what_came_back_is_told(ask: Ask, monkeypatch, error: Exception, reason: str):
    """A sink that does not take it is exit 1 and the reason; a plugin's bug is one too."""
    got = []

    async def send(_sink, delivery) -> None:
        got.append(delivery.event)
        raise error

    monkeypatch.setattr(log_sink.LogSink, "send", send)

    told = ask(
        "sinks", "test", "log", "-o", "json",
        POLLER_WEBHOOK_URL="https://h.example/x", POLLER_WEBHOOK_SECRET=SECRET,
    )  # fmt: skip

    answer = json.loads(told.out)
    assert told.code == 1
    assert answer["sink"] == "log"
    assert reason in answer["error"]
    assert SECRET not in told.out + told.err
    assert check_event(got[0].body)["data"]["sink"] == "log"


def test_refusal_is_a_sentence(ask: Ask):
    """A receiver that cannot be reached is told in a line."""
    told = ask("sinks", "test", "webhook", POLLER_WEBHOOK_URL="http://127.0.0.1:9/secret")

    assert told.code == 1
    assert told.out.startswith("Test event evt_")
    assert "secret" not in told.out


def test_unknown_sink(ask: Ask):
    """A sink that is not configured is exit 2 and a line that says which are."""
    told = ask("sinks", "test", "pager")

    assert (told.code, told.out) == (2, "")
    assert told.err == "sutro-poller: POLLER_SINKS: no sink 'pager'; configured: log\n"

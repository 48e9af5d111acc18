"""The buttons of the pages: replay, drop, enable and test."""

from collections.abc import AsyncIterator
from html import unescape
from pathlib import Path

import pytest

from poller.sutro.simulator.script import JobScript
from tests.support.api_server import LiveDaemon, Response, live_daemon
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

FIRST = JobScript(job_id="job-1", queue_seconds=0.0, run_seconds=0.0)
SECOND = JobScript(job_id="job-2", queue_seconds=0.0, run_seconds=0.0)


@pytest.fixture
async def disabled(tmp_path: Path) -> AsyncIterator[LiveDaemon]:
    """Run a daemon whose webhook is disabled, with two dead letters, and works again."""
    ids = "job-1,job-2"
    async with live_daemon(tmp_path, FIRST, SECOND, status=410, POLLER_JOB_IDS=ids) as daemon:
        await until(lambda: dead(daemon) == 2)
        daemon.receiver.status = 204
        yield daemon


def dead(daemon: LiveDaemon) -> int:
    """Return the number of dead letters."""
    return sum(row["dead"] for row in daemon.app._store.admin().sinks())


async def press(daemon: LiveDaemon, path: str, **fields: str) -> Response:
    """Send a form as a browser does."""
    headers = {"Origin": daemon.url, "Sec-Fetch-Site": "same-origin"}
    return await daemon.request(
        "POST", path, data=fields or {"back": "/"}, headers=headers, allow_redirects=False
    )


def shown(page: Response) -> str:
    """Return the message on a page."""
    return unescape(page.text.partition('class="message" role="status">')[2].partition("<")[0])


async def outcome(daemon: LiveDaemon, response: Response) -> str:
    """Return the message on the page that a browser gets after an action."""
    assert response.status == 303, response.text
    return shown(await daemon.get(response.headers["Location"]))


async def test_enable_sends_what_was_kept(disabled: LiveDaemon):
    """A disabled sink is enabled, and its events are sent; again, nothing changes."""
    text = await outcome(disabled, await press(disabled, "/sinks/webhook/enable"))
    await until(lambda: sorted(disabled.receiver.ends) == ["job-1", "job-2"])
    again = await outcome(disabled, await press(disabled, "/sinks/webhook/enable"))

    assert text == "webhook is enabled; 2 events will be sent."
    assert again == "No change."


async def test_replay_of_one_dead_letter(tmp_path: Path):
    """One dead letter is sent again, and the browser returns to the page that had the button."""
    changes = {"POLLER_RETRY_SCHEDULE": "0.05s", "POLLER_JOB_IDS": "job-1,job-2"}
    async with live_daemon(tmp_path, FIRST, SECOND, status=400, **changes) as daemon:
        await until(lambda: dead(daemon) == 2)
        daemon.receiver.status = 204
        (event,) = (await daemon.get("/v1/events?type=job.succeeded&job=job-1")).body["events"]
        fields = {"event_id": event["id"], "sink": "webhook", "back": "/jobs/job-1"}
        response = await press(daemon, "/dead-letters/replay", **fields)
        await until(lambda: daemon.receiver.ends)
        text = await outcome(daemon, response)

        assert response.headers["Location"].startswith("/jobs/job-1?message=")
        assert text == "1 dead letter will be sent again."
        assert (daemon.receiver.ends, dead(daemon)) == (["job-1"], 1)


async def test_replay_of_an_event(disabled: LiveDaemon):
    """A delivered event is sent again, with the same ID."""
    (event,) = (await disabled.get("/v1/events?type=job.succeeded&job=job-1")).body["events"]
    await disabled.wait_for_deliveries()
    response = await press(disabled, f"/events/{event['id']}/replay", sink="log")

    assert await outcome(disabled, response) == "log: will be sent again."


async def test_replay_reports_what_is_skipped(disabled: LiveDaemon):
    """Dead letters of a disabled sink are not sent, and the message has the reason."""
    response = await press(disabled, "/dead-letters/replay", sink="webhook")

    assert await outcome(disabled, response) == (
        "0 dead letters will be sent again."
        " 2 dead letters not sent: the sink is disabled: enable it first."
    )


async def test_drop_of_all_dead_letters_of_a_sink(disabled: LiveDaemon):
    """Dead letters are dropped, and their events stay."""
    listed = await disabled.get("/dead-letters?sink=webhook")
    response = await press(
        disabled, "/dead-letters/drop", sink="webhook", back="/dead-letters?sink=webhook"
    )
    text = await outcome(disabled, response)
    after = await disabled.get("/dead-letters?sink=webhook")
    events = (await disabled.get("/v1/events?type=job.succeeded")).body["events"]

    assert listed.text.count('action="/dead-letters/drop"') == 3
    assert text == "2 dead letters dropped."
    assert "There are none." in after.text
    assert len(events) == 2


async def test_large_changes_are_made_in_portions(
    disabled: LiveDaemon, monkeypatch: pytest.MonkeyPatch
):
    """A request changes a limited number of dead letters, and says that there may be more."""
    for module in ("poller.api.page.actions", "poller.store.repairs"):
        monkeypatch.setattr(f"{module}.PORTION", 1)
    text = await outcome(disabled, await press(disabled, "/dead-letters/drop", sink="webhook"))

    assert text == "1 dead letter dropped. There may be more: press the button again."
    assert dead(disabled) == 1


async def test_pages_of_dead_letters_follow_each_other(
    disabled: LiveDaemon, monkeypatch: pytest.MonkeyPatch
):
    """Each page of dead letters begins after the last one of the page before."""
    monkeypatch.setattr("poller.api.page.views.ROWS", 1)
    first = await disabled.get("/dead-letters")
    path = first.text.partition('">Show more')[0].rpartition('"')[2]
    second = await disabled.get(path)

    assert ("job-2" in first.text) != ("job-1" in first.text)
    assert ("job-1" in second.text) == ("job-2" in first.text)
    assert "Show more" not in second.text


async def test_test_of_a_sink(disabled: LiveDaemon):
    """A test event is sent, and the message has the result."""
    works = await outcome(disabled, await press(disabled, "/sinks/webhook/test"))
    disabled.receiver.status = 500
    fails = await outcome(disabled, await press(disabled, "/sinks/webhook/test"))

    assert works == "The test of webhook was delivered."
    assert fails == "The test of webhook failed: the receiver returned 500."


async def test_replay_of_an_event_reports_a_failure(disabled: LiveDaemon):
    """An event that is unknown is not sent, and the message has the reason."""
    unknown = f"/events/evt_{'a' * 52}/replay"
    text = await outcome(disabled, await press(disabled, unknown))

    assert text.startswith("Not sent: no event ID starts with")


REJECTED = (
    ("/dead-letters/drop", {}, 400),
    ("/dead-letters/replay", {"event_id": "evt_1"}, 400),
    ("/dead-letters/replay", {"sink": "nobody"}, 404),
    ("/sinks/nobody/test", {}, 404),
    ("/sinks/webhook/test", {"back": "//evil.example"}, 400),
    ("/sinks/webhook/test", {"back": "https://evil.example"}, 400),
    ("/sinks/webhook/test", {"back": "/\\evil.example"}, 400),
    ("/sinks/webhook/test", {"back": "/jobs/a\r\nX: y"}, 400),
    ("/sinks/webhook/test", {"more": "1"}, 400),
    ("/sinks/webhook/test", {f"field-{number}": "1" for number in range(21)}, 400),
)


async def test_actions_reject_what_they_do_not_know(disabled: LiveDaemon):
    """Unknown fields, sinks and places to return to are rejected, and nothing changes."""
    statuses = [(await press(disabled, path, **fields)).status for path, fields, _ in REJECTED]

    assert statuses == [status for _, _, status in REJECTED]
    assert dead(disabled) == 2
    assert disabled.receiver.received == []


async def test_actions_reject_other_content_types(disabled: LiveDaemon):
    """A form is sent as browsers send it."""
    response = await disabled.post(
        "/dead-letters/drop", {"sink": "webhook"}, headers={"Origin": disabled.url}
    )

    assert response.status == 415


async def test_messages_are_limited(disabled: LiveDaemon, monkeypatch: pytest.MonkeyPatch):
    """The daemon keeps the messages of the last actions alone."""
    monkeypatch.setattr("poller.api.page.actions.MAX_MESSAGES", 1)
    first = await press(disabled, "/sinks/log/enable")
    second = await press(disabled, "/sinks/log/enable")

    assert await outcome(disabled, second) == "No change."
    assert await outcome(disabled, first) == ""

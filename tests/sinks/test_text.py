"""Events in words: what people read of them."""

from dataclasses import replace
from datetime import UTC
from typing import Any, Final

import pytest

from poller.core.daily_report import ReportPeriod, daily_report_event
from poller.core.detection_lag import Detection
from poller.core.durations import JobClass, Stage, UsualDuration
from poller.core.events import (
    EVENT_TYPES,
    DaemonEventType,
    Event,
    daemon_event,
    digest_event,
    job_event,
)
from poller.core.overdue import Overdue
from poller.core.state import EventDraft, JobEventType
from poller.sinks.samples import SAMPLE_REPORT
from poller.sinks.samples import test_event as a_test_event
from poller.sinks.text import Message, Tone, cut, describe, format_details, one_line
from tests.support.builders import a_job
from tests.support.event_builders import OBSERVED, ORIGIN, an_event

JOB_URL = "https://app.example/jobs/{job_id}?tab=log"


def message(kind: str = "job.succeeded", **fields: Any) -> Message:
    """Return the message about a job with some fields."""
    return describe(an_event(kind, job=a_job(**{"status": "SUCCEEDED"} | fields)))


def a_daemon_event(kind: DaemonEventType, **detail: str) -> Event:
    """Return an event of the daemon."""
    return daemon_event(kind, ORIGIN, OBSERVED, instance="i", occurrence=1, detail=detail)


@pytest.mark.parametrize("kind", sorted(EVENT_TYPES))
def test_message_exists_for_every_event_type(kind: str):
    """Every event type has a message for people."""
    is_of_job = kind.startswith("job.")
    event = a_test_event(kind, ORIGIN, OBSERVED, sink="webhook", instance="i")

    assert describe(event).title
    assert not is_of_job or "job-1" in describe(event).title
    assert describe(event).title.startswith("Test: ") is (kind != DaemonEventType.TEST)


def test_message_of_a_success():
    """A success has the job's name and id, how long it ran, its cost and its tokens."""
    job = a_job(
        name="Product review sentiment",
        status="SUCCEEDED",
        model="llama-3",
        num_rows=1_500,
        input_tokens=15_420,
        output_tokens=8_230,
        job_cost=0.0234,
        cost_estimate=0.02,
        datetime_created="2024-01-15T10:30:00Z",
        datetime_started="2024-01-15T10:30:15Z",
        datetime_completed="2024-01-15T10:32:15Z",
    )

    assert describe(an_event("job.succeeded", job=job)).text.split("\n") == [
        "✅ Product review sentiment (job-1) succeeded after 2m0s",
        "Cost $0.0234 (estimated $0.0200); Tokens 15,420 in, 8,230 out; Rows 1,500; Model llama-3",
    ]


def test_message_of_an_overdue_job():
    """An overdue job has its phase, for how long, and what is usual, if that is known."""
    usual = UsualDuration(p50=60.0, p95=90.0, basis=JobClass("m"), samples=20)
    overdue = Overdue(stage=Stage.RUNNING, elapsed=900.0, threshold=600.0, usual=usual)
    draft = EventDraft(
        type=JobEventType.OVERDUE,
        job_id="job-1",
        job=a_job(),
        previous_status=None,
        sequence=1,
        overdue=overdue,
    )
    by_hand = replace(draft, overdue=replace(overdue, stage=Stage.QUEUED, usual=None))

    titles = [
        describe(job_event(each, ORIGIN, OBSERVED, Detection(detected_at=0.0))).text
        for each in (draft, by_hand)
    ]

    assert titles == [
        "⚠️ job-1 has been running for 15m0s; 95 % of jobs like it take at most 1m30s",
        "⚠️ job-1 has been queued for 15m0s",
    ]


def test_message_of_a_cost_over_its_estimate():
    """A cost that is too high has its share of the estimate, and both."""
    job = a_job("FAILED", job_cost=1.8, cost_estimate=1.0, input_tokens=1, output_tokens=2)

    assert describe(an_event("job.cost_over_estimate", job=job)).text.split("\n") == [
        "⚠️ job-1 cost more than its estimate (180 % of it)",
        "Cost $1.80 (estimated $1.00); Tokens 1 in, 2 out",
    ]


def test_message_of_a_crossed_budget():
    """A crossed budget has its amount, the sums, and what these lack."""
    event = a_test_event("budget.crossed", ORIGIN, OBSERVED, sink="log", instance="1")
    found = describe(event)

    assert found.title == "Test: 80 % of the daily budget of $100.00 for 2024-01-15 is spent"
    assert found.facts == (
        ("Spent", "$81.41 for 212 jobs"),
        ("Not known", "the cost of 1 job"),
        ("With the estimates of unfinished jobs", "$93.91"),
    )
    assert format_details(event.data) == "daily 2024-01-15  80 % spent"


def test_message_of_a_failure():
    """A failure has its reason."""
    found = message("job.failed", status="FAILED", failure_reason={"message": "out of\nquota"})

    assert (found.tone, found.title, found.reason) == (Tone.BAD, "job-1 failed", "out of quota")
    assert found.facts[:2] == (("Cost", "unknown"), ("Tokens", "unknown in, unknown out"))


def test_message_of_an_unrecognised_job_has_its_status():
    """A status that is not known is in the message, in the API's word."""
    found = message("job.unrecognised", status="ARCHIVED")

    assert found.title == "job-1 seems to have ended, but its status ARCHIVED is not an end"


def test_message_of_a_type_of_an_earlier_version():
    """A pending event whose type no longer exists is shown with its type."""
    event = replace(an_event("job.succeeded"), type="job.cost_settled")

    assert describe(event).title.startswith("job.cost_settled: job-1")


def test_message_of_a_failure_without_a_reason_text():
    """A reason without a message is shown whole."""
    assert message(failure_reason={"code": 7}).reason == '{"code": 7}'


def test_message_of_a_cost_that_is_not_final():
    """A cost that is not final is marked."""
    assert message(job_cost=1234.5).facts[0] == ("Cost", "$1,234.50 so far")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (4.84, "after 4.8s"),
        (60, "after 1m0s"),
        (3599.4, "after 59m59s"),
        (3599.6, "after 1h0m"),
        (100_000, "after 1d3h"),
    ],
)
def test_message_has_the_duration(seconds: float, words: str):
    """A duration has the units that suit its length."""
    event = an_event("job.succeeded")
    body = event.body.replace(b'"run_seconds":null', f'"run_seconds":{seconds}'.encode())

    assert describe(replace(event, body=body)).title.endswith(f"succeeded {words}")


def test_message_of_a_job_without_a_job_object():
    """A job of which only the id is known can be reported missing."""
    found = describe(an_event("job.missing", job=None), JOB_URL)

    assert found.title == "job-1 is missing: the API no longer knows it"
    assert found.link == "https://app.example/jobs/job-1?tab=log"
    assert found.advice


def test_message_links_to_the_job():
    """The id is escaped in the link, and the event of no job has none."""
    event = an_event("job.started", job=a_job(job_id="a/b?c"))
    found = describe(event, JOB_URL)

    assert found.link == "https://app.example/jobs/a%2Fb%3Fc?tab=log"
    assert describe(event).link is None
    assert describe(a_daemon_event(DaemonEventType.TEST, sink="x"), JOB_URL).link is None


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (DaemonEventType.AUTH_FAILED, "api.sutro.sh rejects the API key: no job is being watched"),
        (DaemonEventType.AUTH_RECOVERED, "api.sutro.sh accepts the API key again"),
        (DaemonEventType.SINK_DISABLED, "The sink hook is disabled and gets no more events: 410"),
    ],
)
def test_message_of_a_daemon_event(kind: DaemonEventType, words: str):
    """An event of the daemon has a title, and where something is to be done, what."""
    found = describe(a_daemon_event(kind, sink="hook", reason="410"))

    assert found.title == words
    assert (found.advice is None) is (kind is DaemonEventType.AUTH_RECOVERED)


def a_report(**changes: Any) -> Message:
    """Return the message of a report like the sample, with some fields changed."""
    content = SAMPLE_REPORT | changes
    period = ReportPeriod.of_today(OBSERVED, OBSERVED.time(), UTC)
    return describe(daily_report_event(content, period, ORIGIN, OBSERVED))


NOTHING: Final[dict[str, Any]] = {
    **dict.fromkeys(("succeeded", "failed", "cancelled", "cost_unknown", "missing"), 0),
    **{key: [] for key in ("models", "slowest", "unchanged", "missing_ids", "sinks")},
    "cost_usd": None,
}


def test_message_of_a_daily_report():
    """A report has the ends, what they cost by model, and then what needs attention."""
    assert a_report().text.split("\n") == [
        "⚠️ Daily report 2024-01-15: 124 jobs ended, 3 failed",
        "Cost $45.20 and 2 unknown",
        "Cost by model: llama-3.3-70b $40.10 (100 jobs); qwen-3-32b $5.10 and 2 unknown (24 jobs)",
        "Slowest: Product review sentiment (job-12345) 3h12m",
        "No change for long: Support ticket triage (job-12346) 5h12m",
        "1 job missing: job-12347",
        "The sink webhook has 12 dead letters",
    ]


def test_message_of_a_day_without_jobs():
    """A report with nothing in it says that all is well."""
    assert a_report(**NOTHING).text == (
        "✅ Daily report 2024-01-15: 0 jobs ended\nNothing needs attention."
    )


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"missing": 7, "missing_ids": ["a", "b"]}, "7 jobs missing: a, b, 5 more"),
        (
            {"sinks": [{"sink": "slack", "pending": 0, "dead": 1, "is_disabled": True}]},
            "The sink slack is disabled and has 1 dead letter",
        ),
        (
            {"unchanged": [{"job_id": "job-1", "name": None, "seconds": 90_000.0}]},
            "No change for long: job-1 1d1h",
        ),
    ],
)
def test_report_of_one_problem_is_a_warning(changes: dict[str, Any], line: str):
    """What needs attention has a line, and the sign of a warning."""
    found = a_report(**NOTHING | changes)

    assert (found.tone, found.lines, found.advice) == (Tone.WARNING, (line,), None)


def test_report_of_a_failure_is_a_warning():
    """A failed job is shown in the title, and all is not well then."""
    found = a_report(**NOTHING | {"failed": 1, "cancelled": 2, "cost_unknown": 3})

    assert found.headline == "⚠️ Daily report 2024-01-15: 3 jobs ended, 1 failed, 2 cancelled"
    assert found.details == "Cost 3 unknown"


def test_report_names_what_it_leaves_out():
    """Models beyond the first ten are counted; a job without a model has none."""
    model = {"model": None, "jobs": 1, "cost_usd": "0.5", "cost_unknown": 0}
    found = a_report(**NOTHING | {"succeeded": 1, "models": [model], "models_omitted": 3})

    assert found.lines == ("Cost by model: no model $0.50 (1 job); 3 more",)


def test_text_is_one_line_without_controls():
    """No name can begin a line, or show as another name."""
    assert one_line("a\r\n b\x1b[31m\t\u202ec\u2066") == "a b[31m c"


@pytest.mark.parametrize(
    ("text", "limit", "kept"),
    [
        ("one two three", 13, "one two three"),
        ("one two three", 12, "one two…"),
        ("one two three", 8, "one two…"),
        ("one two three", 7, "one…"),
        ("x" * 20, 10, "x" * 9 + "…"),
        ("word " + "x" * 100, 50, "word " + "x" * 44 + "…"),
    ],
)
def test_text_is_cut_at_a_word(text: str, limit: int, kept: str):
    """A long text ends at a word, or within one that is as long as the limit."""
    assert cut(text, limit) == kept
    assert len(kept) <= limit


def a_digest(*events: Event) -> Message:
    """Return the message of a digest."""
    return describe(digest_event(events, ORIGIN, OBSERVED, sink="slack"))


def test_message_of_a_digest():
    """A digest counts events by type, adds up costs, and has a line for each event."""
    times = {
        "datetime_started": "2024-01-15T10:30:15Z",
        "datetime_completed": "2024-01-15T10:32:15Z",
    }
    good = a_job(name="Reviews", status="SUCCEEDED", job_cost=0.0234, **times)
    bad = a_job(job_id="job-2", status="FAILED", failure_reason={"message": "out of\nquota"})
    found = a_digest(
        an_event("job.failed", job_id="job-2", job=bad),
        an_event("job.succeeded", job=good),
        an_event("job.succeeded", job_id="job-3", job=replace(good, job_id="job-3", name=None)),
    )

    assert found.text.split("\n") == [
        "❌ 3 events since 2024-01-15 10:32 UTC: 2 succeeded, 1 failed",
        "Cost $0.0468 and 1 unknown",
        "❌ job-2 failed; out of quota",
        "✅ Reviews (job-1) succeeded after 2m0s; $0.0234",
        "✅ job-3 succeeded after 2m0s; $0.0234",
    ]


def test_digest_counts_a_cost_once():
    """The late cost of a job replaces the one of its end."""
    end = an_event("job.succeeded", job=a_job(status="SUCCEEDED"))
    late = an_event("job.settled", job=a_job(status="SUCCEEDED", job_cost=0.5))

    assert a_digest(end, late).facts == (("Cost", "$0.50"),)
    assert a_digest(late).facts == (("Cost", "$0.50"),)


def test_digest_without_an_end_has_no_cost():
    """What has not ended has no cost yet."""
    assert a_digest(an_event("job.started"), an_event("job.found")).facts == ()


def test_digest_shows_the_first_events_and_counts_the_others():
    """However many events there are and however long their names, a digest stays short."""
    job = a_job(
        status="SUCCEEDED", name="\N{FAMILY}" * 500, failure_reason={"message": "x" * 4_000}
    )
    event = digest_event(
        [an_event("job.succeeded", job=job)] * 2_000, ORIGIN, OBSERVED, sink="slack"
    )
    found = describe(event)

    assert found.title.endswith("2,000 succeeded")
    assert found.texts[-1] == "and 1,980 more"
    assert len(found.texts) == 21
    assert all(len(text) <= 200 for text in found.texts)
    assert len(event.body) <= 20_000


def test_body_has_as_many_lines_as_there_is_room_for():
    """Lines that have no room are counted, and a text without lines is cut."""
    found = Message(Tone.GOOD, "", lines=("x" * 10,) * 5, omitted=2)

    assert found.body(100).split("\n") == ["x" * 10] * 5 + ["and 2 more"]
    assert found.body(50).split("\n") == ["x" * 10] * 3 + ["and 4 more"]
    assert found.body(5) == "and…"
    assert Message(Tone.BAD, "", reason="one two three").body(12) == "one two…"

"""Fuzzed responses, from bytes to events: no crash and no false or invalid event."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final
from unicodedata import bidirectional, category

import pytest
from pydantic import SecretStr

from poller.core.detection_lag import Detection
from poller.core.errors import PollError, Rejected
from poller.core.events import EventOrigin, job_event
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.core.lifecycle import decide
from poller.core.parsing import parse_job
from poller.core.state import JobEventType, JobState, LifecyclePolicy, Phase
from poller.runtime.http_headers import http_date, retry_after
from poller.runtime.http_values import Response
from poller.sutro.client import SutroClient
from tests.fault_injection.harness import MAX_REPORTED, SCALE, tally
from tests.fault_injection.mutations import JOB, mutated, real_responses
from tests.support.builders import a_job, check_event
from tests.support.state_builders import poll_delay

pytestmark = pytest.mark.anyio

PROMISE = "a fuzzed response crashes nothing and causes no false event"
SHARDS: Final = 2
ORIGIN: Final = EventOrigin(deployment="api.example")
MOMENT: Final = datetime(2024, 1, 15, 11, tzinfo=UTC)
NOW: Final = 10_000.0
DETECTION: Final = Detection(detected_at=NOW, last_seen_at=NOW - 8.0, previous_poll_at=MOMENT)
POLICY: Final = LifecyclePolicy()
VALIDATED_EVENTS_STEP: Final = 20
"""One event in so many is validated by the JSON Schema, which takes longest."""

RUNNING: Final = a_job("RUNNING", job_id=JOB, datetime_started="2024-01-15T10:30:15Z")
ENDED: Final = a_job("SUCCEEDED", job_id=JOB)
STATES: Final = (
    JobState(job_id=JOB, since=0.0),
    JobState(job_id=JOB, since=0.0, phase=Phase.ACTIVE, status=JobStatus.RUNNING, job=RUNNING),
    JobState(job_id=JOB, since=0.0, phase=Phase.ACTIVE, completing_since=0.0),
    JobState(job_id=JOB, since=NOW - 1, phase=Phase.SETTLING, job=ENDED),
    JobState(job_id=JOB, since=0.0, phase=Phase.SETTLING, job=ENDED, regressed_at=0.0),
    JobState(job_id=JOB, since=0.0, phase=Phase.DONE, status=JobStatus.SUCCEEDED, job=ENDED),
    JobState(job_id=JOB, since=0.0, phase=Phase.MISSING, occurrence=1),
)
"""The states of a job when a fuzzed response arrives."""

ENDS: Final = {
    JobEventType.SUCCEEDED: {"succeeded", "completed", "complete", "success"},
    JobEventType.FAILED: {"failed", "error"},
    JobEventType.CANCELLED: {"cancelled", "canceled"},
}
"""The statuses of each end, kept apart from the product's table."""


@dataclass
class PreparedHttp:
    """An HTTP client with a prepared response."""

    response: Response = field(default_factory=lambda: Response(500, {}, b"", is_truncated=False))

    async def request(self, *_: object, **__: object) -> Response:
        """Return the response."""
        return self.response


UNPRINTABLE: Final = {"Cc", "Cs", "Zl", "Zp"}
TURNS: Final = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
"""Unicode's controls of the direction of text."""


def is_shown(char: str) -> bool:
    """Return whether a character is kept."""
    return category(char) not in UNPRINTABLE and bidirectional(char) not in TURNS


def read_independently(body: bytes) -> tuple[Any, str]:
    """Return the id and the status of a body, by a parser of our own."""
    try:
        raw = json.loads(body.decode("utf-8-sig", "replace"), parse_int=str)
        job = raw["job"]
        status = "".join(filter(is_shown, job["status"][:64]))
        return job["job_id"], status.strip().casefold()
    except (ValueError, LookupError, TypeError, RecursionError):
        return None, ""


def wrong_events(job: Job, status: str, number: int) -> list[str]:
    """Return what is wrong with the events of an observation, in one of several states."""
    found, before = [], STATES[number % len(STATES)]
    decision = decide(before, job, NOW, POLICY)
    poll_delay(decision.state, NOW)
    for draft in decision.drafts:
        if status not in ENDS.get(draft.type, {status}):
            found.append(f"{draft.type} for {status!r}")
        found += _invalid(job_event(draft, ORIGIN, MOMENT, DETECTION).body, number)
    return found


def _invalid(body: bytes, number: int) -> list[str]:
    if len(body) > 20_000 or any(byte < 0x20 for byte in body):
        return [f"{len(body)} bytes: {body[:200]!r}"]
    if number % VALIDATED_EVENTS_STEP == 0:
        check_event(body)
    else:
        json.loads(body)
    return []


async def check_body(api: SutroClient, http: PreparedHttp, body: bytes, number: int) -> list[str]:
    """Return what is wrong with the handling of one body."""
    http.response = Response(200, {}, body, is_truncated=False)
    try:
        job = await api.get_job(JOB)
    except Rejected:
        return [f"a reader broke on {body[:200]!r}"]
    except PollError:
        return []
    job_id, status = read_independently(body)
    if job_id != JOB or not status:
        return [f"believed {body[:200]!r}"]
    if parse_job(job.as_dict()) != job:
        return [f"cannot be read back: {job!r}"]
    return wrong_events(job, status, number)


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_fuzzed_responses(shard: int):
    """Any bytes are an error, or the job that was requested with valid events."""
    random, responses = SCALE.random("fuzz", shard), real_responses()
    http = PreparedHttp()
    api = SutroClient(http, base="http://api.example/v1", key=lambda: SecretStr("x"), now=float)
    violations: list[str] = []
    bodies = SCALE.cases(10_000, 100_000)
    for number in range(bodies):
        body = mutated(random.choice(responses), random)
        violations += await check_body(api, http, body, number)
        if len(violations) > MAX_REPORTED:
            break

    tally(PROMISE, cases=bodies, violations=violations)


DATES: Final = ("Mon, 15 Jan 2024 10:30:42 GMT", "Monday, 15-Jan-24 10:30:42 GMT", "7", "120")
ODD_PARTS: Final = (
    "",
    " ",
    ",",
    ":",
    "-",
    "+",
    "99999999999",
    "\u00b2",
    "Z",
    "Feb",
    "-9999",
    ".",
    "\xa0",
)


def odd_date(random: Random) -> str:
    """Mutate a date or a number of seconds of a header."""
    text = list(random.choice(DATES))
    for _ in range(random.randrange(4)):
        at = random.randrange(len(text) + 1)
        text[at : at + random.randrange(5)] = random.choice(ODD_PARTS)
    return "".join(text)


def test_fuzzed_dates():
    """Any Date and Retry-After is a time within bounds, or none."""
    random, violations = SCALE.random("dates"), []
    headers = SCALE.cases(5_000, 200_000)
    for _ in range(headers):
        read_independently = {"Date": odd_date(random), "Retry-After": odd_date(random)}
        moment, pause = (
            http_date(read_independently["Date"]),
            retry_after(read_independently, cap=3_600.0, now=0.0),
        )
        if not (pause is None or 0.0 <= pause <= 3_600.0) or (moment and not moment.timestamp()):
            violations.append(f"{read_independently}: {pause}")

    tally(PROMISE, cases=headers, violations=violations)

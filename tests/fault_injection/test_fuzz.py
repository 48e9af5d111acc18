"""Fuzzed answers against the whole way from bytes to events: no crash, no false or bad event."""

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from random import Random
from typing import Any, Final
from unicodedata import category

import pytest
from pydantic import SecretStr

from poller.core.detection import Detection
from poller.core.errors import PollError, Rejected
from poller.core.events import EventOrigin, job_event
from poller.core.jobs import Job, JobStatus
from poller.core.lifecycle import LifecyclePolicy, decide
from poller.core.parsing import parse_job
from poller.core.state import JobEventType, JobState, Phase
from poller.runtime.http import Response, http_date, retry_after
from poller.sutro.client import SutroClient
from tests.fault_injection.mutations import JOB, mutated, real_answers
from tests.fault_injection.rig import ENOUGH, SCALE, tally
from tests.support.builders import a_job, check_event
from tests.support.state_builders import poll_delay

pytestmark = pytest.mark.anyio

PROMISE = "a fuzzed response crashes nothing and causes no false event"
SHARDS: Final = 2
ORIGIN: Final = EventOrigin(deployment="api.example")
MOMENT: Final = datetime(2024, 1, 15, 11, tzinfo=UTC)
NOW: Final = 10_000.0
SIGHTING: Final = Detection(detected_at=NOW, last_seen_at=NOW - 8.0, previous_poll_at=MOMENT)
RULES: Final = LifecyclePolicy()
VALIDATED: Final = 20
"""One event of so many is held against the JSON Schema, which takes longest."""

SEEN: Final = a_job("RUNNING", job_id=JOB, datetime_started="2024-01-15T10:30:15Z")
ENDED: Final = a_job("SUCCEEDED", job_id=JOB)
BEFORE: Final = (
    JobState(job_id=JOB, since=0.0),
    JobState(job_id=JOB, since=0.0, phase=Phase.ACTIVE, status=JobStatus.RUNNING, job=SEEN),
    JobState(job_id=JOB, since=0.0, phase=Phase.ACTIVE, completing_since=0.0),
    JobState(job_id=JOB, since=NOW - 1, phase=Phase.SETTLING, job=ENDED),
    JobState(job_id=JOB, since=0.0, phase=Phase.SETTLING, job=ENDED, regressed_at=0.0),
    JobState(job_id=JOB, since=0.0, phase=Phase.DONE, status=JobStatus.SUCCEEDED, job=ENDED),
    JobState(job_id=JOB, since=0.0, phase=Phase.MISSING, occurrence=1),
)
"""Where a job can stand when a fuzzed answer comes."""

ENDS: Final = {
    JobEventType.SUCCEEDED: {"succeeded", "completed", "complete", "success"},
    JobEventType.FAILED: {"failed", "error"},
    JobEventType.CANCELLED: {"cancelled", "canceled"},
}
"""Which words may tell which end, written down apart from the product."""


@dataclass
class Canned:
    """An HTTP client that has its answer already."""

    answer: Response = field(default_factory=lambda: Response(500, {}, b"", is_truncated=False))

    async def request(self, *_: object, **__: object) -> Response:
        """Give the answer."""
        return self.answer


UNPRINTABLE: Final = {"Cc", "Cs", "Zl", "Zp"}


def told(body: bytes) -> tuple[Any, str]:
    """Say which id and which status a body tells, by a reader of our own."""
    try:
        raw = json.loads(body.decode("utf-8-sig", "replace"), parse_int=str)
        job = raw["job"]
        word = "".join(it for it in job["status"][:64] if category(it) not in UNPRINTABLE)
        return job["job_id"], word.strip().casefold()
    except (ValueError, LookupError, TypeError, RecursionError):
        return None, ""


def wrong_events(job: Job, word: str, number: int) -> list[str]:
    """Name what is wrong with any event that this sight of a job brings about, where it stood."""
    found, before = [], BEFORE[number % len(BEFORE)]
    decision = decide(before, job, NOW, RULES)
    poll_delay(decision.state, NOW)
    for it in decision.drafts:
        if word not in ENDS.get(it.type, {word}):
            found.append(f"{it.type} for {word!r}")
        found += _unfit(job_event(it, ORIGIN, MOMENT, SIGHTING).body, number)
    return found


def _unfit(body: bytes, number: int) -> list[str]:
    if len(body) > 20_000 or any(byte < 0x20 for byte in body):
        return [f"{len(body)} bytes: {body[:200]!r}"]
    if number % VALIDATED == 0:
        check_event(body)
    else:
        json.loads(body)
    return []


async def judged(api: SutroClient, http: Canned, body: bytes, number: int) -> list[str]:
    """Name what is wrong with the way of one body."""
    http.answer = Response(200, {}, body, is_truncated=False)
    try:
        job = await api.get_job(JOB)
    except Rejected:
        return [f"a reader broke on {body[:200]!r}"]
    except PollError:
        return []
    job_id, word = told(body)
    if job_id != JOB or not word:
        return [f"believed {body[:200]!r}"]
    if parse_job(job.as_dict()) != job:
        return [f"cannot be read back: {job!r}"]
    return wrong_events(job, word, number)


@pytest.mark.parametrize("shard", range(SHARDS))
async def test_fuzzed_answers(shard: int):
    """Any bytes are no observation, or a job that was asked for, whose events are whole."""
    random, answers = SCALE.random("fuzz", shard), real_answers()
    http = Canned()
    api = SutroClient(http, base="http://api.example/v1", key=lambda: SecretStr("x"), now=float)
    violations: list[str] = []
    bodies = SCALE.cases(10_000, 100_000)
    for number in range(bodies):
        body = mutated(random.choice(answers), random)
        violations += await judged(api, http, body, number)
        if len(violations) > ENOUGH:
            break

    tally(PROMISE, cases=bodies, violations=violations)


DATES: Final = ("Mon, 15 Jan 2024 10:30:42 GMT", "Monday, 15-Jan-24 10:30:42 GMT", "7", "120")
ODD: Final = (
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
    """Mutate a date or a number of seconds as a header may hold it."""
    text = list(random.choice(DATES))
    for _ in range(random.randrange(4)):
        at = random.randrange(len(text) + 1)
        text[at : at + random.randrange(5)] = random.choice(ODD)
    return "".join(text)


def test_fuzzed_dates():
    """Whatever stands in Date and Retry-After is a time within bounds, or none."""
    random, violations = SCALE.random("dates"), []
    headers = SCALE.cases(5_000, 200_000)
    for _ in range(headers):
        told = {"Date": odd_date(random), "Retry-After": odd_date(random)}
        moment, pause = http_date(told["Date"]), retry_after(told, cap=3_600.0)
        if not (pause is None or 0.0 <= pause <= 3_600.0) or (moment and not moment.timestamp()):
            violations.append(f"{told}: {pause}")

    tally(PROMISE, cases=headers, violations=violations)

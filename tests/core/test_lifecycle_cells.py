"""The state machine of a job, cell by cell."""

from itertools import product

import pytest

from poller.core.errors import NotFound, Transient
from poller.core.job_status import JobStatus
from poller.core.lifecycle import Effect, decide, effect_of
from poller.core.state import Decision, Phase, Signal
from tests.support.builders import FINAL, a_job
from tests.support.state_builders import (
    CANCELLING,
    COMPLETED,
    COSTLESS,
    DONE,
    DOUBTED,
    FAILED,
    LOST,
    NEVER_SEEN,
    NEW,
    QUEUED,
    RULES,
    RUNNING,
    SETTLING,
    STARTED,
    UNKNOWN,
)

CELLS = [
    # never seen
    (NEW, a_job("SUBMITTED"), Phase.ACTIVE, "SUBMITTED", "", ""),
    (NEW, a_job("QUEUED"), Phase.ACTIVE, "QUEUED", "", ""),
    (NEW, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (NEW, a_job("QUEUED", **STARTED), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (NEW, a_job("CANCELLING"), Phase.ACTIVE, "CANCELLING", "", ""),
    (NEW, a_job("CANCELLING", **STARTED), Phase.ACTIVE, "CANCELLING", "", ""),
    (NEW, a_job("UNKNOWN"), Phase.ACTIVE, "UNKNOWN", "", "job.unknown_status"),
    (NEW, a_job("PAUSED"), Phase.ACTIVE, "UNKNOWN", "", "job.unknown_status"),
    (NEW, a_job("SUCCEEDED"), Phase.SETTLING, "UNKNOWN", "", ""),
    (NEW, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (NEW, a_job("COMPLETE", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (NEW, a_job("FAILED", **FINAL), Phase.SETTLING, "UNKNOWN", "", ""),
    (NEW, a_job("FAILED", **FAILED), Phase.DONE, "FAILED", "job.failed", ""),
    (NEW, a_job("ERROR", **FAILED), Phase.DONE, "FAILED", "job.failed", ""),
    (NEW, a_job("CANCELLED"), Phase.SETTLING, "UNKNOWN", "", ""),
    (NEW, a_job("CANCELLED", **COMPLETED), Phase.DONE, "CANCELLED", "job.cancelled", ""),
    (NEW, a_job("CANCELED", **COMPLETED), Phase.DONE, "CANCELLED", "job.cancelled", ""),
    # active, the same or higher
    (QUEUED, a_job("QUEUED"), Phase.ACTIVE, "QUEUED", "", ""),
    (QUEUED, a_job("STARTING"), Phase.ACTIVE, "STARTING", "", ""),
    (QUEUED, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (QUEUED, a_job("QUEUED", **STARTED), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (QUEUED, a_job("PENDING", **STARTED), Phase.ACTIVE, "RUNNING", "job.started", ""),
    (QUEUED, a_job("CANCELLING"), Phase.ACTIVE, "CANCELLING", "", ""),
    (UNKNOWN, a_job("SUBMITTED"), Phase.ACTIVE, "SUBMITTED", "", ""),
    (RUNNING, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "", ""),
    (RUNNING, a_job("STARTING", **STARTED), Phase.ACTIVE, "RUNNING", "", ""),
    (RUNNING, a_job("RUNNING", **FINAL), Phase.ACTIVE, "RUNNING", "", ""),
    (RUNNING, a_job("CANCELLING"), Phase.ACTIVE, "CANCELLING", "", ""),
    # active, lower
    (QUEUED, a_job("PENDING"), Phase.ACTIVE, "QUEUED", "", "job.regressed"),
    (RUNNING, a_job("QUEUED"), Phase.ACTIVE, "RUNNING", "", "job.regressed"),
    (CANCELLING, a_job("RUNNING"), Phase.ACTIVE, "CANCELLING", "", "job.regressed"),
    # active, an end
    (QUEUED, a_job("SUCCEEDED"), Phase.SETTLING, "QUEUED", "", ""),
    (QUEUED, a_job("SUCCEEDED", job_cost=1), Phase.SETTLING, "QUEUED", "", ""),
    (QUEUED, a_job("SUCCEEDED", **COMPLETED), Phase.SETTLING, "QUEUED", "", ""),
    (QUEUED, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (QUEUED, a_job("FAILED", **FAILED), Phase.DONE, "FAILED", "job.failed", ""),
    (RUNNING, a_job("FAILED"), Phase.SETTLING, "RUNNING", "", ""),
    (RUNNING, a_job("FAILED", **FAILED), Phase.DONE, "FAILED", "job.failed", ""),
    (CANCELLING, a_job("CANCELLED", **COMPLETED), Phase.DONE, "CANCELLED", "job.cancelled", ""),
    (CANCELLING, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (UNKNOWN, a_job("FAILED", **FAILED), Phase.DONE, "FAILED", "job.failed", ""),
    # active, an unknown status
    (RUNNING, a_job("PAUSED"), Phase.ACTIVE, "RUNNING", "", "job.unknown_status"),
    (RUNNING, a_job("UNKNOWN"), Phase.ACTIVE, "RUNNING", "", "job.unknown_status"),
    (RUNNING, a_job("PAUSED", **FINAL), Phase.ACTIVE, "RUNNING", "", "job.unknown_status"),
    (UNKNOWN, a_job("PAUSED"), Phase.ACTIVE, "UNKNOWN", "", "job.unknown_status"),
    # settling
    (SETTLING, a_job("RUNNING"), Phase.SETTLING, "RUNNING", "", ""),
    (SETTLING, a_job("QUEUED"), Phase.SETTLING, "RUNNING", "", ""),
    (SETTLING, a_job("SUCCEEDED"), Phase.SETTLING, "RUNNING", "", ""),
    (SETTLING, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "job.succeeded", ""),
    (SETTLING, a_job("FAILED", **FINAL), Phase.SETTLING, "RUNNING", "", ""),
    (SETTLING, a_job("FAILED", **FAILED), Phase.DONE, "FAILED", "job.failed", ""),
    (SETTLING, a_job("CANCELLED", **COMPLETED), Phase.DONE, "CANCELLED", "job.cancelled", ""),
    (SETTLING, a_job("PAUSED", **FINAL), Phase.SETTLING, "RUNNING", "", ""),
    (SETTLING, Signal.NOT_FOUND, Phase.SETTLING, "RUNNING", "", ""),
    (DOUBTED, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "", "job.regressed"),
    (DOUBTED, a_job("QUEUED"), Phase.ACTIVE, "RUNNING", "", "job.regressed"),
    (DOUBTED, a_job("CANCELLING"), Phase.ACTIVE, "CANCELLING", "", "job.regressed"),
    (DOUBTED, a_job("PAUSED"), Phase.SETTLING, "RUNNING", "", ""),
    # done
    (DONE, a_job("RUNNING"), Phase.DONE, "SUCCEEDED", "", "job.contradicted"),
    (DONE, a_job("QUEUED"), Phase.DONE, "SUCCEEDED", "", "job.contradicted"),
    (DONE, a_job("FAILED"), Phase.DONE, "SUCCEEDED", "", "job.contradicted"),
    (DONE, a_job("SUCCEEDED", **FINAL), Phase.DONE, "SUCCEEDED", "", ""),
    (DONE, a_job("SUCCEEDED"), Phase.DONE, "SUCCEEDED", "", ""),
    (DONE, a_job("PAUSED"), Phase.DONE, "SUCCEEDED", "", ""),
    (DONE, Signal.NOT_FOUND, Phase.DONE, "SUCCEEDED", "", ""),
    (COSTLESS, a_job("FAILED"), Phase.DONE, "FAILED", "", ""),
    (COSTLESS, a_job("FAILED", **FINAL), Phase.DONE, "FAILED", "", ""),
    (COSTLESS, a_job("FAILED", **FAILED), Phase.DONE, "FAILED", "job.settled", ""),
    (COSTLESS, a_job("SUCCEEDED", **FINAL), Phase.DONE, "FAILED", "", "job.contradicted"),
    # missing
    (LOST, Signal.NOT_FOUND, Phase.MISSING, "RUNNING", "", ""),
    (LOST, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "job.found", ""),
    (LOST, a_job("QUEUED"), Phase.ACTIVE, "RUNNING", "job.found", "job.regressed"),
    (LOST, a_job("PAUSED"), Phase.ACTIVE, "RUNNING", "job.found", "job.unknown_status"),
    (LOST, a_job("SUCCEEDED"), Phase.SETTLING, "RUNNING", "job.found", ""),
    (LOST, a_job("FAILED", **FAILED), Phase.DONE, "FAILED", "job.found job.failed", ""),
    (NEVER_SEEN, a_job("QUEUED"), Phase.ACTIVE, "QUEUED", "job.found", ""),
    (NEVER_SEEN, a_job("RUNNING"), Phase.ACTIVE, "RUNNING", "job.found job.started", ""),
    (NEVER_SEEN, a_job("PAUSED"), Phase.ACTIVE, "UNKNOWN", "job.found", "job.unknown_status"),
    (NEVER_SEEN, a_job("FAILED", **FAILED), Phase.DONE, "FAILED", "job.found job.failed", ""),
    # one 404 means nothing yet
    (NEW, Signal.NOT_FOUND, Phase.NEW, "UNKNOWN", "", ""),
    (RUNNING, Signal.NOT_FOUND, Phase.ACTIVE, "RUNNING", "", ""),
]


@pytest.mark.parametrize(
    ("state", "seen", "phase", "status", "events", "remarks"), CELLS, ids=range(len(CELLS))
)
def test_every_cell(state, seen, phase, status, events, remarks):
    """One observation five seconds later means what the table says."""
    decision = decide(state, seen, 5.0, RULES)

    assert (decision.state.phase, decision.state.status) == (phase, status)
    assert [it.type for it in decision.drafts] == events.split()
    assert list(decision.anomalies) == remarks.split()
    assert decision.state.sequence == state.sequence + len(decision.drafts)


@pytest.mark.parametrize("state", [NEW, QUEUED, RUNNING, UNKNOWN, DONE, COSTLESS, LOST])
def test_time_alone_changes_settling_jobs_only(state):
    """Whatever time passes without an observation, only a settling job changes."""
    assert decide(state, Signal.TIMER, 1e9, RULES) == Decision(state)


STATES = [CANCELLING, COSTLESS, DONE, DOUBTED, LOST, NEW, QUEUED, RUNNING, SETTLING, UNKNOWN]
LOOKS = [
    a_job(word, **fields)
    for word, fields in product([*JobStatus, "PAUSED"], [{}, STARTED, COMPLETED, FINAL, FAILED])
]


@pytest.mark.parametrize("state", STATES, ids=range(len(STATES)))
@pytest.mark.parametrize("seen", LOOKS, ids=range(len(LOOKS)))
def test_observation_without_effect_changes_nothing(state, seen):
    """An observation that counts as unchanged keeps the state and announces nothing."""
    kept = decide(state, seen, state.since + 9.0, RULES) == Decision(state)

    assert kept or effect_of(state, seen) is Effect.CHANGE


LISTED = [
    (RUNNING, "QUEUED", Effect.STALE),
    (RUNNING, "RUNNING", Effect.NONE),
    (RUNNING, "CANCELLING", Effect.CHANGE),
    (RUNNING, "SUCCEEDED", Effect.CHANGE),
    (RUNNING, "PAUSED", Effect.CHANGE),
    (SETTLING, "RUNNING", Effect.STALE),
    (SETTLING, "SUCCEEDED", Effect.CHANGE),
    (DONE, "RUNNING", Effect.STALE),
    (LOST, "RUNNING", Effect.CHANGE),
]


@pytest.mark.parametrize(("state", "word", "effect"), LISTED, ids=range(len(LISTED)))
def test_lagging_list_is_stale(state, word, effect):
    """A list that shows an earlier status is stale; a GET that shows it is not."""
    assert effect_of(state, a_job(word), from_list=True) is effect
    assert effect_of(state, a_job(word)) is not Effect.STALE


@pytest.mark.parametrize("result", [a_job("SUCCEEDED", **FINAL), NotFound("404"), Transient("500")])
def test_outdated_response_is_stale(result):
    """A response that was requested before the one applied last changes nothing."""
    assert effect_of(RUNNING, result, is_outdated=True) is Effect.STALE
    assert effect_of(RUNNING, result) is Effect.CHANGE


def test_timer_is_never_stale():
    """Passed time is no response, so it always counts."""
    assert effect_of(SETTLING, Signal.TIMER, is_outdated=True) is Effect.CHANGE


@pytest.mark.parametrize("word", ["QUEUED", "RUNNING", "CANCELLING"])
def test_same_status_has_no_effect(word):
    """The most common observation has no effect: the job runs, or waits, as before."""
    seen = a_job(word)

    assert effect_of(decide(NEW, seen, 0.0, RULES).state, seen) is Effect.NONE

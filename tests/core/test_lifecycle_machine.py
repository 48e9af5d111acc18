"""The state machine of a job against an oracle, whatever is observed in whatever order."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from poller.core.detection_lag import Detection
from poller.core.events import EventOrigin, job_event
from poller.core.job_status import JobStatus
from poller.core.lifecycle import decide
from poller.core.settling import PARTIAL_SECONDS, settle_deadline
from poller.core.state import JobState, LifecyclePolicy, Phase, Signal
from tests.support.builders import a_job, check_event
from tests.support.lifecycle_oracle import Oracle

WORDS = st.sampled_from([*(status.value for status in JobStatus), "PAUSED"]) | st.sampled_from(
    ["QUEUED", "RUNNING", "SUCCEEDED"]
)
ENDS = {"job.succeeded", "job.failed", "job.cancelled"}
FIELDS: dict[str, dict[str, Any]] = {
    "completed": {"datetime_completed": "2024-01-15T10:32:15Z"},
    "cost": {"job_cost": 0.5},
    "tokens": {"input_tokens": 20, "output_tokens": 0},
    "reason": {"failure_reason": {"message": "out of quota"}},
}
PARTS = st.frozensets(st.sampled_from(list(FIELDS))) | st.just(frozenset(FIELDS))
MOMENT = "2024-01-15T10:32:15Z"
ORIGIN = EventOrigin(deployment="api.sutro.sh")
RULES = LifecyclePolicy()


class OneJob(RuleBasedStateMachine):
    """One job with any observation at any time, and a daemon that restarts now and then."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_000.0
        self.ids: dict[str, set[str]] = {}
        self.begin()

    def begin(self) -> None:
        """Start without any state."""
        self.oracle = Oracle()
        self.state = self.stored = JobState(job_id="job-1", since=self.now)
        self.kinds: list[str] = []
        self.is_final: bool | None = None
        self.calm = 0

    @rule(word=WORDS, started=st.booleans(), has=PARTS)
    def see(self, word, started, has):
        """The API shows the job, with any part of what belongs to its end."""
        fields = {name: value for part in has for name, value in FIELDS[part].items()}
        job = a_job(word, datetime_started=MOMENT if started else None, **fields)
        self.decide(job, self.oracle.sees(self.now, word, started=started, has=has))

    @rule()
    def miss(self):
        """The API returns 404 for the job."""
        self.decide(Signal.NOT_FOUND, self.oracle.misses_it(self.now))

    @rule(seconds=st.sampled_from([0.5, 3.0, 5.0, 20.0, 30.0, 150.0, 600.0, 43_200.0]))
    def wait(self, seconds):
        """Time passes, with or without polls that fail."""
        self.now += seconds
        before = self.state
        self.decide(Signal.TIMER, expected := self.oracle.waits(self.now))

        assert expected or self.state == before

    # A daemon that restarts at every other step would never see a job go missing.
    @precondition(lambda self: self.calm > 12)
    @rule()
    def restart(self):
        """The daemon starts again from what it has stored."""
        self.state = replace(
            self.stored,
            misses=0,
            first_miss_at=0.0,
            regressed_at=None,
            completing_since=None,
            unknown_since=None,
            is_back=False,
        )
        self.oracle.restart()
        self.calm = 0

    @precondition(lambda self: self.calm > 12)
    @rule()
    def lose_all_state(self):
        """The daemon starts again without its database."""
        self.begin()

    def decide(self, seen, expected):
        """Check what is announced, and keep what has to be stored."""
        decision = decide(self.state, seen, self.now, RULES)
        self.calm += 1

        assert [it.type for it in decision.drafts] == expected
        for number, transition in enumerate(decision.drafts, self.state.sequence + 1):
            assert transition.sequence == number
            moment = datetime.fromtimestamp(self.now, UTC)
            event = job_event(transition, ORIGIN, moment, Detection(detected_at=self.now))
            is_final = check_event(event.body)["data"]["final"]
            self.is_final = is_final if transition.type in ENDS else self.is_final
            self.ids.setdefault(transition.type, set()).add(event.id)
            self.kinds.append(transition.type)
        self.state = decision.state
        if not self.state.matches_recorded(self.stored):
            self.stored = self.state

    @invariant()
    def ends_at_most_once(self):
        """A job has at most one end, and nothing but what it lacked comes after it."""
        ends = [index for index, kind in enumerate(self.kinds) if kind in ENDS]

        assert len(ends) <= 1
        assert not ends or self.kinds[ends[0] + 1 :] in ([], ["job.settled"])
        assert bool(ends) is (self.state.phase is Phase.DONE)
        assert self.kinds[-1:] != ["job.settled"] or not self.is_final

    @invariant()
    def ids_are_stable(self):
        """What can happen once has one id, before and after all state was lost."""
        once = set(self.ids) - {"job.missing", "job.found"}

        assert all(len(self.ids[kind]) == 1 for kind in once)

    @invariant()
    def settling_is_bounded(self):
        """What is held back has a deadline: an end in seconds, late fields in a day."""
        due, state = settle_deadline(self.state, RULES), self.state

        assert (due is not None) is (state.phase is Phase.SETTLING or bool(state.late_fields))
        longest = RULES.settle_timeout if state.phase is Phase.SETTLING else PARTIAL_SECONDS
        assert due is None or due - self.now <= longest

    @invariant()
    def what_is_stored_is_enough(self):
        """Whatever differs from the stored state may be forgotten."""
        assert self.stored.matches_recorded(self.state)
        assert self.stored.occurrence == self.state.occurrence
        assert self.stored.is_unrecognised == self.state.is_unrecognised


OneJob.TestCase.settings = settings(stateful_step_count=50)
TestOneJob = OneJob.TestCase

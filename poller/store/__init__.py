"""The persistence port: job states, events, and one delivery per event and sink.

Each verb is one transaction. Its changes are durable when it returns. When it raises
StoreUnavailable, the caller cannot know whether they were written, and reads again. Times are
seconds of `Clock.steady`.
"""

from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from poller.core.events import Event
from poller.core.outbox import Delivery, Outcome, Pruned, SinkBacklog, WriteBatch
from poller.core.state import JobState

if TYPE_CHECKING:
    from poller.store.admin import StoreAdmin
    from poller.store.past_jobs import EndCursor, PastJobs
    from poller.store.report import ReportQuery

SINK_DISABLED: Final = "the sink was disabled"
SINK_UNCONFIGURED: Final = "the sink was removed from the configuration"
SINK_FAILED: Final = "not delivered for 7 days"
"""Why a delivery is dead: the `reason` in its row, or how it begins."""

MakeDigest = Callable[[Sequence[Event]], Event]
"""Returns the digest of events, the oldest first."""


class Store(Protocol):
    """The durable state of the daemon. Use it as an async context manager."""

    database_id: str
    """The random id of the database, made when the database was created."""

    digest_sinks: Collection[str]
    """The names of the sinks that get some events as digests."""

    instance_key: bytes
    """Proves to clients of the HTTP API that this process serves the database; may be empty."""

    last_error: str | None
    """The text of the last StoreUnavailable; None once a verb has shown that it is over.

    After a failed change that is the next change: a full disk can still be read.
    """

    last_error_at: float
    """When a verb last raised StoreUnavailable; -inf for never."""

    async def __aenter__(self) -> Self:
        """Lock, open, check and migrate the database.

        Raises StoreLocked, StoreUnusable (then the file is unchanged) or StoreUnavailable.
        """

    async def __aexit__(self, *_error: object) -> None:
        """Close and unlock the database."""

    def interrupt_after(self, seconds: float) -> None:
        """Interrupt, in this many seconds, the call that runs then; at once while it opens.

        For a stop, which must not wait for a database that another process keeps locked. An
        interrupted call raises StoreUnavailable.
        """

    def admin(self) -> "StoreAdmin":
        """Return the operator's queries and repairs of the same data, for use in any thread."""

    async def load_states(self, job_ids: Collection[str]) -> list[JobState]:
        """Return the states of these jobs, and of all jobs that are settling or await fields.

        Fields are awaited for LATE_WATCH_SECONDS. A job without a recorded state is left out. A
        `since` in the future becomes now.
        """

    async def unfinished_ids(self) -> list[str]:
        """Return the ids of all recorded jobs that are not done, or missing for a week."""

    async def past_jobs(self, after: "EndCursor") -> "PastJobs":
        """Return a portion of the jobs that ended last, with how long they took.

        The newest come first, those of other deployments and of unknown times are left out.
        """

    async def added_ids(self) -> list[str]:
        """Return the ids of the jobs that were added at run time, in the order of addition."""

    async def add_ids(self, job_ids: Collection[str]) -> None:
        """Record that these jobs were added at run time, and when: also of ids that are there."""

    async def remove_ids(self, job_ids: Collection[str]) -> None:
        """Delete these jobs from those that were added at run time."""

    async def get_flags(self) -> dict[str, str]:
        """Return all flags by name."""

    async def write(self, batch: WriteBatch) -> list[Event]:
        """Write a batch, all or nothing; return the events that could not be recorded.

        An event whose id is recorded already changes nothing; it is returned if the recorded one is
        about another job. A new event gets a pending delivery, due now, for each sink whose route
        does not reject it; with `same_sinks_as`, for each sink that has a delivery of that other
        event. Without such a sink it is recorded nevertheless.
        """

    async def due_deliveries(
        self, sink: str, now: float, *, limit: int, busy: Collection[str] = (), early: bool = False
    ) -> list[Delivery]:
        """Return deliveries that may be sent now: pending, due, and the first of their subject.

        At most one per subject, so that the events of one job arrive in order; none of the `busy`
        subjects; earliest due first. With `early` the due time is ignored, and the delivery that
        has gone longest without an attempt comes first. A disabled sink has none.
        """

    async def gather_digest(self, sink: str, make: MakeDigest, *, early: bool = False) -> bool:
        """Write the digest of what waits for one, if it is due or `early` and none is pending.

        `make` gets the events, the oldest first. Their deliveries stay pending until the delivery
        of the digest ends, and end as it does. An event that is alone is sent by itself. Return
        whether any was due.
        """

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Record the outcomes of attempts; each one that is not delivered counts as failed.

        A delivery that became dead during its attempt stays dead, unless the attempt delivered it.
        The outage of a sink lasts from the first outcome with `is_sink_fault` to one without.
        """

    async def record_hang(self, sink: str, reason: str) -> None:
        """Record that a sink fails, by a call whose outcome is not known yet."""

    async def dead_letter_expired(self, sink: str) -> int:
        """Make a portion dead of what is older than 7 days at a sink that has failed for 7 days.

        Return how many, 0 when there are no more. The oldest come first, whether they had an
        attempt or not. The time between two failures does not count if it is longer than a day, and
        after three days, or if the clock went back, the 7 days start again: the daemon may have
        been down, or its clock wrong.
        """

    async def expedite(self, sink: str, now: float) -> bool:
        """Make many deferred deliveries of a sink due now; return whether there may be more."""

    async def disable_sink(
        self, sink: str, reason: str, announce: Callable[[int], Event] | None = None
    ) -> int:
        """Disable a sink, make its pending deliveries dead, and return how often it was disabled.

        A sink that is disabled already is not counted again. The event that `announce` returns of
        that number is written in the transaction that disables the sink.
        """

    async def backlogs(self) -> list[SinkBacklog]:
        """Return the backlog of each sink that is configured or has deliveries left."""

    async def report(self, query: "ReportQuery") -> dict[str, Any]:
        """Return the content of the daily report for a period, as JSON values."""

    async def prune(self, now: float, watched: Collection[str]) -> Pruned:
        """Delete rows past their retention; log and return how many, also if it ends early.

        Events are deleted 7 days after they were delivered to all their sinks, dead ones after
        30 days, but none of a job that awaits fields; a job 400 days after its last change unless
        it is watched. A job that was added at run time is removed 30 days after it was done or went
        missing, and was last added. The deliveries of a sink that was removed from the
        configuration 7 days ago become dead.
        """

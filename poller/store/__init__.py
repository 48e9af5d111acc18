"""The port to what must survive: job states, events, and one delivery per event and sink.

Each verb is one transaction. What a verb wrote is durable when it returns; when it raises
StoreUnavailable, whether it was written is unknown, and the caller reads again. Times are seconds
of `Clock.steady`.
"""

from collections.abc import Collection, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, Protocol, Self

from poller.core.outbox import Delivery, Outcome, SinkBacklog, WriteBatch
from poller.core.state import JobState

if TYPE_CHECKING:
    from poller.store.admin import StoreAdmin

DAY: Final = 86_400.0
DELIVERED_RETENTION: Final = 7 * DAY
DEAD_RETENTION: Final = 30 * DAY
JOB_RETENTION: Final = 400 * DAY
ADDED_RETENTION: Final = 30 * DAY
UNCONFIGURED_RETENTION: Final = 7 * DAY

SINK_DISABLED: Final = "the sink was disabled"
SINK_UNCONFIGURED: Final = "the sink left the configuration"


class Store(Protocol):
    """Where the daemon keeps what must not be lost. Use it as an async context manager."""

    @property
    def database_id(self) -> str:
        """A random name, given to the store when it was made."""

    @property
    def last_error(self) -> str | None:
        """Why the last verb raised StoreUnavailable; None when it did not."""

    @property
    def last_error_at(self) -> float:
        """When a verb last raised StoreUnavailable, by the store's clock; -inf for never."""

    async def __aenter__(self) -> Self:
        """Lock, open, check and migrate.

        Raises StoreLocked, StoreRefused (then the file is as it was) or StoreUnavailable.
        """

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close and unlock."""

    def admin(self) -> "StoreAdmin":
        """Return what reads and repairs the same data for an operator, in any thread."""

    async def load_states(self, job_ids: Collection[str]) -> list[JobState]:
        """Read the states of these jobs, and of every job that is settling or awaits its cost.

        A cost is awaited for COST_WATCH seconds. A job without a recorded state is left out. A
        `since` that lies ahead becomes now.
        """

    async def unfinished_ids(self) -> list[str]:
        """Name every recorded job that has not ended."""

    async def added_ids(self) -> list[str]:
        """Name the jobs that were added, in the order of their coming."""

    async def add_ids(self, job_ids: Collection[str]) -> None:
        """Note that these jobs are to be watched from now on, those that are noted already too."""

    async def remove_ids(self, job_ids: Collection[str]) -> None:
        """Note that these jobs are not to be watched, unless somebody else names them."""

    async def get_flags(self) -> dict[str, str]:
        """Read every mark."""

    async def write(self, batch: WriteBatch) -> None:
        """Write a batch, all or nothing.

        An event whose id is already there changes nothing. A new one gets a pending delivery, due
        now, for each sink that takes its type; one that `follows` another gets them for the sinks
        that have a delivery of that other event instead.
        """

    async def due_deliveries(
        self, sink: str, now: float, *, limit: int, busy: Collection[str] = (), early: bool = False
    ) -> list[Delivery]:
        """Read deliveries that may be sent now: pending, due, and the first of their subject.

        At most one per subject, so that the events of one job arrive in order; none of the `busy`
        subjects; earliest due first. `early` ignores the due time and gives those whose last
        attempt is longest ago first. None for a disabled sink.
        """

    async def settle(self, outcomes: Sequence[Outcome]) -> None:
        """Write what became of attempts; each one that is not delivered counts as failed.

        A delivery that was buried meanwhile stays dead, unless the attempt delivered it.
        """

    async def expedite(self, sink: str, now: float) -> None:
        """Make every pending delivery of a sink due now."""

    async def disable_sink(self, sink: str, reason: str) -> int:
        """Switch a sink off and bury its pending deliveries; say how often that has happened.

        A sink that is off already is not counted again.
        """

    async def backlogs(self) -> list[SinkBacklog]:
        """Read the backlog of every sink that is configured or has deliveries left."""

    async def prune(self, now: float, watched: Collection[str]) -> int:
        """Forget what is past its time, and say how many rows went.

        Bodies go 7 days after the event was delivered to all its sinks, dead ones after 30 days;
        a job's row 400 days after its last change unless it is watched. A job that was added is
        watched no more 30 days after it has ended or went missing. The deliveries of a sink that
        left the configuration 7 days ago become dead.
        """

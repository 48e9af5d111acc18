"""The values of the outbox: deliveries, outcomes, backlogs, and the batch of one transaction."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from poller.core.budgets import CostReader
from poller.core.events import Event
from poller.core.state import JobState

DAY: Final = 86_400.0
MIN_JOB_RETENTION: Final = 7 * DAY
"""Seconds: discovery ignores jobs that ended earlier, so that none is reported twice."""
MIN_EVENT_RETENTION: Final = DAY
"""Seconds: an event can be listed and replayed for a day at least."""


class DeliveryStatus(StrEnum):
    """The status of a delivery. Each one ends either delivered or dead."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBatch:
    """The changes of one transaction: states, the events they imply, and flags.

    A flag is a short text that the daemon stores about itself under a name. `announce` returns
    further events, which follow from the costs with these states.
    """

    states: Sequence[JobState] = ()
    events: Sequence[Event] = ()
    flags: Mapping[str, str] = field(default_factory=dict)
    announce: Callable[[CostReader], Sequence[Event]] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event for one sink.

    `attempts` counts the failed ones, and `rejections` those of them that rejected this event.
    `failing_seconds` is how long it has failed: the time since its first attempt, as far as further
    attempts show it. `is_intact` is false if the stored body does not match its digest: it must not
    be sent.
    """

    id: int
    sink: str
    event: Event
    created_at: float
    attempts: int = 0
    rejections: int = 0
    failing_seconds: float = 0.0
    is_replay: bool = False
    is_intact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The outcome of one attempt.

    `due` matters for PENDING only; `reason` is why it failed. `is_sink_fault` is whether the sink
    fails, or works; None if the attempt does not show that. `rejections` counts those of the
    event with this one; 0 if it was not rejected.
    """

    delivery_id: int
    status: DeliveryStatus
    due: float = 0.0
    reason: str | None = None
    is_sink_fault: bool | None = None
    rejections: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long rows are kept, in seconds: from the delivery, the death or the last change."""

    delivered: float = 7 * DAY
    dead: float = 30 * DAY
    jobs: float = 400 * DAY
    added: float = 30 * DAY
    unconfigured: float = 7 * DAY
    crossings: float = 400 * DAY


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """How many rows past their retention were deleted.

    `dead_letters` went with their events. `unconfigured` deliveries became dead.
    """

    additions: int = 0
    events: int = 0
    dead_letters: int = 0
    jobs: int = 0
    unconfigured: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkBacklog:
    """The backlog of one sink.

    `last_due` is the latest due time of its pending deliveries, `oldest_pending_at` the earliest
    time at which one of them was recorded. `failing_since` is when the sink began to fail, and
    `reason` why it fails, or why its oldest delivery is still pending. Without `is_configured` the
    sink was removed from the configuration, and its deliveries wait for its return.
    """

    name: str
    pending: int = 0
    dead: int = 0
    last_due: float | None = None
    oldest_pending_at: float | None = None
    failing_since: float | None = None
    reason: str | None = None
    is_disabled: bool = False
    is_configured: bool = True

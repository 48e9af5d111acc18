"""The values of the outbox: deliveries, their status and what one transaction writes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from poller.core.events import Event
from poller.core.state import JobState

Routes = Mapping[str, frozenset[str]]
"""The event types that each configured sink takes, by the sink's name."""


class DeliveryStatus(StrEnum):
    """How a delivery stands. Every delivery ends delivered or dead, never both."""

    PENDING = "pending"
    DELIVERED = "delivered"
    DEAD = "dead"


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteBatch:
    """What one transaction writes: states, the events they imply, and marks.

    A mark is a short text that the daemon keeps about itself under a name.
    """

    states: Sequence[JobState] = ()
    events: Sequence[Event] = ()
    flags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event on its way to one sink.

    `attempts` counts those that failed. `is_intact` is false when the stored bytes no longer match
    their digest: such a body must not be sent.
    """

    id: int
    sink: str
    event: Event
    created_at: float
    attempts: int = 0
    is_replay: bool = False
    is_intact: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one attempt. `due` counts only for PENDING, `reason` says why it failed."""

    delivery_id: int
    status: DeliveryStatus
    due: float = 0.0
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkBacklog:
    """The backlog of one sink.

    `last_due` is when the last of the pending deliveries is due, `oldest` when the first of them
    was recorded.

    A sink with `is_configured` false has left the configuration: its deliveries are parked.
    """

    name: str
    pending: int = 0
    dead: int = 0
    last_due: float | None = None
    oldest_pending_at: float | None = None
    is_disabled: bool = False
    is_configured: bool = True

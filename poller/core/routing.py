"""Routes: which events a sink gets, by their type and by their job.

A filter that cannot be decided lets the event pass: one too many is better than one that is lost.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from poller.core.events import TERMINAL_EVENTS, DaemonEventType, Event
from poller.core.formatting import format_cost, format_duration
from poller.core.patterns import is_selected
from poller.core.state import JobEventType

DAEMON_EVENTS: Final = frozenset(DaemonEventType)
URGENT_EVENTS: Final = frozenset(
    {JobEventType.FAILED, JobEventType.MISSING, JobEventType.UNRECOGNISED}
)
"""Events that somebody should act on."""
MAX_QUOTED_CHARS: Final = 64


class Minimum(NamedTuple):
    """A minimum for ended jobs: its setting, and the value of one job, None if it is not known."""

    setting: str
    limit: float
    value: float | None
    format: Callable[[float], str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """The event types of a sink, and its filters for events about jobs.

    `job_name` and `model` are patterns of `is_selected`; without any, every job is selected.
    `min_cost` is in US dollars, `min_duration` in seconds; 0 is no minimum. `digest` is for how
    many seconds events are gathered into one message; 0 for not at all. Failures and the like are
    sent at once unless `digests_failures`.
    """

    types: frozenset[str]
    job_name: tuple[str, ...] = ()
    model: tuple[str, ...] = ()
    min_cost: float = 0.0
    min_duration: float = 0.0
    digest: float = 0.0
    digests_failures: bool = False

    def is_digested(self, event_type: str) -> bool:
        """Return whether an event of this type waits for a digest."""
        can_wait = self.digests_failures or event_type not in URGENT_EVENTS
        return self.digest > 0 and can_wait and event_type not in DAEMON_EVENTS

    @property
    def has_minimum(self) -> bool:
        """Return whether only some ends pass."""
        return self.min_cost > 0 or self.min_duration > 0

    def rejection(self, event: Event) -> str | None:
        """Return why the sink does not get an event, or None if it does.

        A reason begins with the name of a setting, without the prefix of the sink: `MIN_COST: ...`.
        """
        has_filter = self.job_name or self.model or self.has_minimum
        # The body is parsed only if that can change the result.
        data = event.data if has_filter and event.type in self.types else {}
        return self.rejection_of(event.type, data)

    def rejection_of(self, event_type: str, data: Mapping[str, Any]) -> str | None:
        """Return why the sink does not get an event of this type with this `data`."""
        if event_type not in self.types:
            return f"EVENTS: does not include {event_type}"
        if event_type in DAEMON_EVENTS:
            return None
        reasons = (*self._unselected(data.get("job", {})), *self._below(event_type, data))
        return next(iter(reasons), None)

    def minimums(self, data: Mapping[str, Any]) -> list[Minimum]:
        """Return the minimums that are set."""
        cost = data.get("job", {}).get("job_cost")
        possible = (
            Minimum("MIN_COST", self.min_cost, cost, format_cost),
            Minimum("MIN_DURATION", self.min_duration, data.get("run_seconds"), format_duration),
        )
        return [minimum for minimum in possible if minimum.limit > 0]

    def _unselected(self, job: Mapping[str, Any]) -> Iterator[str]:
        settings = (("JOB_NAME", "name", self.job_name), ("MODEL", "model", self.model))
        for setting, field, patterns in settings:
            # Only a job that the API has never shown lacks the field: its name is not known.
            if field in job and not is_selected(job[field], patterns):
                yield f"{setting}: does not select {(job[field] or '')[:MAX_QUOTED_CHARS]!r}"

    def _below(self, event_type: str, data: Mapping[str, Any]) -> Iterator[str]:
        for setting, limit, value, text_of in self.minimums(data):
            if event_type == JobEventType.STARTED:
                yield f"{setting}: no job has reached it when it starts"
            elif event_type in TERMINAL_EVENTS and value is not None and value < limit:
                yield f"{setting}: {text_of(value)} is less than {text_of(limit)}"


Routes = Mapping[str, Route]
"""The route of each configured sink, by the sink's name."""

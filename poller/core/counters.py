"""Process-lifetime counters, cheap enough to keep always.

They become metrics only when they are scraped; until then a poll costs one addition.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

from poller.core.detection_lag import Detection
from poller.core.errors import (
    DeliveryError,
    Intercepted,
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    ResponseTooLarge,
    StaleConnection,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.events import TERMINAL_EVENTS, Event
from poller.core.job_status import TERMINAL_STATUSES
from poller.core.jobs import PROMISED_FIELDS, Job
from poller.core.state import EventDraft, JobEventType

LAG_BUCKETS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0)
DURATION_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MAX_MODELS: Final = 100
"""Models with a label of their own: names are free text, and metrics must not grow with them."""
OTHER_MODEL: Final = "other"
DELIVERED: Final = "delivered"
FAILED: Final = "failed"
ATTEMPT_RESULTS: Final = (
    DELIVERED,
    "gone",
    "permanent",
    "rejected",
    "unavailable",
    "rate_limited",
)
"""The `result` label of an attempt to deliver: that of `reason_label`, if it failed."""
RESULT_LABELS: Final[dict[type, str]] = {
    type(None): "success",
    NotFound: "not_found",
    Unauthorized: "unauthorized",
    RateLimited: "rate_limited",
    Transient: "no_response",
    StaleConnection: "no_response",
    MalformedResponse: "malformed",
    Intercepted: "intercepted",
    ResponseTooLarge: "too_large",
    Rejected: "rejected",
    WrongEndpoint: "wrong_endpoint",
}
"""The `result` label of a request to the API."""


@dataclass(slots=True)
class Histogram:
    """A histogram: `counts` by upper bound, then the count of values above all bounds."""

    bounds: tuple[float, ...] = DURATION_BUCKETS
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        """Start with zero counts."""
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@dataclass(slots=True)
class Counters:
    """All counters of one process.

    `requests` by endpoint, `responses` by result, `events` by type, `jobs_ended` by model and
    status, `tokens` by model and direction, `costs` in dollars by model, `attempts` by sink and
    result. `lags` are the detection lags of ended jobs, `delays` their visibility delays,
    `request_durations` by endpoint and `delivery_durations` by sink, all in seconds.
    `delivery_lags` are, by sink, the seconds from the end of a job to the first attempt to deliver
    its event. `open_circuits` has, for each sink, whether its circuit is open now. `id_collisions`
    are events that were not recorded, since another job's event has their id. `unreadable_rows` are
    the jobs of list pages that have no valid id or status.

    A counter exists, at 0, once its labels are known: a rate sees no counter that begins at 1.
    """

    requests: Counter[str] = field(default_factory=Counter)
    responses: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    jobs_ended: Counter[tuple[str, str]] = field(default_factory=Counter)
    tokens: Counter[tuple[str, str]] = field(default_factory=Counter)
    costs: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))
    attempts: Counter[tuple[str, str]] = field(default_factory=Counter)
    lags: Histogram = field(default_factory=lambda: Histogram(LAG_BUCKETS))
    delays: Histogram = field(default_factory=lambda: Histogram(LAG_BUCKETS))
    request_durations: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    delivery_durations: dict[str, Histogram] = field(default_factory=lambda: defaultdict(Histogram))
    delivery_lags: dict[str, Histogram] = field(default_factory=dict)
    open_circuits: dict[str, bool] = field(default_factory=dict)
    id_collisions: int = 0
    unreadable_rows: int = 0
    loop_lag: float = 0.0
    _models: set[str] = field(default_factory=set)

    def record_poll(self, error: PollError | None) -> None:
        """Count one request to the API by its result."""
        self.responses[RESULT_LABELS.get(type(error), FAILED)] += 1

    def record_events(self, drafts: Iterable[EventDraft], detection: Detection) -> None:
        """Count the events of a job, and how late its end was detected."""
        for draft in drafts:
            self.events[draft.type] += 1
            if draft.job and draft.type in TERMINAL_EVENTS:
                self._record_end(draft.job, detection)
            elif draft.job and draft.type is JobEventType.SETTLED:
                self._record_usage(draft.job, draft.late_fields)

    def add_sinks(self, names: Iterable[str]) -> None:
        """Start the counters of sinks."""
        for sink in names:
            self.delivery_durations[sink] = Histogram()
            self.delivery_lags[sink] = Histogram(LAG_BUCKETS)
            self.attempts.update({(sink, result): 0 for result in ATTEMPT_RESULTS})

    def add_model(self, job: Job) -> None:
        """Start the counters of a job's model, if it is new."""
        self._model_label(job)

    def record_first_attempt(self, sink: str, event: Event, now: float) -> None:
        """Count how long after the end of a job its event is sent for the first time.

        Without an earlier poll the job may have ended before this process started.
        """
        detection = event.data.get("detection") if event.type in TERMINAL_EVENTS else None
        if detection and detection["lag_seconds"] is not None and detection["previous_poll_at"]:
            lag = now - event.occurred_at.timestamp()
            self.delivery_lags[sink].observe(max(lag, 0.0))

    def record_attempt(self, sink: str, error: DeliveryError | None, *, seconds: float) -> None:
        """Count one attempt to deliver, by its result and duration."""
        self.delivery_durations[sink].observe(seconds)
        self.attempts[sink, reason_label(error) if error else DELIVERED] += 1

    def _record_end(self, job: Job, detection: Detection) -> None:
        model = self._model_label(job)
        self.jobs_ended[model, job.status.value] += 1
        self._record_usage(job, PROMISED_FIELDS)
        ended_at = job.datetime_completed
        # Without an earlier poll the job may have ended before this process started.
        if ended_at and detection.last_seen_at is not None:
            self.lags.observe(detection.lag(ended_at) or 0.0)
            self.delays.observe(detection.visibility_delay(ended_at) or 0.0)

    def _record_usage(self, job: Job, added: Collection[str]) -> None:
        """Count those of the tokens and the cost that an event is the first to have."""
        model = self._model_label(job)
        for direction in ("input", "output"):
            if (name := f"{direction}_tokens") in added:
                self.tokens[model, direction] += getattr(job, name) or 0
        if "job_cost" in added:
            self.costs[model] += job.job_cost or 0.0

    def _model_label(self, job: Job) -> str:
        model = job.model or "unknown"
        if model not in self._models:
            if len(self._models) >= MAX_MODELS:
                model = OTHER_MODEL
            self._models.add(model)
            self.jobs_ended.update({(model, status): 0 for status in TERMINAL_STATUSES})
            self.tokens.update({(model, direction): 0 for direction in ("input", "output")})
            self.costs[model] += 0.0
        return model


def reason_label(error: DeliveryError) -> str:
    """Return the `result` label of a failed attempt."""
    if error.is_gone:
        return "gone"
    if error.is_permanent:
        return "permanent"
    if not error.is_sink_fault:
        return "rejected"
    return "unavailable" if error.retry_after is None else "rate_limited"

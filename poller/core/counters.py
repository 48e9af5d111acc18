"""What has happened since the process began, as plain numbers that are always kept.

Whoever draws them as metrics does so when it is asked; until then one more look costs no more
than one addition.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from poller.core.detection import Detection
from poller.core.errors import (
    DeliveryError,
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    ResponseTooLarge,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.events import TERMINAL_EVENTS
from poller.core.jobs import Job
from poller.core.state import EventDraft, JobEventType

LAG_BUCKETS: Final = (0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1_800.0)
DURATION_BUCKETS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
MAX_MODELS: Final = 100
"""So many models are counted apart: a name may be anything, and metrics must not grow with it."""
OTHER_MODEL: Final = "other"
DELIVERED: Final = "delivered"
FAILED: Final = "failed"
RESULT_LABELS: Final[dict[type, str]] = {
    type(None): "success",
    NotFound: "not_found",
    Unauthorized: "unauthorized",
    RateLimited: "rate_limited",
    Transient: "no_response",
    MalformedResponse: "malformed",
    ResponseTooLarge: "too_large",
    Rejected: "rejected",
    WrongEndpoint: "wrong_endpoint",
}
"""The word for what a request to the API came to."""


@dataclass(slots=True)
class Histogram:
    """How often each size came: `counts` by the bounds, and at last those above them all."""

    bounds: tuple[float, ...]
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


def new_durations() -> Histogram:
    """Return an empty histogram of durations in seconds."""
    return Histogram(DURATION_BUCKETS)


@dataclass(slots=True)
class Counters:
    """Counters by what they are of.

    `requests` by their kind, `polls` by outcome, `events` by type, `ends` by model and status,
    `tokens` by model and direction, `costs` in dollars by model, `attempts` by sink and outcome.
    `lags` is how late ends were seen, `delays` for how long the API itself held them back.
    `request_durations` by kind and `delivery_durations` by sink are in seconds. `open_circuits`
    has, for each sink, whether its circuit is open now.
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
    request_durations: defaultdict[str, Histogram] = field(
        default_factory=lambda: defaultdict(new_durations)
    )
    delivery_durations: defaultdict[str, Histogram] = field(
        default_factory=lambda: defaultdict(new_durations)
    )
    open_circuits: dict[str, bool] = field(default_factory=dict)
    loop_lag: float = 0.0
    _models: set[str] = field(default_factory=set)

    def record_poll(self, error: PollError | None) -> None:
        """Count what became of one request to the API."""
        self.responses[RESULT_LABELS.get(type(error), FAILED)] += 1

    def record_events(self, transitions: Iterable[EventDraft], detection: Detection) -> None:
        """Count what was recorded of a job, and when that was seen."""
        for it in transitions:
            self.events[it.type] += 1
            if it.job and it.type in TERMINAL_EVENTS:
                self._record_end(it.job, detection)
            elif it.job and it.type is JobEventType.COST_SETTLED:
                self.costs[self._model_label(it.job)] += it.job.job_cost or 0.0

    def record_attempt(self, sink: str, error: DeliveryError | None, *, seconds: float) -> None:
        """Count one attempt to deliver, by its result and duration."""
        self.delivery_durations[sink].observe(seconds)
        self.attempts[sink, reason_label(error) if error else DELIVERED] += 1

    def _record_end(self, job: Job, detection: Detection) -> None:
        model = self._model_label(job)
        self.jobs_ended[model, job.status.value] += 1
        self.tokens[model, "input"] += job.input_tokens or 0
        self.tokens[model, "output"] += job.output_tokens or 0
        self.costs[model] += job.job_cost or 0.0
        ended_at = job.datetime_completed
        if ended_at and detection.last_seen_at is not None:  # else it may have ended long ago
            self.lags.observe(detection.lag(ended_at) or 0.0)
            self.delays.observe(detection.visibility_delay(ended_at) or 0.0)

    def _model_label(self, job: Job) -> str:
        model = job.model or "unknown"
        if model not in self._models and len(self._models) >= MAX_MODELS:
            return OTHER_MODEL
        self._models.add(model)
        return model


def reason_label(error: DeliveryError) -> str:
    """Say in a word why a sink did not take an event."""
    causes = {
        "gone": error.is_gone,
        "permanent": error.is_permanent,
        "rejected": not error.is_sink_fault,
        "rate_limited": error.retry_after is not None,
    }
    return next((word for word, is_so in causes.items() if is_so), "unavailable")

"""Metrics in the formats of Prometheus. No label is ever a job id.

The metrics are built from counters and status for each scrape, in a registry of their own.
"""

import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, Metric, ProcessCollector
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder

from poller import __version__
from poller.core.budgets import BudgetState
from poller.core.counters import FAILED, RESULT_LABELS, Counters, Histogram
from poller.core.events import EVENT_TYPES
from poller.core.issues import Issue
from poller.core.outbox import SinkBacklog
from poller.status import DaemonStatus

LabelValues = Mapping[str, float] | Mapping[tuple[str, str], float]

ENDPOINTS: Final = ("job", "list", "status")
OPENMETRICS: Final = "application/openmetrics-text"
NOT_ACCEPTED: Final = re.compile(r"\bq=0(\.0*)?\s*(;|$)")
PREFIX: Final = "sutro_poller_"


async def render(
    counters: Counters, status: DaemonStatus, accept: str, budgets: Sequence[BudgetState] = ()
) -> tuple[bytes, str]:
    """Return all metrics and their content type: OpenMetrics if the Accept header has it."""
    registry = CollectorRegistry(support_collectors_without_names=True)
    ProcessCollector(registry=registry)
    registry.register(DaemonCollector(counters, status, await status.backlog(), budgets))
    # Not with the client's own text, whose version may be none.
    encode, content_type = choose_encoder(OPENMETRICS if _accepts_openmetrics(accept) else "")
    return encode(registry), content_type


def _accepts_openmetrics(accept: str) -> bool:
    ranges = (text.partition(";") for text in accept.lower().split(","))
    return any(
        name.strip() == OPENMETRICS and not NOT_ACCEPTED.search(rest) for name, _, rest in ranges
    )


@dataclass(frozen=True, slots=True, eq=False)
class DaemonCollector:
    """All metrics but those of the process."""

    counters: Counters
    status: DaemonStatus
    sinks: Sequence[SinkBacklog]
    budgets: Sequence[BudgetState] = ()

    def collect(self) -> Iterator[Metric]:
        """Return the metrics as they are now."""
        yield from self._daemon()
        yield from self._api()
        yield from self._jobs()
        yield from self._deliveries()

    def _daemon(self) -> Iterator[Metric]:
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily(f"{PREFIX}build", "Version of sutro-poller and Python.", value=build)
        ready = "1 if the store is open and all loops run."
        yield _gauge("ready", ready, self.status.health.is_ready)
        issues = {issue.value: issue in self.status.issues for issue in Issue}
        yield _gauges("issue", "1 while the issue lasts.", "issue", issues)
        lag = "Delay of the event loop at the last check, made every second."
        yield _gauge("event_loop_lag_seconds", lag, self.counters.loop_lag)

    def _api(self) -> Iterator[Metric]:
        counters = self.counters
        requests = dict.fromkeys(ENDPOINTS, 0) | counters.requests
        yield _counter("api_requests", "API requests by endpoint.", ("endpoint",), requests)
        results = dict.fromkeys((*RESULT_LABELS.values(), FAILED), 0) | counters.responses
        yield _counter("api_responses", "API requests by result.", ("result",), results)
        durations = {endpoint: Histogram() for endpoint in ENDPOINTS}
        durations |= counters.request_durations
        duration = "Duration of API requests."
        yield _histogram("api_request_duration_seconds", duration, durations, "endpoint")
        rows = "Jobs of list pages that have no valid ID or status."
        yield CounterMetricFamily(f"{PREFIX}api_unreadable_jobs", rows, counters.unreadable_rows)
        last_success_at = self.status.rate_limiter.reachability.last_response_at
        if last_success_at is not None:
            text = "Time of the last successful API response, in seconds since 1970."
            yield _gauge("api_last_success_timestamp_seconds", text, last_success_at)

    def _jobs(self) -> Iterator[Metric]:
        counters = self.counters
        yield _gauges("watched_jobs", "Watched jobs by state.", "state", self.status.jobs)
        text = (
            "Running jobs without a successful poll for three times POLLER_MAX_INTERVAL,"
            " at least ten minutes."
        )
        yield _gauge("watched_jobs_stale", text, self.status.stale_jobs)
        text = "Jobs that are overdue: job.overdue was sent, and their phase is still the same."
        yield _gauge("jobs_overdue", text, self.status.overdue_jobs)
        stretch = "Actual interval before the last poll, as a multiple of the planned one."
        yield _gauge("poll_interval_stretch_ratio", stretch, self.status.lateness_ratio)
        lag = "Time from the end of a job to its detection."
        yield _histogram("detection_lag_seconds", lag, {"": counters.lags})
        delay = "Time for which the API still showed a job as running after its end."
        yield _histogram("visibility_delay_seconds", delay, {"": counters.delays})
        events = dict.fromkeys(sorted(EVENT_TYPES), 0) | counters.events
        yield _counter("events_recorded", "Recorded events by type.", ("type",), events)
        lost = "Events that were not recorded, since another job's event has their ID."
        yield CounterMetricFamily(f"{PREFIX}event_id_collisions", lost, counters.id_collisions)
        ended = "Ended jobs by model and status."
        yield _counter("jobs_ended", ended, ("model", "status"), counters.jobs_ended)
        tokens = "Tokens of ended jobs."
        yield _counter("tokens", tokens, ("model", "direction"), counters.tokens)
        yield _counter("job_cost_dollars", "Cost of ended jobs.", ("model",), counters.costs)
        spent = "Known costs of the current day or month, as a fraction of the budget."
        ratios = {state.budget.kind.value: state.ratio for state in self.budgets}
        yield _gauges("budget_spent_ratio", spent, "budget", ratios)

    def _deliveries(self) -> Iterator[Metric]:
        counters, sinks, now = self.counters, self.sinks, self.status.now()
        pending = {sink.name: sink.pending for sink in sinks}
        yield _gauges("outbox_pending_deliveries", "Pending deliveries.", "sink", pending)
        ages = {
            sink.name: now - sink.oldest_pending_at if sink.oldest_pending_at else 0.0
            for sink in sinks
        }
        age = "Age of the oldest pending delivery."
        yield _gauges("outbox_oldest_age_seconds", age, "sink", ages)
        dead = {sink.name: sink.dead for sink in sinks}
        yield _gauges("dead_letters", "Dead letters.", "sink", dead)
        enabled = {sink.name: not sink.is_disabled for sink in sinks}
        yield _gauges("sink_enabled", "0 if the receiver returned 410.", "sink", enabled)
        circuit = "1 while deliveries wait for a probe to succeed."
        yield _gauges("sink_circuit_open", circuit, "sink", counters.open_circuits)
        attempts = "Delivery attempts by result."
        yield _counter("delivery_attempts", attempts, ("sink", "result"), counters.attempts)
        duration, durations = "Duration of delivery attempts.", counters.delivery_durations
        yield _histogram("delivery_duration_seconds", duration, durations, "sink")
        lag = (
            "Time from the end of a job to the first attempt to deliver its event, including the"
            " wait for its last fields."
        )
        yield _histogram("delivery_lag_seconds", lag, counters.delivery_lags, "sink")


def _gauge(name: str, text: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, text, value=float(value))


def _gauges(name: str, text: str, label: str, values: Mapping[str, float]) -> Metric:
    return _add_samples(GaugeMetricFamily(PREFIX + name, text, labels=[label]), values)


def _counter(name: str, text: str, labels: Sequence[str], values: LabelValues) -> Metric:
    return _add_samples(CounterMetricFamily(PREFIX + name, text, labels=labels), values)


def _add_samples(
    family: CounterMetricFamily | GaugeMetricFamily, values: LabelValues
) -> CounterMetricFamily | GaugeMetricFamily:
    for key, value in values.items():
        family.add_metric([key] if isinstance(key, str) else key, float(value))
    return family


def _histogram(
    name: str, text: str, histograms: Mapping[str, Histogram], label: str | None = None
) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, text, labels=[label] if label else [])
    for value, histogram in histograms.items():
        buckets, total = [], 0
        for bound, count in zip((*histogram.bounds, "+Inf"), histogram.counts, strict=True):
            total += count
            buckets.append((str(bound), float(total)))
        family.add_metric([value] if label else [], buckets, histogram.total)
    return family

"""The counts and the vitals as Prometheus reads them. No label ever names a job.

They are drawn when somebody asks, on a registry of their own.
"""

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from poller.core.counters import FAILED, RESULT_LABELS, Counters, Histogram
from poller.core.events import EVENT_TYPES
from poller.core.issues import Issue
from poller.core.outbox import SinkBacklog
from poller.status import DaemonStatus

Labelled = Mapping[str, float] | Mapping[tuple[str, str], float]

KINDS: Final = ("job", "list", "status")
PREFIX: Final = "sutro_poller_"


@dataclass(frozen=True, slots=True)
class Metrics:
    """What is drawn. `now` gives seconds since 1970."""

    counters: Counters
    status: DaemonStatus
    now: Callable[[], float]

    async def render(self, accept: str) -> tuple[bytes, str]:
        """Give all metrics and their content type, in the format that is asked for."""
        registry = CollectorRegistry(support_collectors_without_names=True)
        ProcessCollector(registry=registry)
        registry.register(_StaticCollector([*self._all(await self.status.backlog())]))
        encode, content_type = choose_encoder(accept)
        return encode(registry), content_type

    def _all(self, sinks: Sequence[SinkBacklog]) -> Iterator[Metric]:
        yield from self._of_the_daemon()
        yield from self._of_looks()
        yield from self._of_jobs()
        yield from self._of_deliveries(sinks)

    def _of_the_daemon(self) -> Iterator[Metric]:
        build = {"version": __version__, "python": platform.python_version()}
        yield InfoMetricFamily(f"{PREFIX}build", "What runs.", value=build)
        is_ready = self.status.health.is_ready
        yield _gauge("ready", "1 while the store is open and the loops turn.", is_ready)
        troubles = self.status.issues
        yield _labelled(
            GaugeMetricFamily,
            "trouble",
            "1 while something outside keeps the daemon from its work.",
            ("trouble",),
            {it.value: it in troubles for it in Issue},
        )
        lag = "How late the event loop was at the last of its checks, one a second."
        yield _gauge("loop_lag_seconds", lag, self.counters.loop_lag)

    def _of_looks(self) -> Iterator[Metric]:
        counts = self.counters
        kinds = dict.fromkeys(KINDS, 0) | counts.requests
        yield _counter("requests", "Requests to the API.", ("kind",), kinds)
        outcomes = dict.fromkeys((*RESULT_LABELS.values(), FAILED), 0) | counts.responses
        yield _counter("polls", "What requests to the API came to.", ("outcome",), outcomes)
        yield _histogram("end_lag_seconds", "How late ends of jobs were seen.", counts.lags)
        held = "For how long the API still showed jobs as running that had ended."
        yield _histogram("end_visibility_delay_seconds", held, counts.delays)
        stretch = "How many times as long as they should be waits were, at the last look."
        yield _gauge("interval_stretch_ratio", stretch, self.status.lateness_ratio)
        heard_at = self.status.rate_limiter.reachability.last_response_at
        if heard_at is not None:
            when = "When the API last answered, in seconds since 1970."
            yield _gauge("api_last_answer_timestamp_seconds", when, heard_at)

    def _of_jobs(self) -> Iterator[Metric]:
        counts, jobs = self.counters, self.status.jobs
        yield _labelled(GaugeMetricFamily, "jobs", "Watched jobs.", ("state",), jobs)
        types = dict.fromkeys(sorted(EVENT_TYPES), 0) | counts.events
        yield _counter("events", "Events that were recorded.", ("type",), types)
        yield _counter("ended_jobs", "Jobs that ended.", ("model", "status"), counts.jobs_ended)
        tokens = "Tokens of jobs that ended."
        yield _counter("tokens", tokens, ("model", "direction"), counts.tokens)
        yield _counter("cost_usd", "What jobs that ended have cost.", ("model",), counts.costs)

    def _of_deliveries(self, sinks: Sequence[SinkBacklog]) -> Iterator[Metric]:
        now = self.now()
        ages = {
            it.name: now - it.oldest_pending_at if it.oldest_pending_at else 0.0 for it in sinks
        }
        for name, told, values in (
            ("outbox_pending", "Deliveries that wait.", {it.name: it.pending for it in sinks}),
            ("outbox_oldest_age_seconds", "How long the first of them has waited.", ages),
            ("dead_letters", "Deliveries that were given up.", {it.name: it.dead for it in sinks}),
            (
                "sink_enabled",
                "0 when a receiver wants nothing any more.",
                {it.name: not it.is_disabled for it in sinks},
            ),
        ):
            yield _labelled(GaugeMetricFamily, name, told, ("sink",), values)
        attempts = self.counters.attempts
        yield _counter("deliveries", "Attempts to deliver.", ("sink", "outcome"), attempts)


@dataclass(frozen=True, slots=True, eq=False)
class _StaticCollector:
    metrics: Sequence[Metric]

    def collect(self) -> Iterable[Metric]:
        return self.metrics


def _gauge(name: str, told: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, told, value=float(value))


def _counter(name: str, told: str, labels: Sequence[str], values: Labelled) -> Metric:
    return _labelled(CounterMetricFamily, name, told, labels, values)


def _labelled(
    family: type[CounterMetricFamily | GaugeMetricFamily],
    name: str,
    told: str,
    labels: Sequence[str],
    values: Labelled,
) -> Metric:
    metric = family(PREFIX + name, told, labels=labels)
    for key, value in values.items():
        metric.add_metric([key] if isinstance(key, str) else key, float(value))
    return metric


def _histogram(name: str, told: str, histogram: Histogram) -> Metric:
    total, buckets = 0, []
    bounds = (*map(repr, histogram.bounds), "+Inf")
    for bound, count in zip(bounds, histogram.counts, strict=True):
        total += count
        buckets.append((bound, float(total)))
    return HistogramMetricFamily(PREFIX + name, told, buckets=buckets, sum_value=histogram.total)

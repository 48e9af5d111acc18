"""The `alertmanager` sink: alerts to all instances of an Alertmanager of Prometheus.

The labels are the identity of an alert: those of a job are the same in each of its events.
https://prometheus.io/docs/alerting/latest/alerts_api
"""

import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import AfterValidator

from poller.core.errors import DeliveryError
from poller.core.events import DaemonEventType, Event
from poller.core.jobs import format_rfc3339
from poller.core.outbox import Delivery
from poller.core.state import JobEventType
from poller.settings.base import Reloadable, SinkSettings, setting
from poller.settings.durations import Duration, at_least
from poller.settings.types import EventTypes, SecretUrls
from poller.sinks import Sink, SinkContext, SinkKind
from poller.sinks.http_post import JSON, dump, error_words, http_client, post
from poller.sinks.incidents import (
    ENDS_WITHOUT_PROBLEM,
    Action,
    action_of,
    default_events,
    severity_of,
)
from poller.sinks.text import cut, describe, one_line

if TYPE_CHECKING:
    from pydantic import SecretStr

    from poller.runtime.http_client import HttpClient

ALERTS_PATH: Final = "/api/v2/alerts"
LABEL: Final = re.compile(r"[0-9A-Za-z_-]{1,64}")
ALERT_NAMES: Final[Mapping[str, str]] = {
    JobEventType.COST_OVER_ESTIMATE: "SutroJobCostOverEstimate",
    DaemonEventType.AUTH_FAILED: "SutroPollerKeyRejected",
    DaemonEventType.AUTH_RECOVERED: "SutroPollerKeyRejected",
    DaemonEventType.SINK_DISABLED: "SutroPollerSinkDisabled",
    DaemonEventType.BUDGET_CROSSED: "SutroBudgetCrossed",
    DaemonEventType.TEST: "SutroPollerTest",
}
"""Names of the alerts about anything else; two are those of deploy/prometheus/rules.yml."""
JOB_ALERT_NAME: Final = "SutroJobProblem"
MAX_LABEL: Final = 256
MAX_ANNOTATION: Final = 4_096


def _check_urls(urls: tuple["SecretStr", ...]) -> tuple["SecretStr", ...]:
    if any(re.search("[?#]", url.get_secret_value()) for url in urls):
        raise ValueError("must have no query or fragment")
    return urls


def _check_label(text: str) -> str:
    if not LABEL.fullmatch(text):
        raise ValueError("must be 1 to 64 letters, digits, '_' or '-'")
    return text


class AlertmanagerSettings(SinkSettings):
    """The settings of a sink for Alertmanager."""

    events: EventTypes | None = setting(
        default_events(*ENDS_WITHOUT_PROBLEM),
        "Event types that are sent to this sink; * sends all of them",
    )
    url: Annotated[SecretUrls, AfterValidator(_check_urls)] = setting(
        ..., "URLs of all instances of the Alertmanager"
    )
    severity: Annotated[str, AfterValidator(_check_label)] = setting(
        "critical", "Label severity of alerts"
    )
    resolve_after: Annotated[Duration, at_least(60.0)] = setting(
        "15m", "How long an alert fires if nothing resolves it, 1m at least"
    )


def alerts(
    event: Event, settings: AlertmanagerSettings, job_url: str | None, now: float
) -> list[dict[str, Any]]:
    """Return an event as alerts, which end in some time, or now."""
    if action_of(event) is Action.RESOLVE:
        # A job that was missing from the beginning is known only now.
        was_unknown = event.type == JobEventType.FOUND and not event.data.get("previous_status")
        variants = (True, False) if was_unknown else (True,)
        return [
            {"labels": labels(event, settings.severity, is_known=is_known), "endsAt": _time(now)}
            for is_known in variants
        ]
    message = describe(event, job_url)
    annotations = {
        "summary": message.title,
        "description": message.details,
        "status": event.data.get("job", {}).get("status"),
        "event": event.type,
        "link": message.link,
    }
    alert = {
        "labels": labels(event, settings.severity),
        "annotations": {n: cut(text, MAX_ANNOTATION) for n, text in annotations.items() if text},
        "startsAt": _time(min(event.occurred_at.timestamp(), now)),
        "endsAt": _time(now + settings.resolve_after),
    }
    return [alert | ({"generatorURL": message.link} if message.link else {})]


def labels(event: Event, severity: str, *, is_known: bool = True) -> dict[str, str]:
    """Return the labels of the alert that an event is about.

    `is_known`: with what only the job itself shows; the alert of a job that was missing from the
    beginning lacks it.
    """
    data = event.data
    job = data.get("job", {})
    texts = {
        "alertname": ALERT_NAMES.get(event.type, JOB_ALERT_NAME),
        "severity": severity_of(event, severity),
        "deployment": data["deployment"],
        "job_id": job.get("job_id"),
        "job_name": job.get("name") if is_known else None,
        "model": job.get("model") if is_known else None,
        "sink": data.get("sink") if event.type == DaemonEventType.SINK_DISABLED else None,
        "budget": data.get("budget"),
        "period": data.get("period"),
        "test": "true" if data.get("test") else None,
    }
    plain = {name: cut(one_line(text or ""), MAX_LABEL) for name, text in texts.items()}
    return {name: text for name, text in plain.items() if text}


def _time(seconds: float) -> str:
    return format_rfc3339(datetime.fromtimestamp(seconds, UTC))


@dataclass(frozen=True, slots=True)
class AlertmanagerSink:
    """Send each alert to all instances of a cluster; one that takes it is enough.

    The instances tell one another what they have notified, but not the alerts: each needs them.
    """

    settings: Reloadable[AlertmanagerSettings]
    http: "HttpClient"
    job_url: str | None = None
    now: Callable[[], float] = time.time

    async def send(self, delivery: Delivery) -> None:
        """Send one event. Raises DeliveryError if no instance takes it."""
        import anyio  # noqa: PLC0415 - heavy, only to send

        if not action_of(delivery.event):
            return
        settings = self.settings.value
        body = dump(alerts(delivery.event, settings, self.job_url, self.now()))
        failures: list[DeliveryError] = []
        async with anyio.create_task_group() as group:
            for url in settings.url:
                group.start_soon(self._send, url.get_secret_value(), body, failures)
        if len(failures) == len(settings.url):
            # An instance that fails may take the event later.
            raise next((error for error in failures if error.is_sink_fault), failures[0])

    async def _send(self, url: str, body: bytes, failures: list[DeliveryError]) -> None:
        target = url.rstrip("/").removesuffix(ALERTS_PATH) + ALERTS_PATH
        try:
            headers = {"Content-Type": JSON}
            await post(self.http, target, body, headers, now=self.now, explain=error_words)
        except DeliveryError as error:
            failures.append(error)


@asynccontextmanager
async def open_sink(
    settings: Reloadable[AlertmanagerSettings], context: SinkContext
) -> AsyncIterator[Sink]:
    """Open a sink for Alertmanager."""
    async with http_client(context) as http:
        yield AlertmanagerSink(settings, http, context.job_url)


KIND: Final = SinkKind(AlertmanagerSettings, open_sink)

"""The `pagerduty` sink: incidents through the Events API v2 of PagerDuty.

https://developer.pagerduty.com/docs/events-api-v2-overview
"""

import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, SecretStr

from poller.core.errors import DeliveryError
from poller.core.events import Event
from poller.core.jobs import format_rfc3339
from poller.core.outbox import Delivery
from poller.settings.base import Reloadable, SinkSettings, setting
from poller.settings.types import AnyCase, EventTypes, SecretUrl
from poller.sinks import Sink, SinkContext, SinkKind
from poller.sinks.http_post import JSON, dump, error_words, http_client, post
from poller.sinks.incidents import Action, action_of, default_events, incident_key, severity_of
from poller.sinks.text import Message, cut, describe

if TYPE_CHECKING:
    from poller.runtime.http_client import HttpClient

ENQUEUE_URL: Final = "https://events.pagerduty.com/v2/enqueue"
ROUTING_KEY: Final = re.compile(r"[0-9A-Za-z]{32}")
KEY_REJECTED: Final = re.compile(r"routing.?key", re.IGNORECASE)
MAX_SUMMARY: Final = 1_024
MAX_DETAIL: Final = 4_096
"""Characters of one detail; PagerDuty takes 512 KB in all."""


def _check_key(key: SecretStr) -> SecretStr:
    if not ROUTING_KEY.fullmatch(key.get_secret_value()):
        raise ValueError("must be the 32 letters and digits of an integration key (Events API v2)")
    return key


class PagerDutySettings(SinkSettings):
    """The settings of a sink for PagerDuty."""

    events: EventTypes | None = setting(
        default_events(), "Event types that are sent to this sink; * sends all of them"
    )
    routing_key: Annotated[SecretStr, AfterValidator(_check_key)] = setting(
        ..., "Integration key of an Events API v2 integration of a service"
    )
    severity: Annotated[Literal["critical", "error", "warning", "info"], AnyCase] = setting(
        "error", "Severity of incidents: critical, error, warning or info"
    )
    url: SecretUrl = setting(ENQUEUE_URL, "URL of the Events API v2")


def content(event: Event, settings: PagerDutySettings, job_url: str | None) -> dict[str, Any]:
    """Return an event as the Events API v2 expects it. A resolution is nothing but its key."""
    action, data = action_of(event), event.data
    request: dict[str, Any] = {
        "routing_key": settings.routing_key.get_secret_value(),
        "event_action": action,
        "dedup_key": incident_key(data, event.type),
    }
    if action is Action.RESOLVE:
        return request
    message = describe(event, job_url)
    payload = {
        "summary": cut(message.title, MAX_SUMMARY),
        "source": data["deployment"],
        "severity": severity_of(event, settings.severity),
        "timestamp": format_rfc3339(event.occurred_at),
        "class": event.type,
        "custom_details": _details(event, message),
    }
    request |= {"client": "sutro-poller", "payload": payload}
    if message.link:
        request["links"] = [{"href": message.link, "text": "Open the job"}]
    return request


def _details(event: Event, message: Message) -> dict[str, str]:
    job_id = event.data.get("job", {}).get("job_id")
    details = {
        "Job": job_id,
        **dict(message.facts),
        "Reason": message.reason,
        "What to do": message.advice,
        "Event": event.id,
    }
    return {label: cut(text, MAX_DETAIL) for label, text in details.items() if text}


@dataclass(frozen=True, slots=True)
class PagerDutySink:
    """Open and resolve incidents; what does neither is acknowledged without a request."""

    settings: Reloadable[PagerDutySettings]
    http: "HttpClient"
    job_url: str | None = None
    now: Callable[[], float] = time.time

    async def send(self, delivery: Delivery) -> None:
        """Send one event. Raises DeliveryError."""
        if not action_of(delivery.event):
            return
        settings = self.settings.value
        body = dump(content(delivery.event, settings, self.job_url))
        url = settings.url.get_secret_value()
        try:
            headers = {"Content-Type": JSON}
            await post(self.http, url, body, headers, now=self.now, explain=error_words)
        except DeliveryError as error:
            if error.is_rejected and KEY_REJECTED.search(error.reason):
                error.is_rejected, error.is_suspect = False, True  # so it is of every event
            raise


@asynccontextmanager
async def open_sink(
    settings: Reloadable[PagerDutySettings], context: SinkContext
) -> AsyncIterator[Sink]:
    """Open a sink for PagerDuty."""
    async with http_client(context) as http:
        yield PagerDutySink(settings, http, context.job_url)


KIND: Final = SinkKind(PagerDutySettings, open_sink)

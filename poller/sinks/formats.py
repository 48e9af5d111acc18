"""The formats of a webhook: the content type, body and headers that are sent for an event.

Each is a pure function of the event, so that every retry and every replay sends the same bytes.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from poller.core.events import Event
from poller.sinks.http_post import JSON, dump

TYPE_PREFIX: Final = "sh.sutro.poller."
"""CloudEvents types start with a domain: other producers may have a job.succeeded too."""

FormatName = Literal["standard", "cloudevents", "cloudevents-binary"]


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """The content of the POST request for an event."""

    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def standard(event: Event) -> WebhookRequest:
    """Return the stored body unchanged: Standard Webhooks 1.0."""
    return WebhookRequest(JSON, event.body)


def cloudevents(event: Event) -> WebhookRequest:
    """Return attributes and data as one object: CloudEvents 1.0, HTTP binding, structured mode."""
    envelope = _attributes(event) | {"datacontenttype": JSON, "data": event.data}
    return WebhookRequest("application/cloudevents+json", dump(envelope))


def cloudevents_binary(event: Event) -> WebhookRequest:
    """Return the data, with the attributes as headers: CloudEvents 1.0, binary mode."""
    # In a header a percent sign is encoded: CloudEvents, HTTP binding, 3.1.3.2.
    attributes = {name: text.replace("%", "%25") for name, text in _attributes(event).items()}
    headers = {f"ce-{name}": text for name, text in attributes.items()}
    return WebhookRequest(JSON, dump(event.data), headers)


FORMATS: Final[Mapping[FormatName, Callable[[Event], WebhookRequest]]] = {
    "standard": standard,
    "cloudevents": cloudevents,
    "cloudevents-binary": cloudevents_binary,
}


def _attributes(event: Event) -> dict[str, str]:
    """Return the context attributes of CloudEvents 1.0; `source` and `id` identify the event."""
    body = json.loads(event.body)
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"//{body['data']['deployment']}",
        "type": TYPE_PREFIX + event.type,
        "subject": event.subject,
        "time": body["timestamp"],
    }

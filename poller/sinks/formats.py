"""The formats of a webhook: what is sent of an event's stored body, and as what.

Each is a pure function of the event, so that every retry and every replay sends the same bytes.
"""

import html
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from poller.core.events import Event
from poller.sinks.text import format_message

JSON: Final = "application/json"
TYPE_PREFIX: Final = "sh.sutro.poller."
"""CloudEvents wants a type to begin with a domain: on a bus, others too have a job.succeeded."""

FormatName = Literal["standard", "cloudevents", "cloudevents-binary", "slack"]


@dataclass(frozen=True, slots=True)
class WebhookRequest:
    """What is POSTed for an event."""

    content_type: str
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)


def standard(event: Event) -> WebhookRequest:
    """Send the stored body as it is: Standard Webhooks 1.0."""
    return WebhookRequest(JSON, event.body)


def cloudevents(event: Event) -> WebhookRequest:
    """Wrap the data into one object: CloudEvents 1.0, HTTP binding, structured mode."""
    whole = _attributes(event) | {"datacontenttype": JSON, "data": event.data}
    return WebhookRequest("application/cloudevents+json", _dump(whole))


def cloudevents_binary(event: Event) -> WebhookRequest:
    """Send the data alone, its attributes as headers: CloudEvents 1.0, binary mode."""
    headers = {f"ce-{name}": text for name, text in _attributes(event).items()}
    return WebhookRequest(JSON, _dump(event.data), headers)


def slack(event: Event) -> WebhookRequest:
    """Tell people in the text of a Slack incoming webhook.

    Without `mrkdwn` the underscores of a name stay what they are.
    """
    text = html.escape(format_message(event), quote=False)  # &, < and >, as Slack's rules have it
    return WebhookRequest(JSON, _dump({"text": text, "mrkdwn": False}))


FORMATS: Final[Mapping[FormatName, Callable[[Event], WebhookRequest]]] = {
    "standard": standard,
    "cloudevents": cloudevents,
    "cloudevents-binary": cloudevents_binary,
    "slack": slack,
}
HUMAN_FORMATS: Final = frozenset({"slack"})


def _attributes(event: Event) -> dict[str, str]:
    """Give the context attributes of CloudEvents 1.0; `source` and `id` name an event for good."""
    body = json.loads(event.body)
    return {
        "specversion": "1.0",
        "id": event.id,
        "source": f"//{body['data']['deployment']}",
        "type": TYPE_PREFIX + event.type,
        "subject": event.subject,
        "time": body["timestamp"],
    }


def _dump(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()

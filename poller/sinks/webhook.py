"""The `webhook` sink: HTTP POST requests, signed as Standard Webhooks 1.0 specifies."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo, field_validator

from poller.core.errors import DeliveryError
from poller.core.outbox import Delivery
from poller.settings.base import Reloadable, SinkSettings, setting
from poller.settings.durations import Duration, at_most
from poller.settings.types import OriginName, SecretUrl, Statuses
from poller.sinks import Sink, SinkContext, SinkKind
from poller.sinks.formats import FORMATS, FormatName, WebhookRequest
from poller.sinks.handshake import REQUEST_ORIGIN, Handshake
from poller.sinks.http_post import http_client, post

if TYPE_CHECKING:
    from poller.runtime.http_client import HttpClient

MAX_TIMEOUT: Final = 60.0
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix of secrets, not a secret
SECRET_BYTES: Final = range(24, 65)
SLACK_URL: Final = re.compile(r"https://hooks\.slack\.com/services/", re.IGNORECASE)
HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
HUB_SIGNATURE: Final = "X-Hub-Signature-256"
RESERVED_HEADER_PREFIXES: Final = (
    "content-",
    "webhook-",
    "ce-",
    HUB_SIGNATURE.lower(),
    "host",
    "transfer-encoding",
    "connection",
)
FORMAT_RULE: Final = f"must be {', '.join(FORMATS)}; for Slack use the sink slack"


def signing_keys(secrets: str) -> list[bytes]:
    """Return the keys of one `whsec_` secret, or of two during a rotation. Raises ValueError."""
    keys = []
    for secret in secrets.split():
        if not secret.startswith(SECRET_PREFIX):
            raise ValueError("each secret must begin with whsec_")
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            raise ValueError("a secret must be whsec_ and base64") from None
        if len(key) not in SECRET_BYTES:
            raise ValueError("a secret must have 24 to 64 bytes")
        keys.append(key)
    if not 1 <= len(keys) <= 2:
        raise ValueError("must be one secret, or two during a rotation")
    return keys


def _check_format(name: object) -> object:
    if name not in FORMATS:
        raise ValueError(FORMAT_RULE)
    return name


def _check_secret(value: SecretStr) -> SecretStr:
    signing_keys(value.get_secret_value())
    return value


def _parse_headers(text: str) -> dict[str, str]:
    """Return the headers of a JSON object of names and values. Raises ValueError."""
    try:
        headers = json.loads(text)
    except (ValueError, RecursionError):
        headers = None
    if not isinstance(headers, dict) or not all(
        isinstance(value, str) for value in headers.values()
    ):
        raise ValueError('must be a JSON object of texts, such as {"X-Team": "research"}')
    # The messages repeat no name and no value: in a broken setting, either may be the secret.
    for number, (name, value) in enumerate(headers.items(), start=1):
        if not HEADER_NAME.fullmatch(name):
            raise ValueError(f"header {number} has an invalid name")
        if name.lower().startswith(RESERVED_HEADER_PREFIXES):
            reserved = ", ".join(f"{prefix}..." for prefix in RESERVED_HEADER_PREFIXES)
            raise ValueError(f"header {number} has a reserved name ({reserved})")
        if not HEADER_VALUE.fullmatch(value):
            raise ValueError(f"the value of header {number} is not printable ASCII")
    return headers


class WebhookSettings(SinkSettings):
    """The settings of a webhook sink."""

    url: SecretUrl = setting(..., "URL that events are sent to with POST")
    secret: Annotated[SecretStr, AfterValidator(_check_secret)] | None = setting(
        None, "Signing secret, whsec_...; during a rotation two, separated by a space"
    )
    format: Annotated[FormatName, BeforeValidator(_check_format)] = setting(
        "standard",
        "Format of the request: standard (Standard Webhooks), cloudevents or cloudevents-binary",
    )
    timeout: Annotated[Duration, at_most(MAX_TIMEOUT)] = setting(
        "15s", "How long one request may take before it counts as failed, 1m at most", gt=0
    )
    headers: Annotated[dict[str, SecretStr], BeforeValidator(_parse_headers)] | None = setting(
        None, "Additional headers, as a JSON object of names and values"
    )
    hub_signature: bool = setting(
        "off", f"Also send {HUB_SIGNATURE}, the signature of the body alone that GitHub uses"
    )
    receipts: Statuses = setting(
        (), "Response statuses besides 2xx that acknowledge an event, such as 302 or 409,300-399"
    )
    origin: OriginName | None = setting(
        None, "Name of this sender, which the receiver must allow before it gets events"
    )

    @field_validator("headers")
    @classmethod
    def _reject_two_authorizations(
        cls, headers: dict[str, SecretStr] | None, info: ValidationInfo
    ) -> dict[str, SecretStr] | None:
        url = info.data.get("url")  # without an error of its own
        has_user = url and "@" in urlsplit(url.get_secret_value()).netloc
        if has_user and "authorization" in map(str.lower, headers or ()):
            raise ValueError("must have no Authorization while the URL has a user; remove one")
        return headers

    @field_validator("hub_signature")
    @classmethod
    def _require_secret(cls, is_on: bool, info: ValidationInfo) -> bool:
        # A secret with an error of its own is not in `data`.
        if is_on and info.data.get("secret", "invalid") is None:
            raise ValueError("needs the secret of this webhook, such as POLLER_WEBHOOK_SECRET")
        return is_on


def sign(keys: list[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Return the signatures of Standard Webhooks 1.0 (v1, HMAC-SHA256), one for each key."""
    content = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


def hub_signature(secrets: str, body: bytes) -> str:
    """Return the signatures of the body alone, as GitHub sends them, one for each secret.

    The key is the text of a secret with its prefix, which is what such receivers are configured
    with. Two signatures are separated by a comma without a space, as adnanh's webhook needs it.
    """
    digests = (
        hmac.new(secret.encode(), body, hashlib.sha256).hexdigest() for secret in secrets.split()
    )
    return ",".join(f"sha256={digest}" for digest in digests)


@dataclass(frozen=True, slots=True)
class WebhookSink:
    """Send each event as a POST request; a 2xx response or a configured one acknowledges it."""

    settings: Reloadable[WebhookSettings]
    http: "HttpClient"
    now: Callable[[], float] = time.time
    handshake: Handshake = field(default_factory=Handshake)

    async def send(self, delivery: Delivery) -> None:
        """Send one event with a new timestamp and signature. Raises DeliveryError."""
        settings = self.settings.value
        url, origin = settings.url.get_secret_value(), settings.origin
        if origin:
            await self.handshake.complete(self.http, url, origin, self._own_headers(), self.now)
        content = FORMATS[settings.format](delivery.event)
        headers = self._headers(delivery, content)
        try:
            await post(
                self.http, url, content.body, headers, now=self.now, receipts=settings.receipts
            )
        except DeliveryError as error:
            if error.is_suspect:
                self.handshake.forget()
            raise

    def _own_headers(self) -> dict[str, str]:
        own = self.settings.value.headers or {}
        return {name: value.get_secret_value() for name, value in own.items()}

    def _headers(self, delivery: Delivery, content: WebhookRequest) -> dict[str, str]:
        settings, event_id, timestamp = self.settings.value, delivery.event.id, int(self.now())
        headers = self._own_headers() | {
            **content.headers,
            "Content-Type": content.content_type,
            "webhook-id": event_id,
            "webhook-timestamp": str(timestamp),
        }
        if settings.secret:
            secrets = settings.secret.get_secret_value()
            keys = signing_keys(secrets)
            headers["webhook-signature"] = sign(keys, event_id, timestamp, content.body)
            if settings.hub_signature:
                headers[HUB_SIGNATURE] = hub_signature(secrets, content.body)
        if settings.origin:
            headers[REQUEST_ORIGIN] = settings.origin
        if delivery.is_replay:
            headers["webhook-replay"] = "1"
        return headers


@asynccontextmanager
async def open_sink(
    settings: Reloadable[WebhookSettings], context: SinkContext
) -> AsyncIterator[Sink]:
    """Open a webhook sink."""
    async with http_client(context, settings.value.timeout) as http:
        yield WebhookSink(settings, http)


def find_warnings(settings: WebhookSettings) -> dict[str, str]:
    """Return what may be wrong with valid settings, by field."""
    if SLACK_URL.match(settings.url.get_secret_value()):
        return {"url": "is of Slack, which rejects events: use POLLER_SLACK_URL instead"}
    return {} if settings.secret else {"secret": "is not set, so events are not signed"}


KIND = SinkKind(WebhookSettings, open_sink, warnings=find_warnings)

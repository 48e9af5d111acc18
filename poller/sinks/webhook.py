"""The `webhook` sink: events over HTTP POST, signed as Standard Webhooks 1.0 does."""

import base64
import hashlib
import hmac
import json
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Final

import structlog
from pydantic import AfterValidator, BeforeValidator, SecretStr, ValidationInfo, field_validator

from poller.core.errors import DeliveryError
from poller.core.outbox import Delivery
from poller.core.retry import RETRY_AFTER_CAP
from poller.runtime.http import (
    HttpClient,
    NoResponse,
    OutboundSettings,
    Response,
    redact_url,
    retry_after,
)
from poller.settings.base import Reloadable, SinkSettings, setting
from poller.settings.types import Duration, validate_http_url
from poller.sinks import Sink, SinkKind
from poller.sinks.formats import FORMATS, HUMAN_FORMATS, FormatName, WebhookRequest

RESPONSE_BYTES_CAP: Final = 4_096
CONNECTIONS: Final = 16
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - what marks a secret, not one
SECRET_BYTES: Final = range(24, 65)
HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
HEADER_VALUE: Final = re.compile(r"[\t\x20-\x7e]*")
HUB_SIGNATURE: Final = "X-Hub-Signature-256"
RESERVED_HEADERS: Final = (
    "content-",
    "webhook-",
    "ce-",
    HUB_SIGNATURE.lower(),
    "host",
    "transfer-encoding",
    "connection",
)
ODD_NAME: Final = "is none, or is ours: " + ", ".join(f"{it}..." for it in RESERVED_HEADERS)
RETRYABLE_STATUSES: Final = frozenset({408, 425, 429})
REDIRECT_STATUSES: Final = ", and redirects are not followed: set its URL to where it leads"
RETRY_AFTER_STATUSES: Final = frozenset({429, 503})
"""The statuses whose Retry-After counts."""

log = structlog.get_logger()


def signing_keys(secrets: str) -> list[bytes]:
    """Read `whsec_` secrets, one or two of them while they are rotated. Raises ValueError."""
    keys = []
    for secret in secrets.split():
        if not secret.startswith(SECRET_PREFIX):
            raise ValueError("each secret must begin with whsec_")
        try:
            key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
        except ValueError:
            raise ValueError("what follows whsec_ must be base64") from None
        if len(key) not in SECRET_BYTES:
            raise ValueError("a secret must hold 24 to 64 bytes")
        keys.append(key)
    if not 1 <= len(keys) <= 2:
        raise ValueError("must be one secret, or two while it is rotated")
    return keys


def _check_secret(value: SecretStr) -> SecretStr:
    signing_keys(value.get_secret_value())
    return value


def _check_url(value: SecretStr) -> SecretStr:
    validate_http_url(value.get_secret_value())
    return value


def _read_headers(text: str) -> dict[str, str]:
    """Read a JSON object of header names and values."""
    try:
        headers = json.loads(text)
    except (ValueError, RecursionError):
        headers = None
    if not isinstance(headers, dict) or not all(isinstance(it, str) for it in headers.values()):
        raise ValueError('must be a JSON object of texts, such as {"X-Team": "research"}')
    # Neither names nor values are repeated: in a broken setting, either can be the secret.
    for number, (name, content) in enumerate(headers.items(), start=1):
        if not HEADER_NAME.fullmatch(name) or name.lower().startswith(RESERVED_HEADERS):
            raise ValueError(f"header {number} has a name that {ODD_NAME}")
        if not HEADER_VALUE.fullmatch(content):
            raise ValueError(f"header {number} has a value that is not printable ASCII")
    return headers


class WebhookSettings(SinkSettings):
    """The variables of a webhook sink."""

    url: Annotated[SecretStr, AfterValidator(_check_url)] = setting(
        ..., "Where events are POSTed to; it is treated as a secret"
    )
    secret: Annotated[SecretStr, AfterValidator(_check_secret)] | None = setting(
        None, "What signs them, whsec_...; two, parted by a space, while it is rotated"
    )
    format: FormatName = setting(
        "standard",
        "What is sent: standard (Standard Webhooks), cloudevents, cloudevents-binary or slack",
    )
    timeout: Duration = setting("15s", "How long the receiver may take, 60s at most", gt=0, le=60)
    headers: Annotated[dict[str, SecretStr], BeforeValidator(_read_headers)] | None = setting(
        None, "Further headers, a JSON object of names and texts"
    )
    hub_signature: bool = setting(
        "off", f"Sign the body alone as well, in {HUB_SIGNATURE}, for receivers that know no other"
    )

    @field_validator("hub_signature")
    @classmethod
    def _has_a_secret(cls, is_on: bool, info: ValidationInfo) -> bool:
        # A secret that broke its own rule is not in `data`: it was complained about already.
        if is_on and info.data.get("secret", "broken") is None:
            raise ValueError("needs the secret of this webhook too, such as POLLER_WEBHOOK_SECRET")
        return is_on


def sign(keys: list[bytes], message_id: str, timestamp: int, body: bytes) -> str:
    """Sign as Standard Webhooks 1.0 does (v1, HMAC-SHA256), once with each key."""
    content = f"{message_id}.{timestamp}.".encode() + body
    digests = (hmac.new(key, content, hashlib.sha256).digest() for key in keys)
    return " ".join("v1," + base64.b64encode(digest).decode() for digest in digests)


def hub_signature(secrets: str, body: bytes) -> str:
    """Sign the body alone as GitHub does, once with each secret.

    The key is a secret's text as it is written: such receivers are given a text. Two signatures
    have a comma and no space between them, as adnanh's webhook reads them.
    """
    digests = (hmac.new(it.encode(), body, hashlib.sha256).hexdigest() for it in secrets.split())
    return ",".join(f"sha256={digest}" for digest in digests)


class WebhookSink:
    """POST each event; a 2xx is a receipt."""

    def __init__(
        self,
        settings: Reloadable[WebhookSettings],
        http: HttpClient,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._http = http
        self._now = now

    async def send(self, delivery: Delivery) -> None:
        """Send one event with a fresh timestamp and signature. Raises DeliveryError."""
        url = self._settings.value.url.get_secret_value()
        message = FORMATS[self._settings.value.format](delivery.event)
        try:
            answer = await self._http.request(
                "POST",
                url,
                headers=self._headers(delivery, message),
                body=message.body,
                cap=RESPONSE_BYTES_CAP,
            )
        except NoResponse as error:
            if not is_success(error.status):  # the rest of a receipt tells nothing more
                raise DeliveryError(str(error)) from None
            return
        if not is_success(answer.status):
            raise _delivery_error(answer)

    def _headers(self, delivery: Delivery, message: WebhookRequest) -> dict[str, str]:
        settings, event_id, timestamp = self._settings.value, delivery.event.id, int(self._now())
        headers = {name: text.get_secret_value() for name, text in (settings.headers or {}).items()}
        headers |= message.headers
        headers |= {
            "Content-Type": message.content_type,
            "webhook-id": event_id,
            "webhook-timestamp": str(timestamp),
        }
        if settings.secret:
            secrets = settings.secret.get_secret_value()
            keys = signing_keys(secrets)
            headers["webhook-signature"] = sign(keys, event_id, timestamp, message.body)
            if settings.hub_signature:
                headers[HUB_SIGNATURE] = hub_signature(secrets, message.body)
        if delivery.is_replay:
            headers["webhook-replay"] = "1"
        return headers


def is_success(status: int | None) -> bool:
    """Tell whether a receiver has the event by its own word."""
    return status is not None and 200 <= status < 300


def _delivery_error(answer: Response) -> DeliveryError:
    """Tell an endpoint in trouble from one that refuses this one event."""
    status = answer.status
    is_event_fault = 400 <= status < 500 and status not in RETRYABLE_STATUSES
    return DeliveryError(
        f"the receiver answered {status}{REDIRECT_STATUSES if 300 <= status < 400 else ''}",
        retry_after=retry_after(answer.headers, cap=RETRY_AFTER_CAP)
        if status in RETRY_AFTER_STATUSES
        else None,
        is_sink_fault=not is_event_fault,
        is_gone=status == 410,
    )


@asynccontextmanager
async def open_sink(
    settings: Reloadable[WebhookSettings], outbound: OutboundSettings
) -> AsyncIterator[Sink]:
    """Open a webhook sink: a session of its own, so that no other sink can starve it."""
    timeout = settings.value.timeout
    if not settings.value.secret and settings.value.format not in HUMAN_FORMATS:
        where = redact_url(settings.value.url.get_secret_value())
        log.warning("webhook.unsigned", url=where, error="set its secret to have events signed")
    async with HttpClient(outbound, timeout=timeout, limit=CONNECTIONS) as http:
        yield WebhookSink(settings, http)


KIND = SinkKind(
    WebhookSettings,
    open_sink,
    wants_daemon_events=lambda settings: settings.format in HUMAN_FORMATS,
)

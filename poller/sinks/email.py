"""The `email` sink: one mail for each event, with a text and an HTML part, by SMTP."""

import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import urlsplit

import anyio
from pydantic import AfterValidator, SecretStr, create_model

from poller.core.outbox import Delivery
from poller.runtime.address import is_host
from poller.runtime.clock import Clock
from poller.settings.base import DigestSettings, Reloadable, setting
from poller.settings.types import StringList, is_url, needs_extra
from poller.sinks import Sink, SinkContext, SinkKind

if TYPE_CHECKING:
    from poller.sinks.smtp import MailServer

SCHEMES: Final = frozenset({"smtps", "smtp+starttls", "smtp"})
URL_RULE: Final = (
    "must be smtps://user:password@host, smtp+starttls://... or smtp://...,"
    " with %40 for an @ in the user, and the like"
)
LOCAL_PART: Final = re.compile(r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}")
MAX_CONNECTIONS: Final = 3
"""More than this Exchange Online rejects."""


def _check_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    parts = urlsplit(url) if is_url(url, SCHEMES) else None
    is_whole = parts and not (parts.path.strip("/") or parts.query or parts.fragment)
    if parts is None or not is_whole or (parts.username is None) != (parts.password is None):
        raise ValueError(URL_RULE)
    return value


def _check_address(text: str) -> str:
    local, _, domain = text.rpartition("@")
    if not LOCAL_PART.fullmatch(local) or not is_host(domain.lower()):
        raise ValueError(f"{text[:64]!r} must be an address in ASCII such as ops@example.com")
    return text


class _Settings(DigestSettings):
    url: Annotated[SecretStr, AfterValidator(_check_url), needs_extra("aiosmtplib", "email")] = (
        setting(
            ...,
            "URL of the mail server, with smtps, smtp+starttls or smtp: smtps://user:password@host",
        )
    )
    to: Annotated[StringList, AfterValidator(lambda each: tuple(map(_check_address, each)))] = (
        setting(..., "Addresses that mails are sent to")
    )


SENDER: Final[Any] = (
    Annotated[str, AfterValidator(_check_address)],
    setting(..., "Address that mails are sent from"),
)
# A field of a class cannot have the name of a keyword.
EmailSettings = create_model("EmailSettings", __base__=_Settings, **{"from": SENDER})


@dataclass(frozen=True, slots=True)
class EmailSink:
    """Send each event as a mail; a 250 after its content acknowledges it."""

    settings: Reloadable[Any]
    server: "Callable[[str], MailServer]"
    job_url: str | None = None
    now: Callable[[], datetime] = field(default_factory=lambda: Clock().now)
    turns: anyio.Semaphore = field(default_factory=lambda: anyio.Semaphore(MAX_CONNECTIONS))

    async def send(self, delivery: Delivery) -> None:
        """Send one mail. Raises DeliveryError."""
        from poller.sinks.mail import compose  # noqa: PLC0415 - slow, and only to send

        settings = self.settings.value
        sender = getattr(settings, "from")
        mail = compose(
            delivery.event, self.job_url, sender=sender, recipients=settings.to, now=self.now()
        )
        async with self.turns:
            await self.server(settings.url.get_secret_value()).send(mail, sender, settings.to)


@asynccontextmanager
async def open_sink(settings: Reloadable[Any], context: SinkContext) -> AsyncIterator[Sink]:
    """Open an email sink; each mail has a connection of its own."""
    import ssl  # noqa: PLC0415 - slow, and only to send

    from poller.sinks.smtp import MailServer  # noqa: PLC0415 - same

    tls = ssl.create_default_context(cafile=context.outbound.ca_file)

    def server(url: str) -> MailServer:
        return MailServer.of(url, tls, context.outbound.url_name)

    yield EmailSink(settings, server, context.job_url)


KIND = SinkKind(EmailSettings, open_sink, wants_daemon_events=lambda _settings: True)

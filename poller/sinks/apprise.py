"""The `apprise` sink: messages to any of the services that the library Apprise knows."""

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Annotated, Any, Final

from anyio import CapacityLimiter
from anyio.to_thread import run_sync
from pydantic import AfterValidator, SecretStr

from poller.core.errors import ConfigError, DeliveryError
from poller.core.outbox import Delivery
from poller.settings.base import DigestSettings, Reloadable, setting
from poller.settings.types import needs_extra
from poller.sinks import Sink, SinkContext, SinkKind
from poller.sinks.text import Message, Tone, describe

URL: Final = re.compile(r"[A-Za-z][A-Za-z0-9]*://[!-~]+")
URL_RULE: Final = "must be one URL of a service that Apprise knows, such as tgram://token/chat"
SEVERAL: Final = re.compile(r",[A-Za-z][A-Za-z0-9]*://")
MAX_THREADS: Final = 4
TYPES: Final = {Tone.GOOD: "success", Tone.BAD: "failure", Tone.WARNING: "warning"}
MARKUP: Final = re.compile(r"[@<](?=\S)")
"""Where a service may find a mention or a link in a text."""
WORD_JOINER: Final = "\u2060"
STATUS: Final = re.compile(r"\berror=(\d{3})\b")
CHATTY: Final = ("urllib3", "oauthlib", "requests_oauthlib")
"""Libraries of Apprise whose logs contain URLs."""

_statuses: ContextVar[list[str]] = ContextVar("_statuses")
"""The HTTP statuses in what Apprise logs during one call."""


def _check_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value()
    if not URL.fullmatch(url) or SEVERAL.search(url):
        raise ValueError(URL_RULE)
    return value


class AppriseSettings(DigestSettings):
    """The settings of an Apprise sink."""

    url: Annotated[SecretStr, AfterValidator(_check_url), needs_extra("apprise", "apprise")] = (
        setting(..., "Apprise URL of one service, such as tgram://token/chat")
    )


@dataclass(frozen=True, slots=True)
class AppriseSink:
    """Send each event as a notification; Apprise says whether the service has it."""

    settings: Reloadable[AppriseSettings]
    job_url: str | None = None
    limiter: CapacityLimiter = field(default_factory=lambda: CapacityLimiter(MAX_THREADS))

    async def send(self, delivery: Delivery) -> None:
        """Send one notification, in a thread. Raises DeliveryError."""
        url, found = self.settings.value.url.get_secret_value(), list[str]()
        _statuses.set(found)
        notify = partial(_notify, url, describe(delivery.event, self.job_url))
        if not await run_sync(notify, limiter=self.limiter):
            status = f" (status {found[-1]})" if found else ""
            raise DeliveryError(f"Apprise could not send the notification{status}")


def _notify(url: str, message: Message) -> bool:
    """Send a notification, and return whether the service has it. Raises DeliveryError."""
    if (service := _load(url)) is None:
        raise DeliveryError("Apprise does not know the service of the URL")
    title, body = _plain(message.headline), _plain(message.details)
    content = "\n".join(filter(None, (body, message.link)))
    try:
        return bool(
            service.notify(
                title=title if content else "",
                body=content or title,
                notify_type=TYPES.get(message.tone, "info"),
                body_format="text",
            )
        )
    except Exception as error:  # noqa: BLE001 - its text may contain the URL, which no log may
        raise DeliveryError(f"Apprise raised {type(error).__name__}") from None


def _plain(text: str) -> str:
    """Return a text without mentions and links, which each service marks in its own way."""
    return MARKUP.sub(rf"\g<0>{WORD_JOINER}", text)


@lru_cache(maxsize=16)
def _load(url: str) -> Any:
    """Return the service of a URL, or None if Apprise knows none; it is kept for its rate limit."""
    from apprise import Apprise, AppriseAsset  # noqa: PLC0415 - heavy, only to send

    asset = AppriseAsset(app_id="sutro-poller", http_redirects=False)
    return Apprise.instantiate(url, asset=asset)


@asynccontextmanager
async def open_sink(
    settings: Reloadable[AppriseSettings], context: SinkContext
) -> AsyncIterator[Sink]:
    """Open an Apprise sink. Raises ConfigError for a URL that Apprise does not know."""
    _silence_logs()
    if _load(settings.value.url.get_secret_value()) is None:
        raise ConfigError(f"{context.outbound.url_name}: {URL_RULE}")
    yield AppriseSink(settings, context.job_url)


class _StatusHandler(logging.Handler):
    """Keeps the statuses in the logs of Apprise, whose texts may contain secrets."""

    def emit(self, record: logging.LogRecord) -> None:
        _statuses.get([]).extend(STATUS.findall(record.getMessage()))


def _silence_logs() -> None:
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    logger.handlers = [_StatusHandler()]
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)


KIND = SinkKind(AppriseSettings, open_sink, wants_daemon_events=lambda _settings: True)

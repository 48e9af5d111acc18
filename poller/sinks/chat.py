"""What the sinks for chat services share: a message is sent as JSON to a secret URL."""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from poller.core.outbox import Delivery
from poller.runtime.http_values import Response
from poller.settings.base import DigestSettings, Reloadable, setting
from poller.settings.types import SecretUrl
from poller.sinks import Sink, SinkContext, SinkKind
from poller.sinks.http_post import JSON, dump, error_words, http_client, post
from poller.sinks.text import Message, describe

if TYPE_CHECKING:
    from poller.runtime.http_client import HttpClient

Layout = Callable[[Message], Mapping[str, Any]]
"""Returns the JSON object that a service shows as this message."""

Pause = Callable[[Response], float | None]
"""Returns the seconds to wait that a service has elsewhere than in Retry-After."""


class ChatSettings(DigestSettings):
    """The settings of a sink for a chat service."""

    url: SecretUrl = setting(..., "URL of the webhook that messages are sent to")


@dataclass(frozen=True, slots=True)
class ChatSink:
    """Send each event as a message; any 2xx response acknowledges it."""

    layout: Layout
    settings: Reloadable[Any]
    http: "HttpClient"
    job_url: str | None = None
    pause: Pause = lambda _response: None
    now: Callable[[], float] = time.time

    async def send(self, delivery: Delivery) -> None:
        """Send one message. Raises DeliveryError."""
        await post(
            self.http,
            self.settings.value.url.get_secret_value(),
            dump(self.layout(describe(delivery.event, self.job_url))),
            {"Content-Type": JSON},
            now=self.now,
            explain=error_words,
            pause=self.pause,
        )


def chat_kind(
    layout: Layout,
    settings: type[ChatSettings] = ChatSettings,
    pause: Pause = lambda _response: None,
) -> SinkKind:
    """Return the kind of a sink that posts messages in this layout."""

    def open_sink(
        values: Reloadable[ChatSettings], context: SinkContext
    ) -> AbstractAsyncContextManager[Sink]:
        return _open_chat(layout, values, context, pause)

    return SinkKind(settings, open_sink, wants_daemon_events=lambda _settings: True)


@asynccontextmanager
async def _open_chat(
    layout: Layout, settings: Reloadable[ChatSettings], context: SinkContext, pause: Pause
) -> AsyncIterator[Sink]:
    async with http_client(context) as http:
        yield ChatSink(layout, settings, http, context.job_url, pause)

"""The kinds of sinks that send by HTTP: their settings for a receiver, and its good response."""

import json
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from poller.settings.base import RawSettings, Reloadable, env_prefix
from poller.settings.sources import EnvSources
from poller.sinks import Sink, SinkContext, load_kind
from tests.support.http_peers import Peer


@dataclass(frozen=True, slots=True)
class HttpKind:
    """What the contract needs to know of one kind.

    `settings` are those for a receiver with this base URL. `accepted` is the service's response to
    what it takes, `max_body` the most bytes that it takes. `ignored` are the event types that it
    has no use for, `known_by` what the receiver knows a repetition by.
    """

    settings: Callable[[str], Mapping[str, str]]
    accepted: tuple[int, bytes] = (200, b"ok")
    max_body: int = 10_000_000
    ignored: Collection[str] = ()
    known_by: Callable[[bytes], object] = lambda body: body


NO_PROBLEM: Final = ("job.started", "job.settled", "report.daily", "report.digest")

HTTP_KINDS: Final[Mapping[str, HttpKind]] = {
    "webhook": HttpKind(lambda base: {"url": f"{base}/canary-path"}),
    "slack": HttpKind(lambda base: {"url": f"{base}/services/canary-path"}, max_body=16_000),
    "teams": HttpKind(
        lambda base: {"url": f"{base}/workflows/1/triggers/manual/paths/invoke?sig=canary"},
        accepted=(202, b""),
        max_body=28_000,
    ),
    "discord": HttpKind(lambda base: {"url": f"{base}/api/webhooks/1/canary"}, accepted=(204, b"")),
    "googlechat": HttpKind(
        lambda base: {"url": f"{base}/v1/spaces/A/messages?key=canary&token=canary"},
        accepted=(200, b'{"name": "spaces/A/messages/1"}'),
        max_body=32_000,
    ),
    "pagerduty": HttpKind(
        lambda base: {"routing_key": "0123456789abcdef" * 2, "url": f"{base}/canary-path"},
        accepted=(202, b'{"status":"success","message":"Event processed","dedup_key":"x"}'),
        max_body=512_000,
        ignored=NO_PROBLEM,
    ),
    "alertmanager": HttpKind(
        lambda base: {"url": f"{base}/canary-path"},
        accepted=(200, b""),
        ignored=NO_PROBLEM,
        known_by=lambda body: [alert["labels"] for alert in json.loads(body)],
    ),
}


@asynccontextmanager
async def opened(
    kind: str, receiver: Peer | str, context: SinkContext | None = None
) -> AsyncIterator[Sink]:
    """Open a sink of a kind that sends to this receiver."""
    base = receiver if isinstance(receiver, str) else receiver.base
    texts = HTTP_KINDS[kind].settings(base)
    prefix = env_prefix(kind)
    environ = {f"{prefix}{name.upper()}": text for name, text in texts.items()}
    model = load_kind(kind)
    settings = RawSettings.of(model.settings, prefix, EnvSources(environ=environ)).build()
    async with model.open(Reloadable(settings), context or SinkContext()) as sink:
        yield sink

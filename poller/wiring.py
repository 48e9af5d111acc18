"""The parts that the daemon and other verbs are made of, as the settings want them."""

from pathlib import Path
from urllib.parse import urlsplit

import structlog

from poller.config import Config
from poller.core.counters import Counters
from poller.core.events import EventOrigin
from poller.core.pacing import PollPolicy
from poller.runtime.clock import Clock
from poller.runtime.http import HttpClient, OutboundSettings
from poller.settings.daemon import MEMORY, Settings
from poller.settings.sources import DEFAULT
from poller.store import Store
from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore
from poller.sutro.client import SutroClient

log = structlog.get_logger()


def build_client(
    config: Config, http: HttpClient, clock: Clock, counts: Counters | None = None
) -> SutroClient:
    """Make the client of the configured API."""
    base = config.settings.api_url
    return SutroClient(http, base=base, key=config.key, now=clock.steady, counts=counts)


def build_http(config: Config) -> HttpClient:
    """Make the session that all requests to the API share."""
    settings = config.settings
    return HttpClient(
        outbound(config), timeout=settings.request_timeout, limit=settings.concurrency
    )


def outbound(config: Config) -> OutboundSettings:
    """Say how requests leave this machine."""
    ca_file = config.settings.ca_file
    return OutboundSettings(ca_file=str(ca_file) if ca_file else None, proxy_for=config.proxy_for)


def poll_policy(settings: Settings) -> PollPolicy:
    """Say how often a job is looked at."""
    return PollPolicy(
        minimum=settings.min_interval,
        maximum=settings.max_interval,
        factor=settings.interval_factor,
    )


def origin(config: Config) -> EventOrigin:
    """Say where events come from."""
    settings = config.settings
    return EventOrigin(
        deployment=urlsplit(settings.api_url).netloc, namespace=settings.event_id_namespace
    )


def build_store(config: Config, clock: Clock) -> Store:
    """Make the configured store, not opened yet."""
    settings = config.settings
    routes = {sink.name: sink.events for sink in config.sinks}
    deployment = urlsplit(settings.api_url).netloc
    if config.sourced["POLLER_STORE"].origin == DEFAULT:
        # Only the default's folder is made: a path that was mistyped must not begin a new life.
        Path(settings.store).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if settings.store == MEMORY:
        log.warning("store.not_persistent", error="a restart forgets what was not delivered")
        return MemoryStore(routes=routes, deployment=deployment, now=clock.steady)
    return SqliteStore(
        Path(settings.store),
        routes=routes,
        deployment=deployment,
        now=clock.steady,
        allow_network=settings.allow_network_store,
    )

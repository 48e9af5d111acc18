"""The configuration of one process: its settings and its sinks, loaded from the environment."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from pydantic import SecretStr, TypeAdapter, ValidationError

from poller.core.errors import ConfigError
from poller.core.events import DEFAULT_SINK_EVENTS, EVENTS_FOR_PEOPLE, EventOrigin
from poller.core.outbox import Retention
from poller.core.pacing import PollPolicy
from poller.core.routing import Route, Routes
from poller.core.state import LifecyclePolicy
from poller.runtime.address import host_and_port, is_loopback
from poller.runtime.http_values import OutboundSettings
from poller.settings.base import (
    RawSettings,
    Reloadable,
    SinkSettings,
    env_prefix,
    route_of,
    variables,
)
from poller.settings.daemon import PREFIX, Settings
from poller.settings.proxies import EnvProxies
from poller.settings.secrets import texts_to_redact
from poller.settings.sources import DEFAULT, MEMORY, EnvSources, SourcedValue, default_store
from poller.settings.types import SinkNames, tls_rule
from poller.settings.unknown_variables import find_unknown
from poller.sinks import BUILT_IN, SinkContext, SinkKind, load_kind, names_of_settings

NO_KEY: Final = "SUTRO_API_KEY: is required; set it, or SUTRO_API_KEY_FILE to the path of a file"
NO_JOBS: Final = (
    "POLLER_JOB_IDS: no jobs to watch; set it, or POLLER_JOBS_FILE, or POLLER_DISCOVER=on"
)

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkConfig:
    """One configured sink: its name, its kind, its settings, the events that it receives."""

    name: str
    kind: SinkKind
    reloadable: Reloadable[SinkSettings]
    route: Route


@dataclass(slots=True, kw_only=True)
class Config:
    """The whole configuration. Only `reload_secrets` changes it.

    `sourced` has the text and origin of each variable; `secret_texts` are removed from all output.
    `is_delivering`: sinks and a store are needed; otherwise errors in sinks are ignored.
    `proxies` are those of HTTPS_PROXY and similar variables.
    """

    settings: Settings
    sinks: tuple[SinkConfig, ...]
    sourced: Mapping[str, SourcedValue] = field(repr=False)
    sources: EnvSources
    proxies: EnvProxies
    secret_texts: tuple[str, ...] = field(repr=False)
    is_delivering: bool = True

    def key(self) -> SecretStr:
        """Return the current API key. Raises ConfigError when there is none."""
        if self.settings.api_key is None:
            raise ConfigError(NO_KEY)
        return self.settings.api_key

    def secrets(self) -> tuple[str, ...]:
        """Return every text that no output may contain, as of the last reload."""
        return self.secret_texts

    def is_default(self, variable: str) -> bool:
        """Return whether no source sets a variable."""
        return self.sourced[variable].origin == DEFAULT

    @property
    def origin(self) -> EventOrigin:
        """The origin that all events carry: the host of the API with its port, and a namespace."""
        deployment = host_and_port(self.settings.api_url)
        return EventOrigin(deployment=deployment, namespace=self.settings.event_id_namespace)

    @property
    def outbound(self) -> OutboundSettings:
        """The certificates and proxies of requests to the API."""
        ca_file = self.settings.ca_file
        return OutboundSettings(
            ca_file=str(ca_file) if ca_file else None,
            proxy_for=self.proxy_for,
            url_name="SUTRO_API_URL",
        )

    def context_of(self, sink: str) -> SinkContext:
        """Return what a sink gets of the daemon's settings."""
        variable = f"{env_prefix(sink)}URL"
        is_read = variable in self.sourced  # a plug-in may call its own otherwise
        outbound = replace(self.outbound, url_name=variable if is_read else "its URL")
        return SinkContext(outbound, self.settings.job_url)

    @property
    def routes(self) -> Routes:
        """Which events each sink receives."""
        return {sink.name: sink.route for sink in self.sinks}

    @property
    def poll_policy(self) -> PollPolicy:
        """The polling intervals."""
        return PollPolicy(
            minimum=self.settings.min_interval,
            maximum=self.settings.max_interval,
            factor=self.settings.interval_factor,
        )

    @property
    def lifecycle_policy(self) -> LifecyclePolicy:
        """When an ended job is settled, a job missing or overdue, and a cost over its estimate."""
        return self.settings.lifecycle_policy

    @property
    def retention(self) -> Retention:
        """How long the store keeps rows."""
        settings = self.settings
        return Retention(
            delivered=settings.retention_delivered,
            dead=settings.retention_dead,
            jobs=settings.retention_jobs,
        )

    def reload_secrets(self) -> tuple[str, ...]:
        """Read the secret files again; on any error keep all old values, and return the errors."""
        try:
            fresh = _configure(self.sources, for_run=False, is_delivering=self.is_delivering)
        except ConfigError as error:
            return error.problems
        # Secret files that have appeared or gone may change more than a secret.
        if self.settings.api_key and not fresh.settings.api_key:
            return (NO_KEY,)
        if [sink.name for sink in self.sinks] != [sink.name for sink in fresh.sinks]:
            return ("POLLER_SINKS: restart the daemon to add or remove a sink",)
        self.settings, self.secret_texts = fresh.settings, fresh.secret_texts
        for sink, new in zip(self.sinks, fresh.sinks, strict=True):
            sink.reloadable.value = new.reloadable.value
        return ()

    def proxy_for(self, scheme: str, host: str, port: int | None) -> str | None:
        """Return the proxy for a host, or None: POLLER_PROXY, else HTTPS_PROXY or HTTP_PROXY.

        NO_PROXY applies to all of them. Requests to this machine never use a proxy.
        """
        if is_loopback(host) or self.proxies.is_exempt(host, port):
            return None
        own = self.settings.proxy
        return own.get_secret_value() if own else self.proxies.urls.get(scheme)


def load(
    environ: Mapping[str, str],
    env_file: Path | None = None,
    *,
    for_run: bool = True,
    is_delivering: bool = True,
) -> Config:
    """Read the whole configuration. Raises ConfigError with every problem at once.

    `for_run`: an API key and something to watch are required.
    """
    sources = EnvSources.of(environ, env_file)
    return _configure(sources, for_run=for_run, is_delivering=is_delivering)


def _configure(sources: EnvSources, *, for_run: bool, is_delivering: bool) -> Config:
    problems: list[str] = []
    defaults = _computed_defaults(sources) | ({} if is_delivering else {"store": MEMORY})
    raw = RawSettings.of(Settings, PREFIX, sources, **defaults)
    settings = _collect(problems, raw.build)
    sourced = dict(raw.values)
    names = _sink_names(sourced["POLLER_SINKS"].text)
    sink_problems: list[str] = []
    sinks = tuple(_read_sinks(names, sources, sourced, sink_problems))
    if settings and not settings.allow_http:
        sink_problems += _plain_urls(sinks)
    problems += sink_problems if is_delivering else ()
    is_replaced = bool(sourced["POLLER_PROXY"].text)
    proxies = _collect(problems, partial(EnvProxies.of, sources.environ, is_replaced=is_replaced))
    unknown = find_unknown(
        sources, sourced, problems, sinks=names, kinds=names_of_settings, required=BUILT_IN
    )
    meant = {variable.meant for variable in unknown}
    problems = [line for line in problems if line.removesuffix(": is required") not in meant]
    problems += map(str, unknown)
    problems += _missing_settings(sourced, settings, meant) if for_run else ()
    if problems or settings is None or proxies is None:
        raise ConfigError(*problems)
    models = (settings, *(sink.reloadable.value for sink in sinks))
    return Config(
        settings=settings,
        sinks=sinks,
        sourced=sourced | {**proxies.sourced},
        sources=sources,
        proxies=proxies,
        secret_texts=texts_to_redact(models, proxies.texts),
        is_delivering=is_delivering,
    )


def _collect(problems: list[str], read: Callable[[], T]) -> T | None:
    """Return what `read` returns, or None after adding its errors to the problems."""
    try:
        return read()
    except ConfigError as error:
        problems.extend(error.problems)
        return None


def _computed_defaults(sources: EnvSources) -> dict[str, str]:
    """Return the defaults that depend on the environment and on other settings."""

    def is_set(sink: str, names: Collection[str]) -> bool:
        return all(sources.find(env_prefix(sink) + name, is_secret=True) for name in names)

    return {
        "sinks": ",".join(sink for sink, required in BUILT_IN.items() if is_set(sink, required)),
        "store": default_store(sources.environ),
    }


def _sink_names(text: str) -> tuple[str, ...]:
    """Return the names in POLLER_SINKS; none if any is invalid, which `Settings` reports."""
    try:
        return TypeAdapter[tuple[str, ...]](SinkNames).validate_python(text)
    except ValidationError:
        return ()


def _read_sinks(
    names: Iterable[str], sources: EnvSources, sourced: dict[str, SourcedValue], problems: list[str]
) -> Iterator[SinkConfig]:
    """Yield the sinks without errors, and add their values to `sourced`, errors to `problems`."""
    for name in names:
        kind = _collect(problems, partial(load_kind, name))
        if kind is None:
            continue
        raw = RawSettings.of(kind.settings, env_prefix(name), sources)
        sourced |= raw.values
        settings = _collect(problems, raw.build)
        if settings is None:
            continue
        if settings.events is None:
            events = DEFAULT_SINK_EVENTS
            if kind.wants_daemon_events(settings):
                events |= EVENTS_FOR_PEOPLE
            settings = settings.model_copy(update={"events": tuple(sorted(events))})
            sourced[f"{env_prefix(name)}EVENTS"] = SourcedValue(text=",".join(sorted(events)))
        yield SinkConfig(
            name=name,
            kind=kind,
            reloadable=Reloadable(settings),
            route=route_of(settings),
        )


def _plain_urls(sinks: Iterable[SinkConfig]) -> Iterator[str]:
    """Yield an error for each URL of a sink that would carry events to other hosts without TLS."""
    for sink in sinks:
        settings = sink.reloadable.value
        for name, variable in variables(sink.kind.settings, env_prefix(sink.name)).items():
            value = getattr(settings, name)
            urls = value if isinstance(value, tuple) else (value,)
            texts = [url.get_secret_value() for url in urls if isinstance(url, SecretStr)]
            if rule := next(filter(None, map(tls_rule, texts)), None):
                yield f"{variable}: {rule}"


def _missing_settings(
    sourced: Mapping[str, SourcedValue], settings: Settings | None, meant: Collection[str | None]
) -> Iterator[str]:
    """Yield an error for a missing API key, and if nothing says which jobs to watch.

    Misspelt variables, which are reported, count as those that were `meant`.
    """
    given = {name for name, value in sourced.items() if value.origin != DEFAULT}
    given |= {name.removesuffix("_FILE") for name in meant if name}
    if "SUTRO_API_KEY" not in given:
        yield NO_KEY
    sources = {"POLLER_JOB_IDS", "POLLER_JOBS_FILE"}
    if settings is None or settings.discover or "POLLER_DISCOVER" in meant:
        sources.add("POLLER_DISCOVER")
    # An address that is set on purpose: jobs may be added there, or were.
    if settings is None or not settings.listen.is_off:
        sources.add("POLLER_LISTEN")
    if given.isdisjoint(sources):
        yield NO_JOBS

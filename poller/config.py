"""The configuration of one process: its settings and its sinks, loaded from the environment."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit
from urllib.request import proxy_bypass_environment  # type: ignore[attr-defined]  # typeshed lacks it

from pydantic import SecretStr

from poller.core.errors import ConfigError
from poller.core.events import DEFAULT_SINK_EVENTS, DaemonEventType
from poller.runtime.address import is_loopback
from poller.runtime.http import redact_url
from poller.settings.base import (
    EnvSettings,
    RawSettings,
    Reloadable,
    SinkSettings,
    env_prefix,
    secret_texts,
    variables,
)
from poller.settings.daemon import MEMORY, PREFIX, SINK_NAME, Settings
from poller.settings.sources import DEFAULT, EnvSources, SourcedValue, unknown_variables
from poller.settings.types import parse_list
from poller.sinks import BUILT_IN, SinkKind, load_kind

NO_KEY: Final = "SUTRO_API_KEY: is required; set it, or SUTRO_API_KEY_FILE to the path of a file"
NO_JOBS: Final = (
    "POLLER_JOB_IDS: there is nothing to watch; set it, or POLLER_JOBS_FILE, or POLLER_DISCOVER=on"
)
OFF: Final = frozenset({"off", "false", "no", "0", "f", "n"})
"""What counts as false; anything else is either true or a problem of its own."""
LONG_PATH: Final = 8
"""From so many characters on, the path of a secret URL is taken for a secret by itself."""


class SettingRow(NamedTuple):
    """One setting as it may be shown to anybody."""

    variable: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkConfig:
    """One configured sink: its name, its kind, its settings, the event types that it takes."""

    name: str
    kind: SinkKind
    reloadable: Reloadable[SinkSettings]
    events: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All that was configured. `found` tells by variable what came from where.

    `texts` are all that must not be seen anywhere: every log line asks for them.
    `is_delivering`: sinks and a store are needed. Else what is wrong with a sink does not matter.
    `proxies` are those of HTTPS_PROXY and its kin, by scheme.
    """

    live: Reloadable[Settings]
    sinks: tuple[SinkConfig, ...]
    sourced: Mapping[str, SourcedValue] = field(repr=False)
    sources: EnvSources
    proxies: Mapping[str, str] = field(repr=False)
    secrets_now: Reloadable[tuple[str, ...]] = field(repr=False)
    is_delivering: bool = True

    @property
    def settings(self) -> Settings:
        """The daemon's own settings, as of the last refresh."""
        return self.live.value

    def key(self) -> SecretStr:
        """Give the API key as of the last refresh. Raises ConfigError when there is none."""
        if self.settings.api_key is None:
            raise ConfigError(NO_KEY)
        return self.settings.api_key

    def secrets(self) -> tuple[str, ...]:
        """Give every text that must not be seen anywhere, as of the last refresh."""
        return self.secrets_now.value

    def reload_secrets(self) -> tuple[str, ...]:
        """Read the secret files again. With any problem all stays as it was; return the lines."""
        try:
            fresh = _configure(self.sources, for_run=False, is_delivering=self.is_delivering)
        except ConfigError as error:
            return error.problems
        if changed := _changed(self, fresh):
            return changed
        self.live.value = fresh.settings
        for sink, read in zip(self.sinks, fresh.sinks, strict=True):
            sink.reloadable.value = read.reloadable.value
        self.secrets_now.value = fresh.secrets_now.value
        return ()

    def proxy_for(self, scheme: str, host: str) -> str | None:
        """Give the proxy on the way to a host, or None: POLLER_PROXY, else HTTPS_PROXY and its kin.

        NO_PROXY holds for both, and nothing on this machine is asked through a proxy.
        """
        if is_loopback(host) or proxy_bypass_environment(host, self.proxies):
            return None
        own = self.settings.proxy
        return own.get_secret_value() if own else self.proxies.get(scheme, self.proxies.get("all"))


def load(
    environ: Mapping[str, str],
    env_file: Path | None = None,
    *,
    for_run: bool = True,
    is_delivering: bool = True,
) -> Config:
    """Read the whole configuration. Raises ConfigError with every problem at once.

    `for_run`: a key and something to watch must be there.
    """
    places = EnvSources.of(environ, env_file)
    return _configure(places, for_run=for_run, is_delivering=is_delivering)


def describe(config: Config) -> list[SettingRow]:
    """List every setting with its value, secrets masked, and where that came from."""
    return [SettingRow(name, _display(it), it.origin) for name, it in config.sourced.items()]


def _configure(places: EnvSources, *, for_run: bool, is_delivering: bool) -> Config:
    problems: list[str] = []
    defaults = _defaults(places) | ({} if is_delivering else {"store": MEMORY})
    main = RawSettings.of(Settings, PREFIX, places, **defaults)
    settings = None
    with _collected(problems):
        settings = main.build()
    found = main.by_variable()
    sinks = []
    names = _sink_names(main.values["sinks"].text)
    unread = {env_prefix(name) for name in names}
    of_sinks = problems if is_delivering else []
    for name in names:
        with _collected(of_sinks):
            kind = load_kind(name)
            unread.discard(env_prefix(name))
            reading = read_sink(name, kind, places)
            found |= reading.by_variable()
            sinks.append(_sink_config(name, kind, reading.build()))
    # A sink that is not there cannot say which variables are its own.
    odd = unknown_variables(places, _known(found, problems))
    problems += [it for it in odd if not it.startswith(tuple(unread))]
    problems += _missing_settings(main.values) if for_run else ()
    if problems or settings is None:
        raise ConfigError(*problems)
    proxies = _proxies(places.environ)
    models = (settings, *(sink.reloadable.value for sink in sinks))
    return Config(
        live=Reloadable(settings),
        sinks=tuple(sinks),
        sourced=found,
        sources=places,
        proxies=proxies,
        secrets_now=Reloadable(_secrets(models, proxies.values())),
        is_delivering=is_delivering,
    )


def _secrets(models: Iterable[EnvSettings], proxies: Iterable[str]) -> tuple[str, ...]:
    texts = [text for model in models for text in secret_texts(model)]
    urls = [url for url in proxies if "@" in url]
    parts = [part for text in texts for part in text.split()]
    return (*texts, *parts, *urls, *filter(None, map(_long_path, texts)))


def _known(found: Mapping[str, SourcedValue], problems: list[str]) -> list[str]:
    """Name every variable that is read, with those of all sinks while one sink is misspelt."""
    known = list(found) + [f"{name}_FILE" for name, it in found.items() if it.is_secret]
    if any(line.startswith("POLLER_SINKS:") for line in problems):
        for sink in BUILT_IN:
            names = variables(load_kind(sink).settings, env_prefix(sink)).values()
            known += [*names, *(f"{name}_FILE" for name in names)]
    return known


@contextmanager
def _collected(problems: list[str]) -> Iterator[None]:
    try:
        yield
    except ConfigError as error:
        problems.extend(error.problems)


def _changed(old: Config, fresh: Config) -> tuple[str, ...]:
    """Complain about secret files that came or went and with them more than a secret."""
    if old.settings.api_key and not fresh.settings.api_key:
        return (NO_KEY,)
    if [it.name for it in old.sinks] != [it.name for it in fresh.sinks]:
        return ("POLLER_SINKS: a change of what is configured takes a restart",)
    return ()


def _defaults(places: EnvSources) -> dict[str, str]:
    """Give the defaults that depend on where the daemon runs and what else is set."""
    has_webhook = places.find(f"{env_prefix('webhook')}URL", is_secret=True)
    folder = _state_folder(places.environ)
    return {
        "sinks": "log,webhook" if has_webhook else "log",
        "store": str(folder / "state.db") if folder else "",
    }


def _state_folder(environ: Mapping[str, str]) -> Path | None:
    # systemd gives several folders as one list when a unit asks for several.
    if folder := environ.get("STATE_DIRECTORY", "").partition(":")[0]:
        return Path(folder)
    if state := environ.get("XDG_STATE_HOME"):
        return Path(state, "sutro-poller")
    home = environ.get("HOME")
    return Path(home, ".local/state/sutro-poller") if home else None


def _sink_names(text: str) -> list[str]:
    """Read the usable names of POLLER_SINKS; its own setting complains about the others."""
    with suppress(ValueError):
        names = parse_list(text)
        return [it for it in names if SINK_NAME.fullmatch(it)] if isinstance(names, tuple) else []
    return []


def read_sink(name: str, kind: SinkKind, places: EnvSources) -> RawSettings[SinkSettings]:
    """Look for the settings of one sink; which events it takes depends on who reads them."""
    found = RawSettings.of(kind.settings, env_prefix(name), places).values
    events = (
        DEFAULT_SINK_EVENTS | {*DaemonEventType}
        if kind.wants_daemon_events(found)
        else DEFAULT_SINK_EVENTS
    )
    return RawSettings.of(kind.settings, env_prefix(name), places, events=",".join(sorted(events)))


def _sink_config(name: str, kind: SinkKind, settings: SinkSettings) -> SinkConfig:
    events = frozenset(settings.events or ())
    return SinkConfig(name=name, kind=kind, reloadable=Reloadable(settings), events=events)


def _missing_settings(found: Mapping[str, SourcedValue]) -> Iterator[str]:
    if not found["api_key"].text and not found["api_key"].problem:
        yield NO_KEY
    names = ("job_ids", "jobs_file")
    is_discovering = found["discover"].text.lower() not in OFF
    # Who asks for a door may add jobs through it, or did.
    has_door = found["listen"].origin != DEFAULT and found["listen"].text.lower() not in OFF
    if not (any(found[name].text for name in names) or is_discovering or has_door):
        yield NO_JOBS


def _proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """Read `https_proxy`, `no_proxy` and their kin; small letters win, as they do for curl."""
    names = sorted(name for name in environ if name.lower().endswith("_proxy"))
    proxies = {name.lower().removesuffix("_proxy"): environ[name] for name in names}
    return {scheme: it for scheme, it in proxies.items() if it}


def _display(found: SourcedValue) -> str:
    if not found.is_secret or not found.text:
        return found.text
    return redact_url(found.text) if "://" in found.text else "****"


def _long_path(secret: str) -> str | None:
    """Give the path and query of a secret URL: they are what is secret about it."""
    url = urlsplit(secret)
    path = url._replace(scheme="", netloc="").geturl()
    return path if url.netloc and len(path) >= LONG_PATH else None

"""The sink interface and the registry of sinks; all that a package with a sink imports is here.

A sink has one method, `send`. It returns when the receiver has the event, and raises DeliveryError
if not. It never retries and never queues: the daemon does both. `poller.sinks.testing` helps to
test a sink.
"""

from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol

from poller.core.errors import ConfigError, DeliveryError
from poller.core.events import Event
from poller.core.outbox import Delivery
from poller.core.spelling import closest
from poller.runtime.http_values import OutboundSettings
from poller.settings.base import DigestSettings, Reloadable, SinkSettings, setting
from poller.sinks.text import Message, describe

__all__ = [
    "Delivery",
    "DeliveryError",
    "DigestSettings",
    "Event",
    "Message",
    "OutboundSettings",
    "Reloadable",
    "Sink",
    "SinkContext",
    "SinkKind",
    "SinkSettings",
    "describe",
    "setting",
]

ENTRY_POINT_GROUP: Final = "sutro_poller.sinks"
MAX_CONCURRENCY: Final = 16
"""Calls of one sink that overlap, at most."""

BUILT_IN: Final[Mapping[str, Collection[str]]] = {
    "log": (),
    "webhook": ("URL",),
    "slack": ("URL",),
    "teams": ("URL",),
    "discord": ("URL",),
    "googlechat": ("URL",),
    "email": ("URL", "TO", "FROM"),
    "apprise": ("URL",),
    "pagerduty": ("ROUTING_KEY",),
    "alertmanager": ("URL",),
    "exec": ("COMMAND",),
    "file": ("PATH",),
}
"""The built-in kinds, each with the settings that it requires; a module of this package has it."""
OTHER_RECEIVERS: Final = (
    "install a package with such a sink, or send a webhook to a program that passes it on"
)


class Sink(Protocol):
    """Something that events are sent to.

    One that needs it has an attribute `concurrency`: how many calls may overlap, 1 to 16.
    """

    async def send(self, delivery: Delivery) -> None:
        """Send one event; return when the receiver has it. Raises DeliveryError.

        Calls overlap, except those with events of one job. A call is cancelled after 90 seconds.
        """


@dataclass(frozen=True, slots=True)
class SinkContext:
    """What a sink gets of the daemon's settings.

    `outbound` are the certificates and proxies of its requests. `job_url` is POLLER_JOB_URL, the
    URL of a job's page with `{job_id}` in it.
    """

    outbound: OutboundSettings = field(default_factory=OutboundSettings)
    job_url: str | None = None


@dataclass(frozen=True, slots=True)
class SinkKind:
    """A kind of sink: its settings, and how a sink of it is opened.

    `warnings` gets the settings of one sink and returns what may be wrong, by field.

    `open` gets the settings, whose `value` changes when secrets are reloaded, and the context. It
    returns a context manager that yields the sink and closes whatever the sink holds open.
    `wants_daemon_events` gets the settings of one sink and returns whether its default events
    include those of the daemon (`poller.*`), of overdue jobs and of costs, as suits people.
    """

    settings: type[SinkSettings]
    open: Callable[[Reloadable[Any], SinkContext], AbstractAsyncContextManager[Sink]]
    wants_daemon_events: Callable[[Any], bool] = lambda _settings: False
    warnings: Callable[[Any], Mapping[str, str]] = lambda _settings: {}


def installed_kinds() -> tuple[str, ...]:
    """Return the names of all kinds of sinks, built in or of installed packages."""
    return (*BUILT_IN, *(entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)))


def names_of_settings() -> dict[str, list[str]]:
    """Return the names of the settings of all kinds in capitals; none of those of packages."""
    built_in = {kind: load_kind(kind).settings.model_fields for kind in BUILT_IN}
    return {kind: [name.upper() for name in built_in.get(kind, ())] for kind in installed_kinds()}


def load_kind(name: str) -> SinkKind:
    """Return the kind of the sink with a name: `webhook` for `webhook` and `webhook.audit`.

    Raises ConfigError if no built-in sink and no installed package has the name, or if the package
    is broken.
    """
    kind_name = name.partition(".")[0]
    if kind_name in BUILT_IN:
        kind: SinkKind = import_module(f"poller.sinks.{kind_name}").KIND
        return kind
    for entry_point in entry_points(group=ENTRY_POINT_GROUP, name=kind_name):
        return _load(entry_point)
    installed = installed_kinds()
    close = closest(kind_name, installed)
    advice = f"did you mean {close}?" if close else OTHER_RECEIVERS
    raise ConfigError(
        f"POLLER_SINKS: unknown sink {kind_name!r} (installed: {', '.join(installed)}); {advice}"
    )


def _load(entry_point: EntryPoint) -> SinkKind:
    subject = f"POLLER_SINKS: sink {entry_point.name!r}"
    try:
        kind = entry_point.load()
    except Exception as error:  # noqa: BLE001 - the import of a plugin may raise anything
        # The error's own text may hold a secret, and no settings are known yet to redact it by.
        raise ConfigError(
            f"{subject} cannot be loaded from {entry_point.value} ({type(error).__name__}); "
            f"for details run python -c 'import {entry_point.module}'"
        ) from None
    if not isinstance(kind, SinkKind):
        raise ConfigError(
            f"{subject} is broken: {entry_point.value} must be a poller.sinks.SinkKind; "
            "report this to the authors of its package"
        )
    fields = kind.settings.model_fields
    base = DigestSettings if issubclass(kind.settings, DigestSettings) else SinkSettings
    for name, info in base.model_fields.items():
        if fields[name].annotation != info.annotation:  # as a field `model` for something else
            raise ConfigError(
                f"{subject} is broken: its setting {name} has another type than that of every sink;"
                " report this to the authors of its package"
            )
    return kind

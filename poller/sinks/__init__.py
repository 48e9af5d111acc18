"""The port to whoever wants to know, and the table of those that come with the package.

A sink is one verb. It returns when the receiver has the event and raises DeliveryError when not;
it never retries and never queues: that is the dispatcher's work.
"""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from difflib import get_close_matches
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final, Protocol

from poller.core.errors import ConfigError
from poller.core.outbox import Delivery
from poller.runtime.http import OutboundSettings
from poller.settings.base import Reloadable, SinkSettings

ENTRY_POINTS: Final = "sutro_poller.sinks"

BUILT_IN: Final = {
    "log": "poller.sinks.log:KIND",
    "webhook": "poller.sinks.webhook:KIND",
}


class Sink(Protocol):
    """Somebody who takes events."""

    async def send(self, delivery: Delivery) -> None:
        """Hand over one event, or raise DeliveryError."""


@dataclass(frozen=True, slots=True)
class SinkKind:
    """A kind of sink: what it reads from the environment, and how it is opened with that.

    `connect` is given an instance of `settings`, live because secrets are read again on SIGHUP,
    and the way out of this machine. It returns a context that gives the sink and closes what it
    holds. Only the variables of configured sinks are read. `wants_daemon_events` returns whether a
    sink with these settings receives the `poller.*` events by default.
    """

    settings: type[SinkSettings]
    open: Callable[[Reloadable[Any], OutboundSettings], AbstractAsyncContextManager[Sink]]
    wants_daemon_events: Callable[[Any], bool] = lambda _settings: False


def load_kind(name: str) -> SinkKind:
    """Find the kind of a sink by its name: `webhook`, or `webhook` in `webhook.audit`.

    Raises ConfigError when no built-in and no installed package has it, or its package is broken.
    """
    kind = name.partition(".")[0]
    if kind in BUILT_IN:
        module, _, attribute = BUILT_IN[kind].partition(":")
        found: SinkKind = getattr(import_module(module), attribute)
        return found
    for entry in entry_points(group=ENTRY_POINTS, name=kind):
        return _load(entry)
    known = ", ".join(sorted(BUILT_IN))
    close = get_close_matches(kind, BUILT_IN, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    raise ConfigError(f"POLLER_SINKS: no sink is called {kind!r} (built in: {known}){hint}")


def _load(entry: EntryPoint) -> SinkKind:
    try:
        loaded = entry.load()
    except Exception as error:  # noqa: BLE001 - a package of others may do anything when imported
        # What the error says is not repeated: nobody knows yet what is secret in it.
        raise ConfigError(
            f"POLLER_SINKS: the sink {entry.name!r} cannot be loaded from {entry.value} "
            f"({type(error).__name__}); python -c 'import {entry.module}' says more"
        ) from None
    if not isinstance(loaded, SinkKind):
        raise ConfigError(
            f"POLLER_SINKS: the sink {entry.name!r} is broken: {entry.value} must be a "
            "poller.sinks.SinkKind; ask the authors of its package to mend that"
        )
    return loaded

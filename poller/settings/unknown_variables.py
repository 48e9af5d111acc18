"""Unknown variables of this program, and the setting that each was probably meant to be."""

import re
from collections import ChainMap
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from poller.core.spelling import closest
from poller.settings.base import env_prefix
from poller.settings.sources import DEFAULT, EnvSources, SourcedValue

OWN_PREFIX: Final = "POLLER_"
API_PREFIX: Final = "SUTRO_API_"
VENDOR_PREFIX: Final = "SUTRO_"
SERVICE_NAME: Final = re.compile(
    r"\w+_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_[0-9]+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)
SERVICE_URL: Final = re.compile(r"(tcp|udp|sctp)://")
CLEAR: Final = 0.9
POSSIBLE: Final = 0.8
"""How similar a name must be to the one that was meant, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class UnknownVariable:
    """A variable and what to do about it.

    `meant` is the variable that it is probably a misspelling of; `is_of_sink`: it is a setting of
    a sink that is not configured.
    """

    name: str
    advice: str
    meant: str | None = None
    is_of_sink: bool = False

    def __str__(self) -> str:
        """Return the error."""
        return f"{self.name}: {self.advice}"


def is_of_kubernetes(name: str, text: str) -> bool:
    """Return whether a kubelet sets such a variable for a Service, whatever its name."""
    is_url = name.endswith("_PORT") and SERVICE_URL.match(text)
    return bool(is_url or SERVICE_NAME.fullmatch(name))


def find_unknown(
    sources: EnvSources,
    sourced: Mapping[str, SourcedValue],
    problems: Iterable[str],
    *,
    sinks: Collection[str],
    kinds: Callable[[], Mapping[str, Collection[str]]],
    required: Mapping[str, Collection[str]],
) -> list[UnknownVariable]:
    """Return each unknown variable, unless it may belong to a sink with an error.

    `sourced` are the known variables, `problems` the other errors, `sinks` the names in
    POLLER_SINKS. `kinds` returns the installed kinds of sinks, each with the names of its settings
    in capitals; none if they are not known without loading a package. `required` are the settings
    that put a kind into the default of POLLER_SINKS.
    """
    known = {*sourced, *(f"{name}_FILE" for name, value in sourced.items() if value.is_secret)}
    given = dict(ChainMap(*sources.layers()))
    unread = [name for name, found in given.items() if not _is_foreign(name, found.text, known)]
    installed = kinds() if unread else {}
    is_set = {*given, *(name for name, value in sourced.items() if value.origin != DEFAULT)}
    explain = partial(
        _explain, given=is_set, known=known, sinks=sinks, kinds=installed, required=required
    )
    explained = [explain(name) for name in sorted(unread)]
    unknown = [variable for variable in explained if _is_ours(variable, is_set)]
    prefixes = map(env_prefix, sinks)
    unloaded = tuple(prefix for prefix in prefixes if f"{prefix}EVENTS" not in sourced)
    are_sinks_wrong = any(line.startswith("POLLER_SINKS:") for line in problems) or any(
        variable.meant == "POLLER_SINKS" for variable in unknown
    )
    return [
        variable
        for variable in unknown
        if not variable.name.startswith(unloaded) and not (are_sinks_wrong and variable.is_of_sink)
    ]


def _is_ours(variable: UnknownVariable, is_set: Collection[str]) -> bool:
    """Return whether a variable is meant for the daemon: other programs have some for Sutro too."""
    return variable.name.startswith((OWN_PREFIX, API_PREFIX)) or (
        variable.meant is not None and variable.meant not in is_set
    )


def _is_foreign(name: str, text: str, known: Collection[str]) -> bool:
    has_prefix = name.upper().startswith((OWN_PREFIX, VENDOR_PREFIX))
    return not has_prefix or name in known or is_of_kubernetes(name, text)


def _explain(
    name: str,
    *,
    given: Collection[str],
    known: Collection[str],
    sinks: Collection[str],
    kinds: Mapping[str, Collection[str]],
    required: Mapping[str, Collection[str]],
) -> UnknownVariable:
    possible = {
        *known,
        *(env_prefix(kind) + setting for kind, settings in kinds.items() for setting in settings),
    }
    free = possible - {*given, *(f"{variable}_FILE" for variable in given)}
    if meant := closest(name.upper(), free, CLEAR):
        return UnknownVariable(name, f"unknown variable; did you mean {meant}?", meant)
    if sink := _sink_of(name, kinds):
        names = ",".join([*sinks, sink])
        advice = f"no sink in POLLER_SINKS has this variable; set POLLER_SINKS={names}"
        if sink in required and "POLLER_SINKS" not in given:
            missing = [env_prefix(sink) + setting for setting in required[sink]]
            advice = f"has no effect without {' and '.join(missing)}"
        return UnknownVariable(name, advice, is_of_sink=True)
    if meant := closest(name.upper(), possible, POSSIBLE):
        return UnknownVariable(name, f"unknown variable; did you mean {meant}?", meant)
    return UnknownVariable(name, "unknown variable; no setting of the daemon or of a sink has it")


def _sink_of(name: str, kinds: Mapping[str, Collection[str]]) -> str | None:
    """Return the sink that would read a variable: `webhook.audit` for POLLER_WEBHOOK_AUDIT_URL."""
    for kind, settings in kinds.items():
        rest = name.removeprefix(env_prefix(kind)).removesuffix("_FILE")
        if not name.startswith(env_prefix(kind)):
            continue
        if not settings or rest in settings:
            return kind
        for setting in sorted(settings, key=len, reverse=True):
            if rest.endswith(f"_{setting}"):
                return f"{kind}.{rest.removesuffix(f'_{setting}').lower()}"
    return None

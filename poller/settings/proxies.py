"""The proxies that the environment sets for all programs: HTTPS_PROXY, NO_PROXY, ..."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Final, Self

from poller.core.errors import ConfigError
from poller.runtime.address import is_ip
from poller.settings.sources import SourcedValue, read_value
from poller.settings.types import parse_proxy

SCHEMES: Final = ("http", "https")
EVERYTHING: Final = "*"
NO_PROXY: Final = "no_proxy"
ENTRY_RULE: Final = "use host, .domain, host:port or a network such as 10.0.0.0/8"
HOST: Final = re.compile(r"(\*?\.)?(?P<name>[\w-][\w.-]*)(:(?P<port>[0-9]+))?")
BRACKETED: Final = re.compile(r"\[(?P<name>[0-9a-f:.]+)\](:(?P<port>[0-9]+))?")


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvProxies:
    """The proxy URL of each scheme, the entries of NO_PROXY, and the variables they are from.

    `texts` are all values, also of variables that do not apply: they may contain passwords.
    """

    urls: Mapping[str, str] = field(repr=False)
    texts: tuple[str, ...] = field(repr=False)
    exempt: tuple[str, ...]
    sourced: Mapping[str, SourcedValue]

    @classmethod
    def of(cls, environ: Mapping[str, str], *, is_replaced: bool) -> Self:
        """Read the variables. `is_replaced`: POLLER_PROXY is set. Raises ConfigError."""
        sourced: dict[str, SourcedValue] = {}
        exempt: tuple[str, ...] = ()
        if name := _find(environ, NO_PROXY):
            sourced[name] = read_value(name, environ[name].strip())
            exempt = tuple(filter(None, re.split(r"[,\s]+", sourced[name].text.lower())))
        urls: dict[str, str] = {}
        for scheme in () if is_replaced or EVERYTHING in exempt else SCHEMES:
            if name := _find(environ, f"{scheme}_proxy") or _find(environ, "all_proxy"):
                sourced[name] = _read_proxy(name, environ[name].strip())
                urls[scheme] = sourced[name].text
        if problems := [value.problem for value in sourced.values() if value.problem]:
            raise ConfigError(*problems)
        texts = (text for name, text in environ.items() if name.lower().endswith("_proxy"))
        return cls(urls=urls, texts=(*texts, *urls.values()), exempt=exempt, sourced=sourced)

    def is_exempt(self, host: str, port: int | None) -> bool:
        """Return whether requests to a host use no proxy."""
        name = host.lower().rstrip(".")
        return any(_covers(entry, name, port) for entry in self.exempt)

    def warnings(self) -> Iterator[str]:
        """Yield a line for each entry of NO_PROXY that has no known form."""
        name = next((name for name in self.sourced if name.lower() == NO_PROXY), NO_PROXY)
        for entry in self.exempt:
            if not _is_known(entry):
                yield f"{name}: {entry!r} is ignored: {ENTRY_RULE}"


def _find(environ: Mapping[str, str], name: str) -> str | None:
    """Return the variable with a name that applies. Lower case takes precedence, as with curl."""
    variable = name if name in environ else name.upper()
    return variable if environ.get(variable, "").strip() else None


def _read_proxy(variable: str, text: str) -> SourcedValue:
    found = read_value(variable, text, is_secret=True)
    if found.problem:
        return found
    try:
        return replace(found, text=parse_proxy(text))
    except ValueError as error:
        return replace(found, text="", problem=f"{variable}: {error}")


def _covers(entry: str, host: str, port: int | None) -> bool:
    if entry == EVERYTHING:
        return True
    match = _match(entry)
    name, only_port = (match["name"], match["port"]) if match else (entry, None)
    if only_port not in {None, str(port)}:
        return False
    if is_ip(host):
        network = _network(name)
        return network is not None and ip_address(host) in network
    return not entry.startswith("[") and (host == name or host.endswith(f".{name}"))


def _is_known(entry: str) -> bool:
    return entry == EVERYTHING or _match(entry) is not None or _network(entry) is not None


def _match(entry: str) -> re.Match[str] | None:
    return BRACKETED.fullmatch(entry) or HOST.fullmatch(entry)


def _network(text: str) -> IPv4Network | IPv6Network | None:
    try:
        return ip_network(text, strict=False)
    except ValueError:
        return None

"""Addresses: those to listen at, a host and port, a unix socket, or off; and those of URLs."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self
from urllib.parse import urlsplit

DEFAULT_ADDRESS: Final = "127.0.0.1:8377"
ALL_ADDRESSES: Final = "::"
"""The host of a listener that all addresses of this machine reach, IPv4 and IPv6."""
OFF: Final = "off"
LOCALHOST: Final = "localhost"
ADDRESS_RULE: Final = (
    "must be off, unix:/path/of/socket, host:port such as 127.0.0.1:8377, or :port"
)
HOST_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
DEFAULT_PORTS: Final = {"http": ":80", "https": ":443"}
MAX_SOCKET_PATH_BYTES: Final = 107


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """A host and a port, or the path of a unix socket, or neither if it is off."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse the text of a setting. Raises ValueError with the rule."""
        if text.lower() == OFF:
            return cls()
        if text.startswith("unix:"):
            path = Path(text.removeprefix("unix:"))
            if not path.is_absolute() or len(bytes(path)) > MAX_SOCKET_PATH_BYTES:
                raise ValueError(ADDRESS_RULE)
            return cls(path=path)
        host, colon, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]").lower()
        if colon and host in {"", "*"}:
            host = ALL_ADDRESSES
        if not port.isascii() or not port.isdigit() or int(port) > 65_535 or not is_host(host):
            raise ValueError(ADDRESS_RULE)
        return cls(host=host, port=int(port))

    @property
    def is_off(self) -> bool:
        """Return whether the HTTP API is off."""
        return not self.host and self.path is None

    @property
    def is_local(self) -> bool:
        """Return whether only this machine can connect."""
        return self.path is not None or is_loopback(self.host)

    def __str__(self) -> str:
        """Return the address as a URL; that of a unix socket is for display only."""
        if self.path:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}" if host else OFF


def is_ip(host: str) -> bool:
    """Return whether a host is an IP address."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_host(host: str) -> bool:
    """Return whether a text is a valid host name or IP address."""
    return is_ip(host) or HOST_NAME.fullmatch(host) is not None


def host_and_port(url: str) -> str:
    """Return the host of a URL, with its port unless that is the scheme's own, in lower case."""
    parts = urlsplit(url)
    return parts.netloc.lower().removesuffix(DEFAULT_PORTS[parts.scheme])


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Return whether the host of a URL is this machine."""
    return host == LOCALHOST or (is_ip(host) and ip_address(host).is_loopback)

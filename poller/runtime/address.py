"""Where the door is: a host and a port, a unix socket, or nowhere."""

import re
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Self

DEFAULT_ADDRESS: Final = "127.0.0.1:8377"
OFF: Final = "off"
LOCALHOST: Final = "localhost"
RULE: Final = "must be off, unix:/path/of/a/socket, or a host and a port such as 127.0.0.1:8377"
NAME: Final = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")
PATH_BYTES: Final = 107
"""The longest path of a unix socket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenAddress:
    """A host and a port, or else the path of a unix socket, or else neither."""

    host: str = ""
    port: int = 0
    path: Path | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read an address as people write it. Raises ValueError with the rule."""
        if text.lower() == OFF:
            return cls()
        if text.startswith("unix:"):
            path = Path(text.removeprefix("unix:"))
            if not path.is_absolute() or len(bytes(path)) > PATH_BYTES:
                raise ValueError(RULE)
            return cls(path=path)
        host, _, port = text.rpartition(":")
        host = host.removeprefix("[").removesuffix("]").lower()
        if not port.isascii() or not port.isdigit() or int(port) > 65_535 or not is_host(host):
            raise ValueError(RULE)
        return cls(host=host, port=int(port))

    @property
    def is_off(self) -> bool:
        """Whether there is no door."""
        return not self.host and self.path is None

    @property
    def is_local(self) -> bool:
        """Whether only this machine can come to it."""
        return self.path is not None or is_loopback(self.host)

    def __str__(self) -> str:
        """Write it as a URL; that of a unix socket is for people alone."""
        if self.path:
            return f"unix:{self.path}"
        return f"http://{format_host(self.host)}:{self.port}" if self.host else OFF


def format_host(host: str) -> str:
    """Write a host as it stands in a URL."""
    return f"[{host}]" if ":" in host else host


def is_ip(host: str) -> bool:
    """Tell whether a host is an address and no name."""
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def is_host(host: str) -> bool:
    """Tell whether a text can be a host."""
    return is_ip(host) or NAME.fullmatch(host) is not None


@lru_cache(maxsize=64)
def is_loopback(host: str) -> bool:
    """Tell whether a host of a URL is this machine."""
    return host == LOCALHOST or (is_ip(host) and ip_address(host).is_loopback)

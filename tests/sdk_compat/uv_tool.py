"""The wheel, run by `uv tool run` without an installation.

The documentation names uv: one program, which runs a wheel with its extras.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemon_process import Place
from tests.support.secret_canaries import KEY

NETWORK = ("UV_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""Beginnings of variables that configure uv's way to the package index."""


@dataclass(frozen=True)
class ToolRunner:
    """uv, the wheel that it runs, and the folder that it may write to."""

    uv: Path
    wheel: Path
    home: Path

    def command(self, *messages: str, extra: str = "") -> list[str]:
        """Return a command line of `sutro-poller`, as the documentation has it."""
        source = f"{self.wheel}{extra}"
        return [str(self.uv), "tool", "run", "--from", source, "sutro-poller", *messages]

    def environment(self, place: Place) -> dict[str, str]:
        """Return the whole environment, with an empty home and this Python."""
        outside = {
            name: text for name, text in os.environ.items() if name.upper().startswith(NETWORK)
        }
        return outside | {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "UV_CACHE_DIR": str(self.home / "cache"),
            "UV_TOOL_DIR": str(self.home / "tools"),
            "UV_PYTHON": sys.executable,
            "TERM": "xterm",
            "SUTRO_API_URL": place.api_url,
            "SUTRO_API_KEY": KEY,
        }

"""The wheel, run by `uv tool run` without being installed.

It is uv and not pipx, since the README names uv: one program, which takes a wheel with its extras.
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.support.daemon_process import Place
from tests.support.secret_canaries import KEY

NETWORK = ("UV_", "SSL_CERT_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
"""How variables begin that tell uv the way to the index from here."""


@dataclass(frozen=True)
class ToolRunner:
    """uv, the wheel that it runs, and all that it may write to."""

    uv: Path
    wheel: Path
    home: Path

    def command(self, *words: str, extra: str = "") -> list[str]:
        """Give the command line of `sutro-poller` with some words, as the README has it."""
        source = f"{self.wheel}{extra}"
        return [str(self.uv), "tool", "run", "--from", source, "sutro-poller", *words]

    def environment(self, place: Place) -> dict[str, str]:
        """Give all that it gets to know; it finds an empty home, and this Python."""
        outside = {it: text for it, text in os.environ.items() if it.upper().startswith(NETWORK)}
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

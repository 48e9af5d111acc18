"""A client of the HTTP API of the running daemon."""

import json
import os
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from poller.cli import CommandError
from poller.cli import exit_codes as codes
from poller.cli.connection import connection
from poller.config import load
from poller.core.errors import ConfigError
from poller.runtime.address import ListenAddress

TIMEOUT_SECONDS: Final = 30.0
STATUS_CODES: Final = {401: codes.KEY_REJECTED, 403: codes.KEY_REJECTED, 503: codes.LOCKED}


class DaemonError(CommandError):
    """The daemon did not do what was requested, or cannot be reached.

    `status` is the HTTP status of its response, None without one.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        code = codes.UNREACHABLE if status is None else STATUS_CODES.get(status, codes.FAILURE)
        super().__init__(message, code=code)
        self.status = status


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonClient:
    """The address of a daemon, and the token that it requires, if any."""

    address: ListenAddress
    token: str | None = None

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Return the decoded response to one request. Raises DaemonError."""
        headers = {"Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Content-Type": "application/json"} if body else {}
        try:
            http = connection(self.address, timeout=TIMEOUT_SECONDS)
            http.request(method, path, json.dumps(body) if body else None, headers)
            response = http.getresponse()
            text = response.read()
            http.close()
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise DaemonError(
                f"cannot connect to the daemon at {self.address} ({reason}):"
                " is it running, with the same POLLER_LISTEN?"
            ) from None
        return _decode(response.status, text)


def connect(env_file: Path | None) -> DaemonClient:
    """Return a client of the configured daemon. Raises ConfigError."""
    settings = load(os.environ, env_file, for_run=False).settings
    address, token = settings.listen, settings.listen_token
    if address.is_off:
        raise ConfigError(
            "POLLER_LISTEN: is off, but this command needs the daemon's HTTP API;"
            " set it, for the daemon too"
        )
    return DaemonClient(address=address, token=token.get_secret_value() if token else None)


def _decode(status: int, text: bytes) -> Any:
    try:
        content = json.loads(text) if text else None
    except ValueError:
        raise DaemonError(
            "the server at POLLER_LISTEN is not sutro-poller", status=status
        ) from None
    if status >= 400:
        detail = content.get("detail") if isinstance(content, dict) else None
        if status == 401:
            detail = "the daemon rejected the token: set POLLER_LISTEN_TOKEN to the daemon's token"
        raise DaemonError(str(detail or f"the daemon responded with {status}"), status=status)
    return content

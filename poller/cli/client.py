"""The running daemon, asked through its door."""

import json
import os
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Any, Final

from poller.cli import exit_codes as codes
from poller.cli.connection import connection
from poller.config import load
from poller.core.errors import ConfigError, PollerError
from poller.runtime.address import ListenAddress

TIMEOUT_SECONDS: Final = 30.0
NOT_LISTENING: Final = (
    "POLLER_LISTEN: is off, so that a running daemon has no door; set it for both"
)

ANOTHER: Final = "the daemon wants another token: set POLLER_LISTEN_TOKEN as for it"
OF_STATUS: Final = {401: codes.KEY_REJECTED, 403: codes.KEY_REJECTED, 503: codes.LOCKED}


class DaemonError(PollerError):
    """The door did not give what was asked for. `code` is the exit code for that.

    `status` is that of an answer which is a problem, None where none came.
    """

    def __init__(self, told: str, *, status: int | None = None) -> None:
        super().__init__(told)
        self.status = status
        is_there = status is not None
        self.code = OF_STATUS.get(status or 0, codes.FAILURE) if is_there else codes.UNREACHABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonClient:
    """Where a daemon is, and the token that it wants, if it wants one."""

    address: ListenAddress
    token: str | None = None

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Make one request and give what the answer holds. Raises Unanswered."""
        headers = {"Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Content-Type": "application/json"} if body else {}
        try:
            asking = connection(self.address, timeout=TIMEOUT_SECONDS)
            asking.request(method, path, json.dumps(body) if body else None, headers)
            answer = asking.getresponse()
            text = answer.read()
            asking.close()
        except (OSError, HTTPException) as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            told = f"no daemon answers at {self.address} ({why}); does it run, with the same"
            raise DaemonError(f"{told} POLLER_LISTEN?") from None
        return _content(answer.status, text)


def connect(env_file: Path | None) -> DaemonClient:
    """Find the door of the settings. Raises ConfigError."""
    settings = load(os.environ, env_file, for_run=False).settings
    address, token = ListenAddress.parse(settings.listen), settings.listen_token
    if address.is_off:
        raise ConfigError(NOT_LISTENING)
    return DaemonClient(address=address, token=token.get_secret_value() if token else None)


def _content(status: int, text: bytes) -> Any:
    try:
        content = json.loads(text) if text else None
    except ValueError:
        raise DaemonError("what answers there is no sutro-poller", status=status) from None
    if status >= 400:
        detail = content.get("detail") if isinstance(content, dict) else None
        detail = ANOTHER if status == 401 else detail
        raise DaemonError(str(detail or f"the answer is {status}"), status=status)
    return content

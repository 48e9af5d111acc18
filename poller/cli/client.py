"""A client of the HTTP API of the running daemon."""

import json
from contextlib import closing
from dataclasses import dataclass, replace
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException
from typing import Any, Final

from poller.cli import CommandError
from poller.cli import exit_codes as codes
from poller.cli.connection import connection, find_key, probe
from poller.core.errors import ConfigError
from poller.runtime.address import ListenAddress
from poller.settings.daemon import Settings
from poller.store.admin import StoreStatus

TIMEOUT_SECONDS: Final = 30.0
STATUS_SECONDS: Final = 3.0
"""Less than a person or a health check waits; the database is shown without the daemon too."""
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
    """The address of a daemon, and the token that it requires, if any.

    With a `key`, nothing is sent before the daemon has proved that it has the same.
    """

    address: ListenAddress
    token: str | None = None
    key: bytes = b""
    timeout: float = TIMEOUT_SECONDS

    def request(self, method: str, path: str, body: object = None) -> Any:
        """Return the decoded response to one request. Raises DaemonError."""
        headers = {"Accept": "application/json"}
        headers |= {"Authorization": f"Bearer {self.token}"} if self.token else {}
        headers |= {"Content-Type": "application/json"} if body else {}
        try:
            with closing(connection(self.address, timeout=self.timeout)) as http:
                if self.key:
                    self._check_daemon(http)
                http.request(method, path, json.dumps(body) if body else None, headers)
                response = http.getresponse()
                text = response.read()
        except (OSError, HTTPException) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise DaemonError(
                f"cannot connect to the daemon at {self.address} ({reason}):"
                " is it running, with the same POLLER_LISTEN?"
            ) from None
        return _decode(response.status, text)

    def _check_daemon(self, http: HTTPConnection) -> None:
        """Raise DaemonError unless the daemon at this connection, which stays open, has the key."""
        try:
            found = probe(http, self.key)
        except (ValueError, RecursionError):
            raise DaemonError(f"the server at {self.address} is not sutro-poller") from None
        if found.is_own and http.sock:
            return
        if found.is_own:
            raise DaemonError(f"the daemon at {self.address} closed the connection: try again")
        if not found.is_ready:
            raise DaemonError("; ".join(found.reasons), status=HTTPStatus.SERVICE_UNAVAILABLE)
        raise DaemonError(
            f"the daemon at {self.address} has another database:"
            " check POLLER_LISTEN and POLLER_STORE"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class DaemonReport:
    """The daemon's own status, or the problem if there is none.

    `is_expected` if the daemon runs and should have reported.
    """

    status: dict[str, Any] | None = None
    problem: str | None = None
    is_expected: bool = False


def read_status(settings: Settings, store: StoreStatus) -> DaemonReport:
    """Return what the daemon of this database reports about itself, within a few seconds."""
    if not store.is_running:
        return DaemonReport(problem="the daemon is not running")
    if settings.listen.is_off:
        return DaemonReport(problem="POLLER_LISTEN is off")
    try:
        status = connect_briefly(settings).request("GET", "/v1/status")
    except DaemonError as error:
        return DaemonReport(problem=str(error), is_expected=True)
    if status["store"]["id"] not in {None, store.database_id}:
        problem = f"the daemon at {settings.listen} has another database: check POLLER_LISTEN"
        return DaemonReport(problem=problem, is_expected=True)
    return DaemonReport(status=status)


def connect(settings: Settings) -> DaemonClient:
    """Return a client of the configured daemon. Raises ConfigError and DaemonError."""
    address, token = settings.listen, settings.listen_token
    if address.is_off:
        raise ConfigError(
            "POLLER_LISTEN: is off, but this command needs the daemon's HTTP API;"
            " set it, for the daemon too"
        )
    try:
        key = find_key(address, settings.store, is_set="listen" in settings.model_fields_set)
    except ValueError as error:
        raise DaemonError(str(error)) from None
    return DaemonClient(address=address, token=token.get_secret_value() if token else None, key=key)


def connect_briefly(settings: Settings) -> DaemonClient:
    """Return a client for a command that works without the daemon, too. Raises as `connect`."""
    return replace(connect(settings), timeout=STATUS_SECONDS)


def _decode(status: int, text: bytes) -> Any:
    try:
        content = json.loads(text or b"{}")
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise DaemonError("the server at POLLER_LISTEN is not sutro-poller", status=status)
    if status >= 400:
        detail = content.get("detail")
        if status == 401:
            detail = "the daemon rejected the token: set POLLER_LISTEN_TOKEN to the daemon's token"
        raise DaemonError(str(detail or f"the daemon responded with {status}"), status=status)
    return content

"""Sends heartbeats to a monitoring service, which alerts people when they stop."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
import structlog
from pydantic import SecretStr

from poller.runtime.http_client import HttpClient
from poller.runtime.http_values import NoResponse, Response
from poller.runtime.log_throttle import LogThrottle

TIMEOUT: Final = 10.0
"""Seconds that one heartbeat may take before it counts as failed."""
RESPONSE_BYTES_CAP: Final = 256
UPTIME_KUMA_PATH: Final = "/api/push/"
"""A part of the path of every push URL of Uptime Kuma."""
IGNORED: Final = re.compile(rb"OK \(([a-z ]+)\)\s*")
"""Healthchecks.io responds so, with status 200, to a ping that it ignores.

The words are `not found` and `rate limited`: it allows 5 a minute.
"""

log = structlog.get_logger()


@dataclass(slots=True)
class HeartbeatSender:
    """Sends a GET request to a URL every `interval` seconds, while nothing blocks it.

    `url` returns the current URL, which may be replaced when secrets are reloaded. `blockers`
    returns the reasons why the daemon does not work: then nothing is sent. `outage` returns why
    it can observe nothing although it works: then a failure is sent.
    """

    url: Callable[[], SecretStr | None]
    interval: float
    http: HttpClient
    blockers: Callable[[], Sequence[str]]
    outage: Callable[[], str | None]
    throttle: LogThrottle

    async def run(self) -> None:
        """Send heartbeats until cancelled; does nothing if there was no URL at the start."""
        if self.url() is None:
            return
        async with self.http:
            while True:
                next_at = anyio.current_time() + self.interval
                await self._beat()
                await anyio.sleep_until(next_at)

    async def _beat(self) -> None:
        """Send one heartbeat, if none is blocked; a failure is only logged."""
        url = self.url()
        if blockers := self.blockers():
            self._log("heartbeat.skipped", ", ".join(blockers))
        elif url is not None:
            text, outage = url.get_secret_value(), self.outage()
            if error := await self._send(failure_url(text, outage) if outage else text):
                self._log("heartbeat.failed", error)

    async def _send(self, url: str) -> str | None:
        """Send one request; return why the service has not accepted it, or None."""
        try:
            response = await self._get(url)
        except NoResponse as error:
            is_accepted = error.status is not None and 200 <= error.status < 300
            return None if is_accepted else str(error)
        if not 200 <= response.status < 300:
            advice = "; redirects are not followed" if 300 <= response.status < 400 else ""
            return f"the service returned {response.status}{advice}"
        ignored = IGNORED.fullmatch(response.body)
        return f"the service ignored it: {ignored[1].decode()}" if ignored else None

    async def _get(self, url: str) -> Response:
        """Send a GET request, on a new connection if the kept one was stale. Raises NoResponse."""
        try:
            return await self.http.request("GET", url, headers={}, cap=RESPONSE_BYTES_CAP)
        except NoResponse as error:
            if not error.is_stale:
                raise
        return await self.http.request("GET", url, headers={}, cap=RESPONSE_BYTES_CAP)

    def _log(self, event: str, error: str) -> None:
        if occurrences := self.throttle.should_log(error):
            log.warning(event, error=error, occurrences=occurrences)


def failure_url(url: str, reason: str) -> str:
    """Return the URL that reports a failure in place of a heartbeat.

    Uptime Kuma takes `status=down` and a message; Healthchecks.io, and many that follow it, take
    `/fail` at the end of the path.
    """
    parts = urlsplit(url)
    if UPTIME_KUMA_PATH not in parts.path:
        return parts._replace(path=f"{parts.path.rstrip('/')}/fail").geturl()
    query = dict(parse_qsl(parts.query, keep_blank_values=True))
    return parts._replace(query=urlencode(query | {"status": "down", "msg": reason})).geturl()

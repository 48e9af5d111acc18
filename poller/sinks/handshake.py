"""The handshake before events: the receiver allows an origin (CloudEvents 1.0, HTTP webhook, 4)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from poller.core.errors import DeliveryError
from poller.runtime.http_values import NoResponse
from poller.sinks.http_post import RESPONSE_BYTES_CAP, demanded_pause

if TYPE_CHECKING:
    from poller.runtime.http_client import HttpClient

REQUEST_ORIGIN: Final = "WebHook-Request-Origin"
ALLOWED_ORIGIN: Final = "WebHook-Allowed-Origin"
ANY_ORIGIN: Final = "*"


@dataclass(slots=True)
class Handshake:
    """The permission of one receiver, which is requested again after a start or a rejection."""

    _allowed: tuple[str, str] | None = None
    """The URL and the origin of the permission."""

    async def complete(
        self,
        http: "HttpClient",
        url: str,
        origin: str,
        headers: Mapping[str, str],
        now: Callable[[], float],
    ) -> None:
        """Return once the receiver has allowed events of this origin. Raises DeliveryError."""
        if self._allowed == (url, origin):
            return
        headers = {**headers, REQUEST_ORIGIN: origin}
        try:
            response = await http.request("OPTIONS", url, headers=headers, cap=RESPONSE_BYTES_CAP)
        except NoResponse as error:
            raise DeliveryError(f"OPTIONS: {error}") from None
        # A permission is in the header alone: any server may respond to OPTIONS with a success.
        if response.headers.get(ALLOWED_ORIGIN, "").lower() not in {ANY_ORIGIN, origin}:
            raise DeliveryError(
                f"the receiver did not allow events from {origin}: its response to OPTIONS"
                f" ({response.status}) has no {ALLOWED_ORIGIN} with this name or *",
                retry_after=demanded_pause(response, now()),
            )
        self._allowed = url, origin

    def forget(self) -> None:
        """Request the permission again before the next event."""
        self._allowed = None

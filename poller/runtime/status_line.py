"""The status of a response whose header the HTTP library rejects, or that never becomes complete.

The library reports a response only when its whole header is valid. For a webhook the status line
alone counts: a receiver that has sent a 2xx has the event.
"""

import asyncio
import math
import re
from functools import partial
from typing import Any, Final

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError, RawResponseMessage
from aiohttp.streams import StreamReader

STATUS_LINE: Final = re.compile(rb"\nHTTP/\d\.\d ([2-9]\d\d)[ \r\n]")
"""The status line of a final response: 1xx responses may come before it."""
STATUS_LINE_BYTES: Final = 14
HEADER_BYTES_CAP: Final = 64 * 1024
"""Bytes of one header field. This and HEADERS_CAP are several times what the library allows."""
HEADERS_CAP: Final = 500
ALL_HEADERS_BYTES_CAP: Final = 256 * 1024
"""Bytes that a peer may send without ending its headers: curl has a similar limit."""


class InvalidHeader(Exception):
    """The status line of a response has arrived, and `error` instead of the rest of its header."""

    def __init__(self, status: int, error: Exception) -> None:
        super().__init__(status)
        self.status = status
        self.error = error


class UnansweredReuse(Exception):
    """A reused connection failed with `error` before it returned a byte."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error


class StatusLineProtocol(ResponseHandler):
    """A connection that remembers the status of its last response."""

    status: int | None = None
    _requests = 0
    _unread = b"\n"
    _header_bytes = 0.0

    def set_response_params(self, **params: Any) -> None:
        """Begin a new response."""
        self.status, self._unread, self._header_bytes = None, b"\n", 0.0
        self._requests += 1
        super().set_response_params(**params)

    @property
    def is_unanswered_reuse(self) -> bool:
        """Return whether a request after the first one has not returned a byte yet."""
        return self._requests > 1 and self._unread == b"\n"

    def data_received(self, data: bytes) -> None:
        """Look for the status line until it has arrived, and stop at an endless header."""
        if self.status is None:
            text = self._unread + data
            found = STATUS_LINE.search(text)
            self.status = int(found[1]) if found else None
            self._unread = text[-STATUS_LINE_BYTES:]
        self._header_bytes += len(data)
        super().data_received(data)
        if self._header_bytes > ALL_HEADERS_BYTES_CAP:
            self.set_exception(HttpProcessingError(message="the header is too long"))

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Pass on a complete header; after a 1xx another one follows, else the body."""
        self._header_bytes = 0.0 if data[0].code < 200 else -math.inf
        super().feed_data(data, size)


class StatusLineResponse(aiohttp.ClientResponse):
    """A response that names its status when the rest of its header fails."""

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        """Wait for the header.

        Raises InvalidHeader if only the status line is valid, and UnansweredReuse.
        """
        protocol = connection.protocol
        try:
            return await super().start(connection)
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(protocol, StatusLineProtocol):
                if protocol.status:
                    raise InvalidHeader(protocol.status, error) from None
                if protocol.is_unanswered_reuse:
                    raise UnansweredReuse(error) from None
            raise


class StatusLineConnector(aiohttp.TCPConnector):
    """Opens connections of this kind; the library has no public option for that."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        protocol: type[ResponseHandler] = StatusLineProtocol
        self._factory = partial(protocol, loop=asyncio.get_running_loop())

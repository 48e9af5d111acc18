"""The errors that this package raises on purpose, named for what the caller can do about them.

PollerError
├── ConfigError           a setting breaks a rule: report it, exit 78
│   └── AddressInUse      another process listens at the HTTP API's address: retry later, exit 75
├── PollError             a request without a result for a job: back off, never change its state
│   ├── NotFound          the API does not know this job: count it, the job may be missing
│   ├── Unauthorized      the API's 401 or 403: the API key is wrong, or this one job is forbidden
│   ├── RateLimited       429, or 503 with Retry-After: pause all requests
│   ├── Transient         timeout, reset, 5xx: retry, later each time
│   │   ├── StaleConnection     a reused connection returned nothing: retry at once on a new one
│   │   ├── MalformedResponse   a 200 that the API does not document
│   │   └── Intercepted   401, 403 or 407 of a proxy or firewall: says nothing about the key
│   ├── ResponseTooLarge  the job object is over the size limit: request its status alone
│   ├── Rejected          another 4xx for this job: poll it rarely, and log it
│   └── WrongEndpoint     a redirect or a foreign 404: the API URL is wrong
├── DeliveryError         a sink did not deliver an event: retry it, or dead-letter it if permanent
└── StoreError
    ├── StoreLocked       another process uses the store: exit 75
    ├── StoreUnusable     the store cannot be used as it is: exit 78, the file is unchanged
    ├── StoreUnavailable  disk full or I/O error: read again to learn the state, and retry
    └── NoMatch           no row has the id or name that the operator gave, or several do: exit 2
"""

from dataclasses import dataclass
from typing import Final


class PollerError(Exception):
    """The base of all errors that this package raises on purpose."""


class ConfigError(PollerError):
    """Invalid settings.

    `problems` has one line for each, with the variable or file and the rule, never a secret.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AddressInUse(ConfigError):
    """Another process listens at the address of the HTTP API."""


class PollError(PollerError):
    """A request that gave no status of a job. The text can be logged: no key, no query."""


class NotFound(PollError):
    """The API's own 404: it does not know this job."""


class Unauthorized(PollError):
    """The API's own 401 or 403; `status` is which."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status

    @property
    def is_forbidden(self) -> bool:
        """Return whether it is a 403, which may concern one job or the list alone."""
        return self.status == 403


class RateLimited(PollError):
    """The host demands a pause of `retry_after` seconds; None for an unknown time."""

    def __init__(self, message: str, *, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Transient(PollError):
    """A failure that a retry may resolve: a timeout, a reset, DNS, TLS, 408, 425 or 5xx."""


class StaleConnection(Transient):
    """A reused connection returned nothing: the network may have forgotten it."""


class MalformedResponse(Transient):
    """A 200 whose body is not what the API documents."""


class Intercepted(Transient):
    """A 401 or 403 that is not the API's own, or a 407: a proxy or firewall sent it."""


class ResponseTooLarge(PollError):
    """The body is over the size limit."""


class Rejected(PollError):
    """A status that a retry is unlikely to change: 400, 405, 406, 410, 414, 415, 422, ..."""


class WrongEndpoint(PollError):
    """The response came from a server that is not this API."""


FOREIGN_ERRORS: Final = (WrongEndpoint, MalformedResponse, Rejected)
"""Errors that another server than the API is likely to send."""


@dataclass(slots=True, eq=False)
class DeliveryError(PollerError):
    """A sink did not deliver an event.

    `reason` is one short line without secrets. `is_permanent`: no retry can succeed.
    `retry_after`: seconds of pause that the receiver demands. `is_sink_fault`: counts as a failure
    in the sink's circuit breaker; false if only this event is at fault. `is_suspect`: the sink may
    be at fault nevertheless, if several events fail in this way. `is_rejected`: the receiver will
    probably never accept this event; soon it is a dead letter. `is_gone`: the receiver wants no
    more events.
    """

    reason: str
    is_permanent: bool = False
    retry_after: float | None = None
    is_sink_fault: bool = True
    is_gone: bool = False
    is_suspect: bool = False
    is_rejected: bool = False

    def __str__(self) -> str:
        """Return the reason."""
        return self.reason


class StoreError(PollerError):
    """The store failed, or has nothing that matches."""


class StoreLocked(StoreError):
    """Another process uses the store."""


class StoreUnusable(StoreError):
    """The store cannot be used as it is: a newer schema, a read-only path, a network disk."""


class StoreUnavailable(StoreError):
    """The disk is full or failing. The last transaction may or may not have been written."""


class NoMatch(StoreError):
    """No row matches the id or name that was given, or several do."""

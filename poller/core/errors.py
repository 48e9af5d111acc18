"""Everything that goes wrong on purpose, named for what the caller can do about it.

PollerError
├── ConfigError         the settings break a rule: tell the person, exit 78
│   └── AddressTaken    another process listens where we should: exit 75, it may go
├── PollError           one look told nothing: it changes pace and health, never a job's state
│   ├── NotFound        the API says that it knows no such job: count it, it may be missing
│   ├── Refused         401 or 403: the key, or this one job, is not ours to read
│   ├── Throttled       429, or 503 with Retry-After: the whole host wants a pause
│   ├── Transient       timeouts, resets, 5xx: look again, later each time
│   │   └── MalformedAnswer   a 200 that is not what the API documents
│   ├── TooLarge        the job object is over the byte cap: ask for its status alone
│   ├── Rejected        a 4xx for this job: look seldom, say so loudly
│   └── Misconfigured   a redirect or a foreign 404: the base URL is wrong
├── DeliveryError       a sink did not take an event: postpone it, or bury it when final
└── StoreError
    ├── StoreLocked     another process has the store: exit 75
    ├── StoreRefused    the store cannot be used as it is: exit 78, file untouched
    ├── StoreUnavailable    disk full or I/O error: forget what was not read back, try again
    └── Unmatched       what the operator named is not there, or not unique: exit 2
"""

from dataclasses import dataclass


class PollerError(Exception):
    """Anything that this package raises on purpose."""


class ConfigError(PollerError):
    """Settings that break rules.

    `problems` holds one line for each, naming the variable or file and the rule, never a secret.
    """

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class AddressInUse(ConfigError):
    """Another process listens at the address of the door."""


class PollError(PollerError):
    """One look at a job told nothing about it. The text is fit for a log: no key, no query."""


class NotFound(PollError):
    """The API's own 404: it knows no job of this id."""


class Unauthorized(PollError):
    """401 or 403."""

    def __init__(self, message: str, *, status: int) -> None:
        super().__init__(message)
        self.status = status


class RateLimited(PollError):
    """The host asks for a pause; `retry_after` is in seconds, None when it did not say."""

    def __init__(self, message: str, *, retry_after: float | None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Transient(PollError):
    """It may work next time: a timeout, a reset, DNS, TLS, 408, 425 or 5xx."""


class MalformedResponse(Transient):
    """A 200 whose body is not what the API documents."""


class ResponseTooLarge(PollError):
    """The body is over the byte cap."""


class Rejected(PollError):
    """A status that a later request will hardly change: 400, 405, 406, 410, 414, 415, 422, ..."""


class WrongEndpoint(PollError):
    """The answer comes from something that is not this API."""


@dataclass(slots=True, eq=False)
class DeliveryError(PollerError):
    """A sink did not take an event.

    `reason` is one short line without secrets. `is_final`: no retry can help. `retry_after`: the
    receiver asked for that many seconds. `is_sink_fault`: counts towards the sink's breaker; an
    answer that faults the event alone does not. `is_gone`: the receiver wants nothing any more.
    """

    reason: str
    is_permanent: bool = False
    retry_after: float | None = None
    is_sink_fault: bool = True
    is_gone: bool = False

    def __str__(self) -> str:
        """Give the reason."""
        return self.reason


class StoreError(PollerError):
    """The store did not do what it was asked."""


class StoreLocked(StoreError):
    """Another process has the store."""


class StoreUnusable(StoreError):
    """The store cannot be used as it is: a newer schema, an unwritable path, a network disk."""


class StoreUnavailable(StoreError):
    """The disk is full or failing. Whether the last transaction was written is unknown."""


class NoMatch(StoreError):
    """The store has nothing of the name that was given, or several."""

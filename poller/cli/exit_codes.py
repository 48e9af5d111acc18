"""The exit codes of all verbs; 64 to 78 are those of sysexits.h."""

from typing import Final

from poller.core.errors import (
    AddressInUse,
    ConfigError,
    NoMatch,
    NotFound,
    PollerError,
    PollError,
    Rejected,
    StoreError,
    StoreLocked,
    StoreUnavailable,
    Unauthorized,
    WrongEndpoint,
)

OK: Final = 0
JOB_FAILED: Final = 1
FAILURE: Final = 1
USAGE: Final = 2
JOB_CANCELLED: Final = 3
JOB_MISSING: Final = 4
JOB_UNRECOGNISED: Final = 5
REJECTED: Final = 6
UNREACHABLE: Final = 69
CRASHED: Final = 70
NO_OUTPUT: Final = 74
LOCKED: Final = 75
KEY_REJECTED: Final = 77
BAD_CONFIGURATION: Final = 78
TIMED_OUT: Final = 124
INTERRUPTED: Final = 130
TERMINATED: Final = 143

ERROR_CODES: Final[tuple[tuple[type[PollerError], int], ...]] = (
    (Unauthorized, KEY_REJECTED),
    (WrongEndpoint, BAD_CONFIGURATION),
    (NotFound, JOB_MISSING),
    (Rejected, REJECTED),
    (PollError, UNREACHABLE),
    (NoMatch, USAGE),
    (StoreLocked, LOCKED),
    (StoreUnavailable, LOCKED),
    (StoreError, BAD_CONFIGURATION),
    (AddressInUse, LOCKED),
    (ConfigError, BAD_CONFIGURATION),
)
"""The exit code of each error; the first row that matches counts."""


def for_error(error: PollerError) -> int:
    """Return the exit code of an error that ends a verb."""
    return next(code for kind, code in ERROR_CODES if isinstance(error, kind))

"""How long to wait after a look, by what it came to."""

from typing import Final, NamedTuple

from poller.errors import NotFound, PollError, Refused, Rejected, Throttled
from poller.schedule import Backoff, Random

QUARANTINE: Final = 900.0
FORBIDDEN: Final = 403
JITTER: Final = 0.1
BACKOFF: Final = Backoff()


class Pause(NamedTuple):
    """Seconds until the next look; `is_put_off`: the job is no good for trying out the API."""

    delay: float
    is_put_off: bool = False


def pause(result: object, failures: int, interval: float, random: Random) -> Pause:
    """Say how long to wait. `failures` counts those in a row, this one too."""
    usual = interval * (1.0 + JITTER * (2.0 * random() - 1.0))
    if not is_failure(result):
        return Pause(usual, is_put_off=isinstance(result, NotFound))
    if isinstance(result, Rejected) or _is_forbidden(result, failures):
        return Pause(QUARANTINE, is_put_off=True)
    if isinstance(result, Refused):
        return Pause(usual, is_put_off=True)
    return Pause(max(usual, BACKOFF.delay(failures, random)), is_put_off=True)


def is_failure(result: object) -> bool:
    """Tell whether a look failed for a reason of its own.

    A 404 is an answer, and what throttles the host holds back all jobs together.
    """
    return isinstance(result, PollError) and not isinstance(result, NotFound | Throttled)


def _is_forbidden(result: object, failures: int) -> bool:
    """Tell whether it is this one job that is refused, as far as that can be known of one job.

    A 403 is thought to be, and so is a 401 that comes again: the gate has been open in between, or
    has let this job through because there was no better one to try.
    """
    return isinstance(result, Refused) and (result.status == FORBIDDEN or failures > 1)

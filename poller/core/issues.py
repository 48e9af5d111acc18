"""What keeps the daemon from its work and is not its own fault, with a remedy for each."""

from enum import StrEnum
from typing import Final


class Trouble(StrEnum):
    """What keeps the daemon from its work and is not its own fault."""

    KEY_REFUSED = "key_refused"
    MISCONFIGURED = "misconfigured"
    STALE = "stale"
    DEGRADED = "degraded"


ADVICE: Final = {
    Trouble.KEY_REFUSED: (
        "The API refuses the key: put SUTRO_API_KEY right and send SIGHUP, or restart."
    ),
    Trouble.MISCONFIGURED: (
        "What answers is not the API, or knows none of the jobs: check SUTRO_API_URL."
    ),
    Trouble.STALE: "The API has not answered for minutes: it is asked on.",
    Trouble.DEGRADED: (
        "The database cannot be written: free its disk, or mend it; nothing is sent meanwhile"
        " that is not recorded."
    ),
}
"""What each trouble means, and what to do about it, in a sentence."""

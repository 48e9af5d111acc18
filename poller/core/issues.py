"""What keeps the daemon from its work and is not its own fault, with a remedy for each."""

from enum import StrEnum
from typing import Final


class Issue(StrEnum):
    """What keeps the daemon from its work and is not its own fault."""

    API_KEY_REJECTED = "api_key_rejected"
    WRONG_ENDPOINT = "wrong_endpoint"
    API_UNREACHABLE = "api_unreachable"
    STORE_UNAVAILABLE = "store_unavailable"


REMEDIES: Final = {
    Issue.API_KEY_REJECTED: (
        "The API refuses the key: put SUTRO_API_KEY right and send SIGHUP, or restart."
    ),
    Issue.WRONG_ENDPOINT: (
        "What answers is not the API, or knows none of the jobs: check SUTRO_API_URL."
    ),
    Issue.API_UNREACHABLE: "The API has not answered for minutes: it is asked on.",
    Issue.STORE_UNAVAILABLE: (
        "The database cannot be written: free its disk, or mend it; nothing is sent meanwhile"
        " that is not recorded."
    ),
}
"""What each trouble means, and what to do about it, in a sentence."""

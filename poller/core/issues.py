"""Issues outside the daemon that keep it from its work, with a remedy for each."""

from enum import StrEnum
from typing import Final


class Issue(StrEnum):
    """An issue outside the daemon that keeps it from its work."""

    API_KEY_REJECTED = "api_key_rejected"
    WRONG_ENDPOINT = "wrong_endpoint"
    API_UNREACHABLE = "api_unreachable"
    STORE_UNAVAILABLE = "store_unavailable"
    JOB_NOT_FOUND = "job_not_found"
    FILE_UNREADABLE = "file_unreadable"
    EVENT_ID_COLLISION = "event_id_collision"


REMEDIES: Final = {
    Issue.API_KEY_REJECTED: (
        "API key rejected: set SUTRO_API_KEY to a valid key, then send SIGHUP or restart."
    ),
    Issue.WRONG_ENDPOINT: (
        "The server is not the Sutro API, or knows none of the jobs: check SUTRO_API_URL."
    ),
    Issue.API_UNREACHABLE: (
        "No response from the API for 5 minutes; polling continues, and nothing is lost."
    ),
    Issue.STORE_UNAVAILABLE: (
        "The database cannot be written: free disk space or repair it. Events wait until it works."
    ),
    Issue.JOB_NOT_FOUND: (
        "The API does not know a job that is watched by its ID: `sutro-poller jobs ls` shows which."
        " Correct or remove the ID."
    ),
    Issue.FILE_UNREADABLE: (
        "The jobs file or a secret file cannot be read: the log says why. The jobs and secrets that"
        " were read last are used."
    ),
    Issue.EVENT_ID_COLLISION: (
        "Events were lost: jobs of another deployment had the same IDs. Set a different"
        " POLLER_EVENT_ID_NAMESPACE, or another POLLER_STORE, for each SUTRO_API_URL."
    ),
}
"""One sentence for each issue: its meaning and the remedy."""

"""Issues outside the daemon that keep it from its work, with a remedy for each."""

from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from poller.core.formatting import format_count
from poller.core.jobs import format_rfc3339
from poller.core.outbox import SinkBacklog

MAX_DELIVERY_DELAY: Final = 3_600.0
"""Seconds that a delivery may be pending until its sink needs attention."""


class Issue(StrEnum):
    """An issue outside the daemon that keeps it from its work."""

    API_KEY_REJECTED = "api_key_rejected"
    WRONG_ENDPOINT = "wrong_endpoint"
    API_UNREACHABLE = "api_unreachable"
    STORE_UNAVAILABLE = "store_unavailable"
    JOB_NOT_FOUND = "job_not_found"
    LIST_REJECTED = "list_rejected"
    FILE_UNREADABLE = "file_unreadable"
    EVENT_ID_COLLISION = "event_id_collision"
    DELIVERY_DELAYED = "delivery_delayed"


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
    Issue.LIST_REJECTED: (
        "The API rejects the list of jobs, so no job is discovered: the log says why. Allow the API"
        " key to list jobs, or name the jobs instead of POLLER_DISCOVER."
    ),
    Issue.FILE_UNREADABLE: (
        "The jobs file or a secret file cannot be read: the log says why. The jobs and secrets that"
        " were read last are used."
    ),
    Issue.EVENT_ID_COLLISION: (
        "Events were lost: jobs of another deployment had the same IDs. Set a different"
        " POLLER_EVENT_ID_NAMESPACE, or another POLLER_STORE, for each SUTRO_API_URL."
    ),
    Issue.DELIVERY_DELAYED: (
        "An event has waited for a sink for over an hour: the remedy names the sink, the time and"
        " the reason. Fix the receiver, and the event is sent. After 7 days it becomes a dead"
        " letter."
    ),
}
"""One sentence for each issue: its meaning and the remedy. `delayed_delivery` has more to say."""


def delayed_delivery(sink: SinkBacklog, now: float) -> str | None:
    """Return the sentence about a sink whose oldest delivery waits for over an hour, or None.

    `now` is in seconds since 1970.
    """
    if sink.oldest_pending_at is None or now - sink.oldest_pending_at <= MAX_DELIVERY_DELAY:
        return None
    since = format_rfc3339(datetime.fromtimestamp(int(sink.oldest_pending_at), UTC))
    waiting = f"{sink.name} has {format_count(sink.pending, 'undelivered event')} since {since}"
    if not sink.is_configured:
        return (
            f"{waiting}, but is not in POLLER_SINKS any more: add it again, or they become dead"
            " letters after 7 days."
        )
    reason = sink.reason or "no attempt has ended"
    return (
        f"{waiting} ({reason}): fix its receiver, and they are sent. After 7 days they become dead"
        " letters."
    )

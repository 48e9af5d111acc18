"""SQL that corrects what a wrong clock has written, whenever a database is opened."""

from typing import Final

EARLIEST: Final = 1_704_067_200.0
"""The beginning of 2024, in seconds since 1970: no clock that was right has written less."""

CLAMP_DUE: Final = """
UPDATE deliveries SET due = :now + :max_delay
 WHERE sink IN (SELECT name FROM sinks)
   AND status = 'pending'
   AND is_head
   AND due > :now + :max_delay
"""

CLAMP_DELIVERIES: Final = """
UPDATE deliveries
   SET created_at = :now, ended_at = iif(ended_at IS NULL, NULL, :now)
 WHERE event_id IN (SELECT id FROM events WHERE recorded_at < :earliest AND :now > :earliest)
"""

CLAMP_EVENTS: Final = """
UPDATE events SET recorded_at = :now WHERE recorded_at < :earliest AND :now > :earliest
"""

CLAMP_JOBS: Final = """
UPDATE jobs SET since = :now, changed_at = :now WHERE changed_at < :earliest AND :now > :earliest
"""

CLAMP_SINKS: Final = """
UPDATE sinks SET unconfigured_at = :now WHERE unconfigured_at < :earliest AND :now > :earliest
"""

CLAMP_CROSSINGS: Final = """
UPDATE crossings SET crossed_at = :now WHERE crossed_at < :earliest AND :now > :earliest
"""

CORRECTIONS: Final = (
    CLAMP_DUE,
    CLAMP_DELIVERIES,
    CLAMP_EVENTS,
    CLAMP_JOBS,
    CLAMP_SINKS,
    CLAMP_CROSSINGS,
)
"""The deliveries before their events, by whose times they are found.

A host without a battery boots in 1970 and stays there until it has reached a time server. What was
recorded until then would look old enough to be deleted at once.
"""

"""The delays between the attempts of one delivery, in seconds."""

import math
from collections.abc import Sequence
from typing import Final

from poller.core.errors import DeliveryError
from poller.core.pacing import Random, delay_after

MINUTE: Final = 60.0
HOUR: Final = 3_600.0
RETRY_DELAYS: Final = (
    5.0,
    30.0,
    2 * MINUTE,
    5 * MINUTE,
    15 * MINUTE,
    HOUR,
    2 * HOUR,
    4 * HOUR,
    6 * HOUR,
)
"""Seconds after each failed attempt of a delivery; the last delay repeats."""
MAX_DELIVERY_AGE: Final = 7 * 24 * HOUR
"""Seconds of failures after which a delivery is dead, or the backlog of a sink."""
MAX_FAILURE_GAP: Final = 27 * HOUR
"""Seconds between two failures that count as failing throughout.

This is more than the longest pause, and than the longest delay with its jitter.
"""
MAX_ABSENCE: Final = 3 * 24 * HOUR
"""Seconds between two failures of a sink after which the time that it has failed starts again.

The clock may have been wrong on one side of the gap, and with it the age of every delivery.
"""
RETRY_AFTER_CAP: Final = 24 * HOUR
"""The longest pause that a sink can demand, in seconds."""

MAX_REJECTIONS: Final = 3
"""How often an event is rejected until it is a dead letter."""


def retry_delay(
    failures: int,
    error: DeliveryError,
    random: Random,
    delays: Sequence[float] = RETRY_DELAYS,
    *,
    limit: float = math.inf,
) -> float:
    """Return the seconds until the next attempt: the delay with jitter, or the sink's own pause."""
    step = delay_after(failures, delays) * (1.0 + random() / 10.0)
    return max(min(step, limit), min(error.retry_after or 0.0, RETRY_AFTER_CAP))

"""A test event, sent once through a real sink: what comes back is told, and nothing is kept."""

import secrets
from typing import Final

import anyio
import structlog

from poller.core.errors import DeliveryError
from poller.core.events import DaemonEventType, Event, EventOrigin, daemon_event
from poller.core.outbox import Delivery
from poller.runtime.clock import Clock
from poller.sinks import Sink

log = structlog.get_logger()

TEST_DELIVERY_ID: Final = 0
"""No delivery in a store has this."""


def test_event(origin: EventOrigin, clock: Clock, *, sink: str) -> Event:
    """Make a test event for a sink."""
    return daemon_event(
        DaemonEventType.TEST,
        origin,
        clock.now(),
        # Each test has an id of its own, or a receiver would drop the second as a repetition.
        instance=secrets.token_hex(8),
        occurrence=1,
        detail={"sink": sink},
    )


async def attempt(sink: Sink, name: str, event: Event, clock: Clock) -> str | None:
    """Send once; give the reason when the event was not taken."""
    delivery = Delivery(id=TEST_DELIVERY_ID, sink=name, event=event, created_at=clock.steady())
    try:
        with anyio.fail_after(SEND_TIMEOUT):
            await sink.send(delivery)
    except DeliveryError as error:
        return error.reason
    except Exception as error:  # the fence around every send, as it stands in a lane
        log.exception("sink.crashed", sink=name)
        return f"the sink raised {type(error).__name__}"
    return None


SEND_TIMEOUT: Final = 90.0
"""Seconds that any sink may take for one event, whatever its own limit is."""

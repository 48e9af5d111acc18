"""A test event, sent once through a real sink: what comes back is told, and nothing is kept."""

import secrets
from typing import Final

import anyio
import structlog

from poller.core.errors import DeliveryError
from poller.core.events import Event, Origin, PollerEvent, poller_event
from poller.core.outbox import Delivery
from poller.runtime.clock import Clock
from poller.sinks import Sink

log = structlog.get_logger()

NUMBER: Final = 0
"""No delivery in a store has this."""


def a_test_event(origin: Origin, clock: Clock, *, sink: str) -> Event:
    """Make a test event for a sink."""
    return poller_event(
        PollerEvent.TEST,
        origin,
        clock.now(),
        # Each test has an id of its own, or a receiver would drop the second as a repetition.
        instance=secrets.token_hex(8),
        occurrence=1,
        detail={"sink": sink},
    )


async def try_once(sink: Sink, name: str, event: Event, clock: Clock) -> str | None:
    """Send once; give the reason when the event was not taken."""
    delivery = Delivery(id=NUMBER, sink=name, event=event, created_at=clock.steady())
    try:
        with anyio.fail_after(SEND_LIMIT):
            await sink.send(delivery)
    except DeliveryError as error:
        return error.reason
    except Exception as error:  # the fence around every send, as it stands in a lane
        log.exception("sink.raised", sink=name)
        return f"the sink raised {type(error).__name__}"
    return None


SEND_LIMIT: Final = 90.0
"""Seconds that any sink may take for one event, whatever its own limit is."""

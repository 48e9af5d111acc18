"""One attempt to deliver one event: the fence around every sink."""

import math
import secrets as randomness
from typing import Final

import anyio
import structlog

from poller.core.errors import DeliveryError
from poller.core.events import EventOrigin
from poller.core.outbox import Delivery
from poller.core.parsing import strip_unprintable
from poller.runtime.clock import Clock
from poller.runtime.redaction import Secrets, redact
from poller.sinks import Sink
from poller.sinks.samples import test_event

SEND_TIMEOUT: Final = 90.0
"""Seconds that a sink may take for one event, whatever its own timeout is."""
REASON_CHARS: Final = 1_000
"""Characters of a reason that are logged and stored."""
REDACTED_CHARS: Final = 100_000
"""Characters of a reason that are searched for secrets. The rest is cut off before."""

log = structlog.get_logger()


async def attempt(sink: Sink, delivery: Delivery, *, secrets: Secrets) -> DeliveryError | None:
    """Send one delivery once. Return None if it was delivered, and why not otherwise.

    Whatever the sink raises ends here, so that its bug cannot stop others. The reason is one
    line without secrets: it is logged, stored, shown, and sent to other sinks.
    """
    try:
        with anyio.move_on_after(SEND_TIMEOUT):
            return await _send(sink, delivery, secrets)
    except Exception as error:  # the fence around every sink
        log.exception("sink.crashed", sink=delivery.sink)
        return DeliveryError(f"the sink raised {type(error).__name__}")
    return DeliveryError(f"the sink did not finish within {SEND_TIMEOUT:g} s")


async def _send(sink: Sink, delivery: Delivery, secrets: Secrets) -> DeliveryError | None:
    try:
        await sink.send(delivery)
    except DeliveryError as error:
        return _sanitize(error, secrets)
    return None


def _sanitize(error: DeliveryError, secrets: Secrets) -> DeliveryError:
    """Return a copy of a sink's error that is safe to log, to store and to compute with."""
    # Redact before the final cut: half a secret would not be found.
    reason = redact(str(error.reason)[:REDACTED_CHARS], secrets())
    pause = error.retry_after
    return DeliveryError(
        " ".join(strip_unprintable(reason).split())[:REASON_CHARS],
        is_permanent=bool(error.is_permanent),
        retry_after=float(pause) if pause is not None and math.isfinite(pause) else None,
        is_sink_fault=bool(error.is_sink_fault),
        is_gone=bool(error.is_gone),
    )


def test_delivery(sink: str, origin: EventOrigin, clock: Clock, event_type: str) -> Delivery:
    """Return the delivery of a test event, which no store keeps."""
    instance = randomness.token_hex(8)
    event = test_event(event_type, origin, clock.now(), sink=sink, instance=instance)
    return Delivery(id=0, sink=sink, event=event, created_at=clock.steady())

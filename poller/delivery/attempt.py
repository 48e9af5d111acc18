"""One attempt to deliver one event: the fence around every sink."""

import asyncio
import math
import secrets as randomness
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final

import anyio
import structlog
from anyio.lowlevel import checkpoint

from poller.core.errors import DeliveryError
from poller.core.events import EventOrigin
from poller.core.outbox import Delivery
from poller.runtime.clock import Clock
from poller.runtime.redaction import Secrets, safe_line
from poller.sinks import Sink
from poller.sinks.samples import test_event

SEND_TIMEOUT: Final = 90.0
"""Seconds that a sink may take for one event, whatever its own timeout is."""
CANCEL_TIMEOUT: Final = 1.0
"""Seconds that a sink may take to end when its call is cancelled."""
HANG_INTERVAL: Final = 3_600.0
"""Seconds after which it is reported again that a call still hangs."""
CANCEL_TURNS: Final = 10
"""Turns of the event loop in each of which a call is cancelled that goes on."""
HANG_REASON: Final = f"the sink did not finish within {SEND_TIMEOUT:g} s"

OnHang = Callable[[], Awaitable[None]]

log = structlog.get_logger()


async def attempt(
    sink: Sink, delivery: Delivery, *, secrets: Secrets, on_hang: OnHang = checkpoint
) -> DeliveryError | None:
    """Send one delivery once. Return None if it was delivered, and why not otherwise.

    Every exception of the sink is caught, so that its bug cannot stop others. The reason is one
    line without secrets: it is logged, stored, shown, and sent to other sinks. A call that goes on
    after its cancellation, such as a thread that hangs, is waited for: a second call beside it
    would deliver out of order, and each one would cost a thread. `on_hang` is called then, and
    every hour. Only the caller's own cancellation leaves the call behind.
    """
    scope, guard = anyio.CancelScope(), anyio.CancelScope()
    call = asyncio.create_task(_send(sink, delivery, secrets, scope, guard))
    try:
        if not await _ends(call, SEND_TIMEOUT):
            await _cancel(call, scope, guard)
            if not await _ends(call, CANCEL_TIMEOUT):
                log.warning("sink.hung", sink=delivery.sink, event_id=delivery.event.id)
                await on_hang()
                while not await _ends(call, HANG_INTERVAL):
                    await on_hang()
    finally:
        if not call.done():
            call.cancel()
            with anyio.move_on_after(CANCEL_TIMEOUT, shield=True):
                await _ends(call)
    if call.cancelled():
        log.error("sink.crashed", sink=delivery.sink, error="the sink cancelled itself")
        return DeliveryError("the sink cancelled itself")
    return call.result()


async def attempt_test(sink: Sink, delivery: Delivery, *, secrets: Secrets) -> DeliveryError | None:
    """Send a test event. A call that hangs is left behind, since somebody waits for the result."""

    async def give_up() -> None:
        raise TimeoutError

    try:
        return await attempt(sink, delivery, secrets=secrets, on_hang=give_up)
    except TimeoutError:
        return DeliveryError(HANG_REASON)


async def _ends(call: asyncio.Task[Any], within: float | None = None) -> bool:
    """Wait until a call ends, or for some seconds; return whether it has ended."""
    await asyncio.wait({call}, timeout=within)
    return call.done()


async def _cancel(
    call: asyncio.Task[Any], scope: anyio.CancelScope, guard: anyio.CancelScope
) -> None:
    """Cancel a call, except for threads that it waits for.

    anyio cancels it in each turn of the event loop until it ends, so that one that goes on would
    cost a whole core. The guard ends that.
    """
    scope.cancel()
    for _ in range(CANCEL_TURNS):
        if not call.done():
            await asyncio.sleep(0)
    guard.shield = True


async def _send(
    sink: Sink,
    delivery: Delivery,
    secrets: Secrets,
    scope: anyio.CancelScope,
    guard: anyio.CancelScope,
) -> DeliveryError | None:
    try:
        with scope, guard:
            try:
                await sink.send(delivery)
            except DeliveryError as error:
                return _sanitize(error, secrets)
            return None
    except asyncio.CancelledError:
        raise
    except BaseException as error:  # a bug of one sink must not stop the others
        log.exception("sink.crashed", sink=delivery.sink)
        return DeliveryError(f"the sink raised {type(error).__name__}")
    return DeliveryError(HANG_REASON)


def _sanitize(error: DeliveryError, secrets: Secrets) -> DeliveryError:
    """Return a copy of a sink's error that is safe to log, to store and to compute with."""
    return DeliveryError(
        safe_line(str(error.reason), secrets),
        is_permanent=bool(error.is_permanent),
        retry_after=_finite(error.retry_after),
        is_sink_fault=bool(error.is_sink_fault),
        is_gone=bool(error.is_gone),
        is_suspect=bool(error.is_suspect),
        is_rejected=bool(error.is_rejected),
    )


def _finite(seconds: Any) -> float | None:
    """Return seconds as a number; None if they are none. A sink may pass on a header's text."""
    with suppress(TypeError, ValueError):
        return number if math.isfinite(number := float(seconds)) else None
    return None


def test_delivery(sink: str, origin: EventOrigin, clock: Clock, event_type: str) -> Delivery:
    """Return the delivery of a test event, which no store keeps."""
    instance = randomness.token_hex(8)
    event = test_event(event_type, origin, clock.now(), sink=sink, instance=instance)
    return Delivery(id=0, sink=sink, event=event, created_at=clock.steady())

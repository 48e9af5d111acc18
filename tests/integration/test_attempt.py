"""An attempt ends in one safe value, whatever the sink raises."""

import asyncio
import math

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import DeliveryError
from poller.delivery.attempt import (
    CANCEL_TIMEOUT,
    CANCEL_TURNS,
    SEND_TIMEOUT,
    attempt,
    attempt_test,
)
from poller.runtime.redaction import REASON_CHARS
from tests.support.fakes import TimedSink
from tests.support.webhook_sinks import DELIVERY

SECRET = "https://hooks.example/canary"

pytestmark = pytest.mark.virtual(limit=3_600.0)


async def failure(trouble: object) -> DeliveryError:
    """Return what an attempt makes of a sink that raises, or awaits, `trouble`."""
    sink = TimedSink()
    sink.failure = trouble
    error = await attempt(sink, DELIVERY, secrets=lambda: (SECRET,))
    assert error
    return error


async def test_attempt_that_is_delivered_returns_none():
    """A sink that returns has delivered the event."""
    sink = TimedSink()

    assert await attempt(sink, DELIVERY, secrets=tuple) is None
    assert sink.ids == [DELIVERY.event.id]


async def test_attempt_redacts_the_reason():
    """A secret is redacted in the reason; all other parts of the error stay."""
    raised = DeliveryError(f"{SECRET} is gone", retry_after=3.0, is_sink_fault=False, is_gone=True)

    error = await failure(raised)

    assert error.reason == "**** is gone"
    assert (error.retry_after, error.is_sink_fault, error.is_gone) == (3.0, False, True)
    assert (error.is_permanent, error.is_suspect, error.is_rejected) == (False, False, False)


@pytest.mark.parametrize("claim", ["is_permanent", "is_suspect", "is_rejected"])
async def test_attempt_keeps_what_a_sink_claims(claim: str):
    """What a sink says of its error is kept."""
    assert getattr(await failure(DeliveryError("no", **{claim: True})), claim) is True


async def test_attempt_redacts_a_reason_before_it_is_cut():
    """A secret that is only partly within the maximum length leaves no part of itself behind."""
    error = await failure(DeliveryError("x" * (REASON_CHARS - 10) + SECRET))

    assert error.reason == "x" * (REASON_CHARS - 10) + "****"


async def test_attempt_makes_a_reason_one_short_printable_line():
    """A reason has no line breaks, control characters or surrogates, and a maximum length."""
    error = await failure(DeliveryError("cannot\nwrite\x1b to \udcff" + "x" * 50_000_000))

    assert error.reason.startswith("cannot write to xxx")
    assert len(error.reason) == REASON_CHARS


async def test_attempt_reads_a_retry_after_that_is_text():
    """A sink may pass on the text of a header."""
    assert (await failure(DeliveryError("429", retry_after="30"))).retry_after == 30.0


@pytest.mark.parametrize("pause", [math.nan, math.inf, "soon", object()])
async def test_attempt_ignores_a_retry_after_that_is_no_time(pause):
    """A pause that is not a finite number of seconds counts as none."""
    assert (await failure(DeliveryError("429", retry_after=pause))).retry_after is None


class HalfMadeError(DeliveryError):
    """An error that forgot to set its fields."""

    def __init__(self) -> None:
        """Set nothing."""


@pytest.mark.parametrize(
    ("trouble", "name"),
    [
        (KeyError(SECRET), "KeyError"),
        (ExceptionGroup("x", [OSError()]), "ExceptionGroup"),
        (SystemExit(1), "SystemExit"),
        (HalfMadeError(), "AttributeError"),
    ],
)
async def test_attempt_contains_a_bug_of_the_sink(trouble, name):
    """A bug becomes a failure that names its type alone, with its traceback in the log."""
    with capture_logs() as lines:
        error = await failure(trouble)

    assert error.reason == f"the sink raised {name}"
    assert [(line["event"], line["sink"]) for line in lines] == [("sink.crashed", "webhook")]


async def test_attempt_has_a_time_limit():
    """A sink that never finishes is cut off after 90 seconds, and this is no crash."""
    with capture_logs() as lines:
        error = await failure(lambda _: anyio.sleep_forever())

    assert anyio.current_time() == pytest.approx(SEND_TIMEOUT)
    assert error.reason == "the sink did not finish within 90 s"
    assert lines == []


async def test_attempt_contains_a_cancellation_of_the_sink():
    """A sink that cancels itself has failed, and its worker goes on."""

    async def cancel_itself(_: object) -> None:
        raise asyncio.CancelledError

    assert (await failure(cancel_itself)).reason == "the sink cancelled itself"


async def hang_until(released: anyio.Event) -> None:
    """Hang as a call in a thread does, which no cancellation ends."""
    with anyio.CancelScope(shield=True):
        await released.wait()


async def test_attempt_that_ignores_its_cancellation_is_waited_for():
    """A call that hangs is reported after 90 seconds; what it does in the end counts."""
    released, sink = anyio.Event(), TimedSink()
    sink.failure = lambda _: hang_until(released)
    asyncio.get_running_loop().call_later(1_000.0, released.set)
    with capture_logs() as lines:
        error = await attempt(sink, DELIVERY, secrets=tuple)

    assert anyio.current_time() == pytest.approx(1_000.0)
    assert error is None
    assert [(line["event"], line["sink"]) for line in lines] == [("sink.hung", "webhook")]


async def test_attempt_that_is_cancelled_leaves_a_hanging_call_behind():
    """A stop of the daemon does not wait for a sink that hangs."""
    with anyio.move_on_after(5.0):
        await failure(lambda _: hang_until(anyio.Event()))

    assert anyio.current_time() <= 5.0 + CANCEL_TIMEOUT


async def test_attempt_of_a_test_event_leaves_a_hanging_call_behind():
    """Whoever tests a sink that hangs is told so, and does not wait for it."""
    sink = TimedSink()
    sink.failure = lambda _: hang_until(anyio.Event())

    error = await attempt_test(sink, DELIVERY, secrets=tuple)

    assert error
    assert error.reason == "the sink did not finish within 90 s"
    assert anyio.current_time() <= SEND_TIMEOUT + 2 * CANCEL_TIMEOUT


async def test_attempt_cancels_a_call_that_goes_on_a_few_times():
    """A sink that catches its cancellation and goes on is cancelled a few times, and left alone.

    Without an end it would be cancelled in each turn of the event loop, at the cost of a core.
    """
    cancellations = 0

    async def go_on(_: object) -> None:
        nonlocal cancellations
        while anyio.current_time() < 1_000.0:
            try:
                await asyncio.sleep(1_000.0)
            except asyncio.CancelledError:
                cancellations += 1
                assert cancellations <= 100

    sink = TimedSink()
    sink.failure = go_on
    with capture_logs() as lines:
        error = await attempt(sink, DELIVERY, secrets=tuple)

    assert error is None
    assert 1 <= cancellations <= CANCEL_TURNS + 1
    assert [(line["event"], line["sink"]) for line in lines] == [("sink.hung", "webhook")]


async def test_attempt_lets_a_sink_clean_up():
    """A sink whose call is cancelled has a second to clean up."""
    cleaned: list[float] = []

    async def hang(_: object) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(0.5)
                cleaned.append(anyio.current_time())

    error = await failure(hang)

    assert error.reason == "the sink did not finish within 90 s"
    assert cleaned == [pytest.approx(SEND_TIMEOUT + 0.5)]

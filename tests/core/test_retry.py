"""Retry delays, and the circuit breaker of a sink."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.circuit_breaker import FAILURE_THRESHOLD, CircuitBreaker
from poller.core.errors import DeliveryError
from poller.core.retry import MAX_DELIVERY_AGE, MAX_FAILURE_GAP, RETRY_AFTER_CAP, retry_delay
from poller.delivery.attempt import SEND_TIMEOUT
from poller.settings.types import MAX_RETRY_DELAY

NOW = 1_705_320_000.0
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
FAULT = DeliveryError("trouble")
AWAY = DeliveryError("404", is_sink_fault=False, is_suspect=True)
WIDTH = 16

shares = st.floats(0.0, 1.0, exclude_max=True)
pauses = st.none() | st.floats(0.0, 10 * DAY)


def rate_limited(pause: float | None) -> DeliveryError:
    """Return a failure with a Retry-After."""
    return DeliveryError("later", retry_after=pause)


def open_breaker(probes: int = 0) -> tuple[CircuitBreaker, float]:
    """Return an open breaker after this many failed probes, and the time."""
    breaker, now = CircuitBreaker(WIDTH), NOW
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure(now, FAULT, is_probe=False)
    for _ in range(probes):
        now += breaker.delay(now, 0)
        breaker.record_failure(now, FAULT, is_probe=True)
    return breaker, now


# Retry delays.


def test_longest_delay_counts_as_failing():
    """Whatever the delays are, the time between two attempts counts as one of failures."""
    longest = retry_delay(1, FAULT, lambda: 1.0, (MAX_RETRY_DELAY,))

    assert max(longest, RETRY_AFTER_CAP) + SEND_TIMEOUT < MAX_FAILURE_GAP


@pytest.mark.parametrize(
    ("failures", "delay"),
    [
        (1, 5.0),
        (2, 30.0),
        (3, 2 * MINUTE),
        (4, 5 * MINUTE),
        (5, 15 * MINUTE),
        (6, HOUR),
        (7, 2 * HOUR),
        (8, 4 * HOUR),
        (9, 6 * HOUR),
        (10, 6 * HOUR),
        (1_000, 6 * HOUR),
    ],
)
def test_retry_delays(failures: int, delay: float):
    """Delays grow from five seconds to six hours, and stay there."""
    assert retry_delay(failures, FAULT, lambda: 0.0) == delay


def test_max_delivery_age():
    """A delivery is retried for seven days."""
    assert MAX_DELIVERY_AGE == 7 * DAY


@pytest.mark.parametrize(
    ("pause", "delay"), [(None, 5.0), (0.0, 5.0), (4.0, 5.0), (HOUR, HOUR), (30 * DAY, DAY)]
)
def test_retry_after_extends_a_delay(pause: float | None, delay: float):
    """A Retry-After that is longer than the delay counts, up to a day."""
    assert retry_delay(1, rate_limited(pause), lambda: 0.0) == delay


@given(failures=st.integers(1, 100), share=shares, pause=pauses)
def test_jitter_never_shortens_a_delay(failures: int, share: float, pause: float | None):
    """Jitter never makes a delay shorter than its step, or than the sink's own pause."""
    error = rate_limited(pause)
    minimum = retry_delay(failures, error, lambda: 0.0)

    assert minimum <= retry_delay(failures, error, lambda: share) <= 1.1 * minimum


@given(failures=st.integers(1, 100), share=shares)
def test_retry_delays_never_decrease(failures: int, share: float):
    """A later delay is never shorter than an earlier one with the same jitter."""
    delays = [retry_delay(number, FAULT, lambda: share) for number in (failures, failures + 1)]

    assert delays == sorted(delays)


# The circuit breaker.


def test_closed_breaker_allows_full_width():
    """A healthy sink gets as many deliveries at once as its workers."""
    breaker = CircuitBreaker(WIDTH)

    assert breaker.delay(NOW, WIDTH - 1) == 0.0
    assert breaker.delay(NOW, WIDTH) == float("inf")


def test_breaker_opens_after_five_failures():
    """The fifth consecutive failure opens the breaker, and reports it."""
    breaker = CircuitBreaker(WIDTH)
    opened = [breaker.record_failure(NOW, FAULT, is_probe=False) for _ in range(5)]

    assert opened == [False] * 4 + [True]
    assert breaker.is_open


def test_success_resets_the_failures():
    """Four failures and a success are not five consecutive failures."""
    breaker = CircuitBreaker(WIDTH)
    for _ in range(10):
        for _ in range(FAILURE_THRESHOLD - 1):
            breaker.record_failure(NOW, FAULT, is_probe=False)
        breaker.record_success()

    assert not breaker.is_open


def test_failures_in_flight_are_not_probes():
    """An attempt in flight when the breaker opened neither delays the probes nor opens it again."""
    breaker, now = open_breaker()
    opened = [breaker.record_failure(now + 4.0, FAULT, is_probe=False) for _ in range(WIDTH)]

    assert opened == [False] * WIDTH
    assert breaker.delay(now + 4.0, 0) == 1.0


def test_one_probe_at_a_time():
    """While the breaker is open, a probe waits for all attempts in flight."""
    breaker, now = open_breaker()

    assert breaker.delay(now + HOUR, 1) == float("inf")
    assert breaker.delay(now + HOUR, 0) == 0.0


def test_probe_delays():
    """Probes are sent after 5, 10, 30, 60, 120 and 300 seconds, then every 300 exactly."""
    waits = []
    for probes in range(9):
        breaker, now = open_breaker(probes)
        waits.append(breaker.delay(now, 0))

    assert waits == [5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 300.0, 300.0, 300.0]


@given(probes=st.integers(0, 200), outage=st.floats(0.0, DAY))
def test_recovery_is_detected_within_five_minutes(probes: int, outage: float):
    """However long a sink was down, a probe is never more than 300 seconds away."""
    breaker, now = open_breaker(probes)

    assert breaker.delay(now + outage, 0) <= 300.0


def test_failed_probe_does_not_open_again():
    """A failed probe does not report again that the breaker opened."""
    breaker, now = open_breaker()

    assert not breaker.record_failure(now + 5.0, FAULT, is_probe=True)


def test_half_open():
    """A half-open breaker sends one probe at once; its failure is reported as an opening."""
    breaker = CircuitBreaker(WIDTH)
    breaker.half_open(NOW, was_failing=True)

    assert (breaker.delay(NOW, 0), breaker.delay(NOW, 1)) == (0.0, float("inf"))
    assert breaker.record_failure(NOW, FAULT, is_probe=True)
    assert breaker.delay(NOW, 0) == 5.0


def test_slow_start():
    """After the first success one delivery is sent at a time, then twice as many after each."""
    breaker, now = open_breaker()
    closed = [breaker.record_success() for _ in range(6)]
    widths = [1, 2, 4, 8, 16, 16]

    assert closed == [True] + [False] * 5
    assert not breaker.is_open
    assert breaker.allowed == widths[-1]
    assert breaker.delay(now, 0) == 0.0


@pytest.mark.parametrize(
    ("successes", "allowed"), [(1, 1), (2, 2), (3, 4), (4, 8), (5, 16), (9, 16)]
)
def test_width_of_a_slow_start(successes: int, allowed: int):
    """The width doubles with each success up to the full width."""
    breaker, now = open_breaker()
    for _ in range(successes):
        breaker.record_success()

    assert breaker.delay(now, allowed - 1) == 0.0
    assert breaker.delay(now, allowed) == float("inf")


def test_probe_delays_restart_after_recovery():
    """A sink that recovers and fails again is probed from the shortest delay."""
    breaker, now = open_breaker(probes=6)
    breaker.record_success()
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure(now, FAULT, is_probe=False)

    assert breaker.delay(now, 0) == 5.0


@pytest.mark.parametrize(
    ("pause", "wait"), [(90.0, 90.0), (30 * DAY, DAY), (0.0, 0.0), (None, 0.0)]
)
def test_retry_after_pauses_the_whole_sink(pause: float | None, wait: float):
    """A Retry-After delays all deliveries of the sink, up to a day."""
    breaker = CircuitBreaker(WIDTH)
    breaker.record_failure(NOW, rate_limited(pause), is_probe=False)

    assert breaker.delay(NOW, 0) == wait


def test_shorter_pause_does_not_end_a_longer_one():
    """Of two pauses the later end counts."""
    breaker = CircuitBreaker(WIDTH)
    breaker.record_failure(NOW, rate_limited(90.0), is_probe=False)
    breaker.record_failure(NOW, rate_limited(10.0), is_probe=False)

    assert breaker.delay(NOW, 0) == 90.0


def test_retry_after_of_a_probe():
    """A probe that is answered with a Retry-After is followed by the next one no sooner."""
    breaker, now = open_breaker()
    breaker.record_failure(now, rate_limited(HOUR), is_probe=True)

    assert breaker.delay(now, 0) == HOUR


steps = st.one_of(
    st.tuples(st.just("succeed"), st.none()), st.tuples(st.sampled_from(["fail", "probe"]), pauses)
)


@given(script=st.lists(st.tuples(st.floats(0.0, HOUR), steps), max_size=60))
def test_breaker_never_blocks_for_ever(script):
    """After any history, an idle sink may send within a probe's delay or its own pause."""
    breaker, now, asked_until = CircuitBreaker(WIDTH), NOW, NOW
    for elapsed, (step, pause) in script:
        now += elapsed
        if step == "succeed":
            breaker.record_success()
        else:
            breaker.record_failure(now, rate_limited(pause), is_probe=step == "probe")
            asked_until = max(asked_until, now + min(pause or 0.0, DAY))

    assert breaker.delay(now, 0) <= max(300.0, asked_until - now)
    assert 1 <= breaker.allowed <= WIDTH


@given(outcomes=st.lists(st.booleans(), max_size=60))
def test_breaker_opens_on_consecutive_failures_only(outcomes: list[bool]):
    """The breaker is open exactly if the last outcomes are five failures or more."""
    breaker = CircuitBreaker(WIDTH)
    for is_good in outcomes:
        if is_good:
            breaker.record_success()
        else:
            breaker.record_failure(NOW, FAULT, is_probe=breaker.is_open)
    last_good = max((at for at, is_good in enumerate(outcomes, 1) if is_good), default=0)

    assert breaker.is_open == (len(outcomes) - last_good >= FAILURE_THRESHOLD)


def test_last_probe_delay_is_exact():
    """With the last delay, probes are 300 seconds apart to the second, for days."""
    breaker, now = open_breaker(probes=5)
    times = []
    for _ in range(300):
        now += breaker.delay(now, 0)
        times.append(now)
        breaker.record_failure(now, FAULT, is_probe=True)

    assert {after - before for before, after in pairwise(times)} == {300.0}


def test_suspicious_event_alone_is_retried_as_a_probe():
    """One or two events that point to a wrong endpoint are retried after 300 s at the latest."""
    breaker = CircuitBreaker(WIDTH)

    at_fault = [breaker.is_sink_fault(AWAY, name) for name in ("evt_1", "evt_2", "evt_1")]

    assert at_fault == [False] * 3
    assert breaker.retry_limit(AWAY, "evt_1") == 300.0
    assert breaker.retry_limit(FAULT, "evt_3") == math.inf


def test_suspicious_event_among_others_is_retried_as_any_other():
    """An event that fails so while another one is delivered is at fault itself, until it ends."""
    breaker = CircuitBreaker(WIDTH)
    breaker.is_sink_fault(AWAY, "evt_1")
    breaker.record_success()

    limits = [breaker.retry_limit(AWAY, name) for name in ("evt_1", "evt_2")]
    breaker.forget("evt_1")

    assert limits == [math.inf, 300.0]
    assert breaker.retry_limit(AWAY, "evt_1") == 300.0


def test_retry_limit_shortens_no_pause():
    """A delay ends at its limit, but a Retry-After counts whole."""
    assert retry_delay(9, FAULT, lambda: 0.0, limit=300.0) == 300.0
    assert retry_delay(9, rate_limited(HOUR), lambda: 0.0, limit=300.0) == HOUR

"""When a delivery is sent again, and when its sink is spared."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.errors import DeliveryError
from poller.core.retry import FAILURE_THRESHOLD, MAX_DELIVERY_AGE, CircuitBreaker, retry_delay

NOW = 1_705_320_000.0
MINUTE, HOUR, DAY = 60.0, 3_600.0, 86_400.0
FAULT = DeliveryError("trouble")
WIDTH = 16

shares = st.floats(0.0, 1.0, exclude_max=True)
pauses = st.none() | st.floats(0.0, 10 * DAY)


def asking(pause: float | None) -> DeliveryError:
    """Give a failure with a Retry-After."""
    return DeliveryError("later", retry_after=pause)


def an_open_breaker(rungs: int = 0) -> tuple[CircuitBreaker, float]:
    """Give a breaker that has opened and failed so many probes, and the time by then."""
    breaker, now = CircuitBreaker(WIDTH), NOW
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure(now, FAULT, is_probe=False)
    for _ in range(rungs):
        now += breaker.delay(now, 0)
        breaker.record_failure(now, FAULT, is_probe=True)
    return breaker, now


# The ladder.


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
def test_ladder(failures: int, delay: float):
    """Waits grow from five seconds to six hours, and stay there."""
    assert retry_delay(failures, FAULT, lambda: 0.0) == delay


def test_lifetime():
    """A delivery is tried for seven days."""
    assert MAX_DELIVERY_AGE == 7 * DAY


@pytest.mark.parametrize(
    ("pause", "delay"), [(None, 5.0), (0.0, 5.0), (4.0, 5.0), (HOUR, HOUR), (30 * DAY, DAY)]
)
def test_pause_that_a_sink_asks_for(pause: float | None, delay: float):
    """A Retry-After that is longer than the step counts, up to a day."""
    assert retry_delay(1, asking(pause), lambda: 0.0) == delay


@given(failures=st.integers(1, 100), share=shares, pause=pauses)
def test_jitter_is_only_upward(failures: int, share: float, pause: float | None):
    """No jitter ever makes a wait shorter than its step, or than what was asked for."""
    error = asking(pause)
    least = retry_delay(failures, error, lambda: 0.0)

    assert least <= retry_delay(failures, error, lambda: share) <= 1.1 * least


@given(failures=st.integers(1, 100), share=shares)
def test_ladder_never_goes_down(failures: int, share: float):
    """A later wait is never shorter than an earlier one with as much jitter."""
    delays = [retry_delay(it, FAULT, lambda: share) for it in (failures, failures + 1)]

    assert delays == sorted(delays)


# The breaker.


def test_full_width():
    """A healthy sink gets as many deliveries at once as the lane is wide."""
    breaker = CircuitBreaker(WIDTH)

    assert breaker.delay(NOW, WIDTH - 1) == 0.0
    assert breaker.delay(NOW, WIDTH) == float("inf")


def test_five_failures_in_a_row_open_it():
    """The fifth failure in a row opens the breaker, and says so."""
    breaker = CircuitBreaker(WIDTH)
    opened = [breaker.record_failure(NOW, FAULT, is_probe=False) for _ in range(5)]

    assert opened == [False] * 4 + [True]
    assert breaker.is_open


def test_success_between_failures():
    """Four failures and a success are no row of five."""
    breaker = CircuitBreaker(WIDTH)
    for _ in range(10):
        for _ in range(FAILURE_THRESHOLD - 1):
            breaker.record_failure(NOW, FAULT, is_probe=False)
        breaker.record_success()

    assert not breaker.is_open


def test_failures_that_were_under_way_do_not_count_as_probes():
    """What was under way when the breaker opened neither climbs the ladder nor says it opened."""
    breaker, now = an_open_breaker()
    opened = [breaker.record_failure(now + 4.0, FAULT, is_probe=False) for _ in range(WIDTH)]

    assert opened == [False] * WIDTH
    assert breaker.delay(now + 4.0, 0) == 1.0


def test_one_probe_at_a_time():
    """While it is open, a probe waits for everything that is under way."""
    breaker, now = an_open_breaker()

    assert breaker.delay(now + HOUR, 1) == float("inf")
    assert breaker.delay(now + HOUR, 0) == 0.0


def test_probes():
    """Probes go after 5, 10, 30, 60, 120 and 300 seconds, then every 300 exactly."""
    waits = []
    for rungs in range(9):
        breaker, now = an_open_breaker(rungs)
        waits.append(breaker.delay(now, 0))

    assert waits == [5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 300.0, 300.0, 300.0]


@given(rungs=st.integers(0, 200), outage=st.floats(0.0, DAY))
def test_return_is_noticed_within_five_minutes(rungs: int, outage: float):
    """However long a sink was away, a probe is never more than 300 seconds off."""
    breaker, now = an_open_breaker(rungs)

    assert breaker.delay(now + outage, 0) <= 300.0


def test_failed_probe_is_no_second_opening():
    """A failed probe does not tell once more that the breaker opened."""
    breaker, now = an_open_breaker()

    assert not breaker.record_failure(now + 5.0, FAULT, is_probe=True)


def test_doubt():
    """A sink that is in doubt gets one probe at once; what fails it is told as an outage."""
    breaker = CircuitBreaker(WIDTH)
    breaker.half_open(NOW)

    assert (breaker.delay(NOW, 0), breaker.delay(NOW, 1)) == (0.0, float("inf"))
    assert breaker.record_failure(NOW, FAULT, is_probe=True)
    assert breaker.delay(NOW, 0) == 5.0


def test_slow_start():
    """After the first success one delivery goes at a time, then twice as many after each."""
    breaker, now = an_open_breaker()
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
    """The width doubles with each success up to the whole."""
    breaker, now = an_open_breaker()
    for _ in range(successes):
        breaker.record_success()

    assert breaker.delay(now, allowed - 1) == 0.0
    assert breaker.delay(now, allowed) == float("inf")


def test_ladder_of_probes_begins_anew():
    """A sink that comes back and goes again is probed from the beginning of the ladder."""
    breaker, now = an_open_breaker(rungs=6)
    breaker.record_success()
    for _ in range(FAILURE_THRESHOLD):
        breaker.record_failure(now, FAULT, is_probe=False)

    assert breaker.delay(now, 0) == 5.0


@pytest.mark.parametrize(
    ("pause", "wait"), [(90.0, 90.0), (30 * DAY, DAY), (0.0, 0.0), (None, 0.0)]
)
def test_pause_holds_the_whole_sink(pause: float | None, wait: float):
    """A Retry-After holds back all deliveries of the sink, up to a day."""
    breaker = CircuitBreaker(WIDTH)
    breaker.record_failure(NOW, asking(pause), is_probe=False)

    assert breaker.delay(NOW, 0) == wait


def test_shorter_pause_does_not_cut_a_longer_one():
    """Of two pauses the later end counts."""
    breaker = CircuitBreaker(WIDTH)
    breaker.record_failure(NOW, asking(90.0), is_probe=False)
    breaker.record_failure(NOW, asking(10.0), is_probe=False)

    assert breaker.delay(NOW, 0) == 90.0


def test_pause_of_a_probe():
    """A probe that is asked to wait is followed by the next one no sooner than asked."""
    breaker, now = an_open_breaker()
    breaker.record_failure(now, asking(HOUR), is_probe=True)

    assert breaker.delay(now, 0) == HOUR


steps = st.one_of(
    st.tuples(st.just("succeed"), st.none()), st.tuples(st.sampled_from(["fail", "probe"]), pauses)
)


@given(script=st.lists(st.tuples(st.floats(0.0, HOUR), steps), max_size=60))
def test_breaker_never_stands_still(script):
    """Whatever happened, an idle lane may send within a probe's wait or what was asked for."""
    breaker, now, asked_until = CircuitBreaker(WIDTH), NOW, NOW
    for elapsed, (step, pause) in script:
        now += elapsed
        if step == "succeed":
            breaker.record_success()
        else:
            breaker.record_failure(now, asking(pause), is_probe=step == "probe")
            asked_until = max(asked_until, now + min(pause or 0.0, DAY))

    assert breaker.delay(now, 0) <= max(300.0, asked_until - now)
    assert 1 <= breaker.allowed <= WIDTH


@given(outcomes=st.lists(st.booleans(), max_size=60))
def test_breaker_opens_by_a_row_alone(outcomes: list[bool]):
    """The breaker is open exactly when the last outcomes are a row of five failures or more."""
    breaker = CircuitBreaker(WIDTH)
    for is_good in outcomes:
        if is_good:
            breaker.record_success()
        else:
            breaker.record_failure(NOW, FAULT, is_probe=breaker.is_open)
    last_good = max((at for at, is_good in enumerate(outcomes, 1) if is_good), default=0)

    assert breaker.is_open == (len(outcomes) - last_good >= FAILURE_THRESHOLD)


def test_probes_are_exact():
    """On the last rung, probes are 300 seconds apart to the second, for days."""
    breaker, now = an_open_breaker(rungs=5)
    times = []
    for _ in range(300):
        now += breaker.delay(now, 0)
        times.append(now)
        breaker.record_failure(now, FAULT, is_probe=True)

    assert {after - before for before, after in pairwise(times)} == {300.0}

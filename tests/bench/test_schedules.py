"""The simulated schedules, compared with sums by hand, the daemon itself and the targets."""

from collections import Counter
from random import Random

import anyio
import pytest

from poller.core.pacing import PollPolicy
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.bench.rules import (
    FIXED,
    OURS,
    Timeline,
    Watched,
    airflow_aws_batch,
    fixed,
    google_api_core,
    sutro_poller,
)
from tests.bench.schedules import (
    WORKLOADS,
    Figures,
    Scores,
    compare,
    losses,
    measure,
    report,
    sample,
    score,
)
from tests.support.running_app import KEY, Receiver, an_app, running_app, served
from tests.support.virtual_time import virtual_clock


class Middle(Random):
    """Draws the middle of everything."""

    def random(self) -> float:
        """Draw a half."""
        return 0.5


BY_HAND = [
    # At 0, sqrt(240) and, once the job was observed running, sqrt(15.492 - 5 + 60) later.
    (sutro_poller, Timeline(5.0, 23.0), Watched(3, 0.888)),
    # The same without a start, by its age since creation: sqrt(15.492 + 240) later.
    (sutro_poller, Timeline(31.0, 31.1), Watched(3, 0.376)),
    # At 0, 10, 20, 30.
    (fixed, Timeline(5.0, 25.0), Watched(4, 5.0)),
    # At 0, 0.5, 1.25, 2.375: half of 1, of 1.5 and of 2.25.
    (google_api_core, Timeline(0.0, 2.0), Watched(4, 0.375)),
    # At 11 it runs or has ended; the end is requested at 16.5 alone.
    (airflow_aws_batch, Timeline(0.0, 5.0), Watched(2, 11.5)),
    # Then after the middle of 0 and 1.907, for 0.907 is the middle of 1.36 / 3 and 1.36.
    (airflow_aws_batch, Timeline(0.0, 17.0), Watched(3, 0.453)),
]


@pytest.mark.parametrize(("watch", "timeline", "expected"), BY_HAND)
def test_rules_by_hand(watch, timeline, expected):
    """Each rule polls when its source says, if every draw is the middle."""
    factors = {fixed: 10.0, sutro_poller: 1.0 / PollPolicy().factor}
    watched = watch(timeline, Middle(), factors.get(watch, 1.0))

    assert watched.requests == expected.requests
    assert watched.lag == pytest.approx(expected.lag, abs=1e-3)


def test_fixed_interval_has_the_expected_mean():
    """Ten seconds are five of lag on average, a poll for each of them and one more."""
    timelines = sample(WORKLOADS["uniform"])
    mean = sum(timeline.ended for timeline in timelines) / len(timelines)
    figures = measure(FIXED, timelines, 10.0)
    scores = score(timelines, figures)

    assert figures.mean == pytest.approx(5.0, rel=0.03)
    assert figures.p99 == pytest.approx(9.9, rel=0.01)
    assert figures.requests == pytest.approx(1.5 + mean / 10.0, rel=0.01)
    assert (scores.mean, scores.median, scores.p99) == pytest.approx((1.0, 1.0, 1.0), rel=0.03)


def test_score_by_hand():
    """An interval of 10 s has 5 s of lag, and polls four times in half a minute."""
    used = Figures(requests=2.0, mean=5.0, median=2.5, p95=9.5, p99=29.7, longest=30.0)

    scores = score([Timeline(0.0, 20.0), Timeline(0.0, 40.0)], used)

    assert scores == Scores(mean=2.0, median=3.5, p99=1.0)


@pytest.mark.parametrize("seed", range(2))
def test_score_on_llm_batches(seed):
    """A fixed interval needs 1.55 times the requests for the mean lag, 2.4 for the median."""
    timelines = sample(WORKLOADS["LLM batches"], jobs=1_000, seed=seed)
    scores = score(timelines, measure(OURS, timelines))

    assert scores.mean >= 1.55
    assert scores.median >= 2.4


def test_report_shows_the_worst_case():
    """The report shows the worst case of our rule, evenly spread lengths, at equal requests."""
    timelines = sample(WORKLOADS["uniform"], jobs=150)
    measured = list(compare("uniform", timelines))
    ours, scaled = measured[0], [row for row in measured if row.is_scaled]
    lost = {loss.lag for loss in losses(measured) if loss.rule == scaled[0].rule}
    means = (
        f"{scaled[0].rule}: mean {scaled[0].figures.mean:.1f} s against {ours.figures.mean:.1f} s"
    )

    assert 0.5 < ours.scores.mean < 0.8
    for row in scaled:
        assert row.figures.requests == pytest.approx(ours.figures.requests, rel=0.01)
    assert lost == {"mean", "median", "p95", "p99", "longest"}
    assert means in report(measured)


TIMELINES = {
    "short": Timeline(2.0, 20.0),
    "queued": Timeline(900.0, 960.0),
    "long": Timeline(30.0, 1_500.0),
}


@pytest.mark.virtual(limit=2_000.0)
async def test_daemon_polls_as_often_as_the_simulation():
    """The real daemon, polling single jobs, makes the simulated number of requests."""
    api = Simulator(now=virtual_clock().steady, key=KEY)
    for job_id, timeline in TIMELINES.items():
        run = timeline.ended - timeline.started
        api.add(JobScript(job_id=job_id, queue_seconds=timeline.started, run_seconds=run))
    listing = {"POLLER_LIST_PAGES": "off", "POLLER_JOB_IDS": ",".join(TIMELINES)}
    receiver = Receiver()
    async with (
        serve(api) as url,
        served(receiver.take) as hook,
        running_app(an_app(url + "/v1", hook, **listing)),
    ):
        await anyio.sleep(1_600.0)

    polls = Counter(entry.path.rpartition("/")[2] for entry in api.log)
    assert len(receiver.got) == len(TIMELINES)
    for job_id, timeline in TIMELINES.items():
        simulated = sutro_poller(timeline, Middle(), 1.0)
        assert polls[job_id] == pytest.approx(simulated.requests, rel=0.03, abs=1)

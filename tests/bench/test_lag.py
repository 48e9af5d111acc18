"""The lag and the requests of all rules: by hand, repeatable, and drawn so that it can be read."""

import re
from itertools import combinations
from xml.etree import ElementTree as ET

import pytest

from tests.bench import faults, lag, lag_chart, results, schedules
from tests.bench.lag import Submitted
from tests.bench.rules import Timeline
from tests.bench.virtual_api import VirtualApi
from tests.bench.virtual_daemon import run_virtually

FEW = 15


@pytest.fixture(scope="module")
def measured():
    """Return the figures of few jobs."""
    return lag.measure(FEW, loads=(5, 10), factors=(0.6, 2.0))


def test_jobs_arrive_so_that_the_given_number_is_active():
    """The sum of all lengths is the number of active jobs times the time in which they arrive."""
    jobs = lag.arrivals(10, jobs=2_000)

    total = sum(job.timeline.ended for job in jobs)
    assert total / jobs[-1].at == pytest.approx(10.0, rel=0.1)


def test_pages_by_hand():
    """A page is polled while it shows an active job: one at 5 s, two at 10 s, one at 30 s."""
    short, long = Timeline(0.0, 4.0), Timeline(0.0, 9.0)
    first, others = Submitted(1.0, long), [Submitted(6.0, short)] * 100
    last = Submitted(26.0, short)

    figures = lag.list_pages([first, *others, last], 5.0)

    # At 10 s, the oldest of 101 jobs is on the second page.
    assert figures.requests == pytest.approx((1 + 2 + 1) / 102)
    assert figures.longest == 0.0


def test_pages_have_the_lag_of_the_interval():
    """An end is detected at the next multiple of the interval."""
    figures = lag.list_pages([Submitted(1.0, Timeline(0.0, 2.5))] * 2, 5.0)

    assert figures.mean == 1.5


def test_daemon_is_measured_alike_in_every_run(measured):
    """The same seed gives the same figures."""
    assert lag.sutro_poller(lag.arrivals(10, FEW)) == measured.rules[lag.OURS][10]


def test_daemon_detects_ends_soon_with_few_requests(measured):
    """Every lag is at most the longest interval, with a fifth of the requests of the SDK's loop."""
    ours, theirs = measured.rules[lag.OURS][10], measured.rules[lag.SDK][10]

    assert ours.requests * 5.0 < theirs.requests
    assert theirs.longest <= 5.0
    assert ours.longest <= 330.0


def test_larger_factor_needs_fewer_requests(measured):
    """`POLLER_INTERVAL_FACTOR` exchanges requests for lag."""
    low, high = measured.factors[0.6], measured.factors[2.0]

    assert high.requests < low.requests
    assert high.mean > low.mean


def test_each_limit_has_a_row():
    """A figure that misses its limit is named."""
    poor = schedules.summarize(100.0, [9.0, 9.0])
    loads = dict.fromkeys(lag.LIMITS, poor)
    missed = lag.Measured(rules={lag.OURS: loads, lag.SDK: loads}, factors={})

    rows = [row for active in lag.LIMITS for row in lag._rows(missed, active)]

    assert len(rows) == 9
    assert "**no**" in str(rows[0])
    assert rows[2].is_reached is False


# The API in virtual time.


async def _read_list():
    at = 0.0
    api = VirtualApi(lambda: at)
    for _ in range(3):
        api.add(Timeline(0.0, 10.0), is_stuck=True)
    at = 20.0
    pages = []
    for query in ("limit=2", "limit=2&cursor=1"):
        response = await api.request("GET", f"https://x/v1/list-jobs?{query}", headers={}, cap=1)
        pages.append(response.body.decode())
    job = await api.request("GET", "https://x/v1/jobs/job-1", headers={}, cap=1)
    return pages, job.body.decode()


def test_stuck_rows_stay_while_a_get_shows_the_end():
    """Pages are newest first, and a stuck row never shows the end that a GET shows."""
    pages, job = run_virtually(_read_list)

    assert [re.findall(r'"(job-\d)", "status": "(\w+)"', page) for page in pages] == [
        [("job-3", "RUNNING"), ("job-2", "RUNNING")],
        [("job-1", "RUNNING")],
    ]
    assert '"next_cursor": "1"' in pages[0]
    assert '"next_cursor": null' in pages[1]
    assert '"status": "SUCCEEDED"' in job


@pytest.mark.parametrize("jobs", [1, 10])
def test_outage_costs_no_more_requests(jobs):
    """While each request fails, the daemon sends at most 1.1 times the usual number."""
    healthy = run_virtually(faults.requests, jobs, None)
    for outage in faults.OUTAGES.values():
        assert 0 < run_virtually(faults.requests, jobs, outage) <= 1.1 * healthy


def test_one_stale_row_hides_no_end():
    """An end that the list never shows is detected within ten minutes."""
    assert 0.0 < faults.longest_lag(faults.STALE_ROWS[0]) <= faults.CONFIRM_SECONDS


# The chart and the file.


def test_chart_is_readable(measured):
    """All texts are in the picture and none overlaps another; each rule is in the legend."""
    lines = lag.lines(measured)

    root = ET.fromstring(lag_chart.draw(lines))

    texts = [(element.text, _box(element)) for element in root.iter() if element.tag[-4:] == "text"]
    width, height = map(float, root.get("viewBox").split()[2:])
    assert {line.name for line in lines} <= {text for text, _ in texts}
    for _, box in texts:
        assert box.left >= 0.0
        assert box.right <= width
        assert box.bottom <= height
    for (one, box), (other, another) in combinations(texts, 2):
        assert not box.overlaps(another), (one, other)


def _box(element):
    text, left = element.text, float(element.get("x"))
    shift = {"start": 0.0, "middle": 0.5, "end": 1.0}[element.get("text-anchor")]
    left -= shift * len(text) * lag_chart.CHARACTER_WIDTH
    return lag_chart.text_box(left, float(element.get("y")), text)


def test_chapter_replaces_its_earlier_results(monkeypatch, tmp_path):
    """A chapter that is measured again takes the place of its earlier figures; others stay.

    The figures that miss their goal come first.
    """
    monkeypatch.setattr(results, "RESULTS", tmp_path / "RESULTS.md")
    results.start("make bench")
    for title, figure in [("A", "1"), ("B", "2"), ("A", "3")]:
        row = results.Row(what="x", figure=figure, to_reach="3", is_reached=figure == "3")
        results.write(results.Chapter(title, "How.", [row]))

    text = results.RESULTS.read_text()

    assert re.findall(r"^(?:## |\|)(.*)", text.partition("## ")[2], re.MULTILINE)[2:] == [
        " B: x | 2 | 3 | **no** |",
        "A",
        " what | figure | to reach | reached |",
        "---|---|---|---|",
        " x | 3 | 3 | yes |",
        "B",
        " what | figure | to reach | reached |",
        "---|---|---|---|",
        " x | 2 | 3 | **no** |",
    ]
    assert text.startswith("# What the benchmark measured\n")
    assert text.count("\nMeasured on ") == 2

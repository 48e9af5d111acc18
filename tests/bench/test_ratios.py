"""The ratios of the benchmark that hold on any machine, with some tolerance."""

from statistics import median

import pytest

from tests.bench import pages, polls
from tests.bench.processes import Server
from tests.bench.race import Race, on_one_core, ratios

SHORT = Race(rounds=1, turns=5, seconds=0.3)
FEW, MANY = 100, 2_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def per_cpu_second():
    """Return what each program did per CPU second, turn by turn: polls, or jobs on pages."""
    with on_one_core(), Server.serving(MANY) as server:
        runners = polls.ours(server, "http", polls.USUAL)
        runners |= {f"pages of {jobs}": pages.runner(server, jobs, MANY) for jobs in (FEW, MANY)}
        return SHORT.run(server, runners)


def test_poll_costs_at_most_five_bare_polls(per_cpu_second):
    """A poll of the daemon costs at most four bare requests more than a bare one."""
    assert median(ratios(per_cpu_second["daemon"], per_cpu_second["status"])) >= 0.2


def test_job_on_a_page_is_cheaper_than_a_poll(per_cpu_second):
    """A job on a page costs at most a quarter of one that is polled alone."""
    assert median(ratios(per_cpu_second[f"pages of {FEW}"], per_cpu_second["daemon"])) >= 4.0


def test_cost_is_linear_in_pages(per_cpu_second):
    """A job on one of twenty pages costs at most twice as much as one on a single page."""
    assert (
        median(ratios(per_cpu_second[f"pages of {FEW}"], per_cpu_second[f"pages of {MANY}"])) <= 2.0
    )

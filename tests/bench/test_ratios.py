"""The ratios of the benchmark that hold on any machine, with room for noise."""

from statistics import median

import pytest

from tests.bench import pages, polls
from tests.bench.processes import Server
from tests.bench.race import Race, on_one_core, ratios

SHORT = Race(rounds=1, turns=5, seconds=0.3)
FEW, MANY = 100, 2_000

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def done():
    """Give what each did per CPU second, turn by turn: polls, or jobs seen on pages."""
    with on_one_core(), Server.serving(MANY) as server:
        runners = polls.ours(server, "http", polls.USUAL)
        runners |= {f"pages of {it}": pages.runner(server, it, MANY) for it in (FEW, MANY)}
        return SHORT.run(server, runners)


def test_a_poll_against_a_bare_loop(done):
    """All that the daemon does for a poll costs at most three bare requests more."""
    assert median(ratios(done["daemon"], done["status"])) >= 0.25


def test_a_page_against_polls(done):
    """A job that is seen on a page costs at most a quarter of one that is asked for alone."""
    assert median(ratios(done[f"pages of {FEW}"], done["daemon"])) >= 4.0


def test_cost_is_linear_in_pages(done):
    """A job on one of twenty pages costs at most twice what it costs where there is one page."""
    assert median(ratios(done[f"pages of {FEW}"], done[f"pages of {MANY}"])) <= 2.0

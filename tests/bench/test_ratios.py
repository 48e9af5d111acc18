"""The ratios of the benchmark that must hold on any machine, with room for noise."""

from functools import partial
from statistics import median

import pytest

from tests.bench import pages, polls
from tests.bench.processes import Server
from tests.bench.race import Race, on_one_core, ratios

SHORT = Race(rounds=1, turns=5, seconds=0.4)
LONG_LIST = 2_000


@pytest.fixture(scope="module")
def seen():
    """Give what each did per CPU second, turn by turn, on one server with a long list."""
    with on_one_core(), Server.serving(LONG_LIST) as server:
        runners = polls.ours(server, "http", polls.USUAL)
        runners |= {
            f"pages of {it}": pages.runner(server, it, of=LONG_LIST) for it in (100, LONG_LIST)
        }
        return SHORT.run(server, runners)


def test_a_poll_against_a_bare_loop(seen):
    """A poll through the whole pipeline costs no more than ... bare requests."""
    assert median(ratios(seen["daemon"], seen["status"])) >= 0.2


def test_a_job_on_a_page_against_a_poll(seen):
    """A job that is seen on a page costs a small part of one that is asked for alone."""
    assert median(ratios(seen["pages of 100"], seen["daemon"])) >= 4.0


def test_cost_is_linear_in_pages(seen):
    """A page costs the same, whether it is one of one or one of twenty."""
    assert median(ratios(seen["pages of 100"], seen[f"pages of {LONG_LIST}"])) <= 2.0

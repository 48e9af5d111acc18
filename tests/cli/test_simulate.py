"""The options of `simulate` become the faults of its job list."""

import argparse

import pytest

from poller.cli import simulate
from poller.sutro.simulator.server import Simulator

ENDED = 1_000.0
"""Seconds after which every job has ended."""


def simulated(*options: str) -> Simulator:
    """Return the simulator of a command line."""
    parser = argparse.ArgumentParser()
    simulate.add_arguments(parser)
    return simulate.build(parser.parse_args(options))


def rows_later(simulator: Simulator) -> list[str]:
    """Return the statuses of the list's rows once all jobs have ended, the oldest first."""
    jobs, now = simulator.page(None, None), simulator.now() + ENDED
    return [job.as_row(now, delay=simulator.list_delay)["status"] for job in reversed(jobs)]


def test_list_is_up_to_date_by_default():
    """Without an option each row shows its job as it is."""
    assert rows_later(simulated("--jobs", "3")) == ["SUCCEEDED", "FAILED", "SUCCEEDED"]


def test_list_delay_concerns_all_rows():
    """With --list-delay every row shows what was so long ago; units are allowed."""
    assert rows_later(simulated("--jobs", "3", "--list-delay", "1h")) == ["QUEUED"] * 3
    assert rows_later(simulated("--jobs", "3", "--list-delay", "10"))[0] == "SUCCEEDED"


def test_stuck_row_concerns_so_many_jobs():
    """With --stuck-row 2 the rows of the first two jobs never change."""
    rows = rows_later(simulated("--jobs", "3", "--stuck-row", "2"))

    assert rows == ["QUEUED", "QUEUED", "SUCCEEDED"]


@pytest.mark.parametrize(
    "options", [("--list-delay", "soon"), ("--list-delay", "-1"), ("--stuck-row", "0.5")]
)
def test_bad_value_is_a_usage_error(options: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    """A delay that is no duration, and a part of a job, end with exit code 2."""
    with pytest.raises(SystemExit) as ended:
        simulated(*options)

    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err

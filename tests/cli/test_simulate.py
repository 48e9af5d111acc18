"""The options of `simulate` become its jobs, its faults and what it prints."""

import argparse
import re
import subprocess

import pytest

from poller.cli import simulate
from poller.cli.simulate import READY, variables
from poller.core.errors import ConfigError
from poller.sutro.simulator.faults import Fault
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


def test_jobs_are_made_up_unless_some_are_chosen():
    """Six jobs are made up by default, and none with --job, --submission or --jobs 0."""
    counts = [
        len(simulated(*options.split()).job_ids)
        for options in (
            "",
            "--job rows=1",
            "--submission rows=1",
            "--jobs 0",
            "--jobs 2 --job rows=1 --job rows=2",
        )
    ]

    assert counts == [6, 1, 0, 0, 4]


def test_job_has_the_chosen_fields():
    """With --job the values become those of the script, and a value in braces is JSON."""
    row = 'row={"status": null}'
    simulator = simulated("--job", "job_id=a", "run_seconds=3", "failure=No, really", row)

    job = simulator.find("a")
    assert job
    assert (job.script.run_seconds, job.script.failure) == (3.0, "No, really")
    assert job.script.row == {"status": None}


def test_chosen_job_without_an_id_has_one_of_this_start():
    """A job whose ID is not chosen has one that no earlier start has given."""
    ids = [*simulated("--job", "rows=1").job_ids, *simulated("--job", "rows=1").job_ids]

    assert all(re.fullmatch("job-1-[0-9a-f]{4}", job_id) for job_id in ids)


def test_submissions_take_turns():
    """Each --submission has a turn, and then the first again."""
    simulator = simulated("--submission", "ends_as=failed", "--submission", "cost=2")

    taken = [simulator.take_submission() for _ in range(3)]

    assert taken == [{"ends_as": "failed"}, {"cost": "2"}, {"ends_as": "failed"}]


def test_fault_is_there_from_the_start():
    """With --fault the first requests fail, those about one job if it is named."""
    simulator = simulated("--fault", "status=503", "count=2", "--fault", "status=403", "job_id=a")

    taken = [simulator.take_fault("jobs", "b") for _ in range(3)]

    assert [fault and fault.status for fault in taken] == [503, 503, None]
    assert simulator.faults == [Fault(status=403, job_id="a")]


def test_second_job_with_the_same_id_is_an_error():
    """Two --job with one ID are an error that names the ID."""
    with pytest.raises(ConfigError, match="there is a job with ID a already"):
        simulated("--job", "job_id=a", "--job", "job_id=a")


def test_variables_are_safe_to_paste():
    """Each line sets one variable in a shell, whatever the key is."""
    lines = variables(simulated("--key", "$(touch it) 'x", "--jobs", "0"), "http://127.0.0.1:1")

    script = "\n".join([*lines, READY, 'printf %s "$SUTRO_API_KEY"'])
    shell = subprocess.run(["sh", "-c", script], capture_output=True, check=True, text=True)
    assert shell.stdout == "$(touch it) 'x"


@pytest.mark.parametrize(
    "options",
    [
        ("--list-delay", "soon"),
        ("--list-delay", "-1"),
        ("--stuck-row", "0.5"),
        ("--jobs", "-1"),
        ("--job", "colour=red"),
        ("--job", "rows"),
        ("--job", "row={"),
        ("--submission", "ends_as=lost"),
        ("--fault", "count=3"),
    ],
)
def test_bad_value_is_a_usage_error(options: tuple[str, str], capsys: pytest.CaptureFixture[str]):
    """A bad value or field ends with exit code 2 and the name of the option."""
    with pytest.raises(SystemExit) as ended:
        simulated(*options)

    assert ended.value.code == 2
    assert options[0] in capsys.readouterr().err

"""Commands that list and change what the database holds."""

import json
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from poller.core.duration_history import MIN_ENDS
from poller.core.job_status import JobStatus
from poller.core.parsing import parse_job
from poller.core.state import JobState, Phase
from tests.cli.conftest import RunCli
from tests.support.builders import a_job_object
from tests.support.store_builders import HOOK, NOON, ManualClock, a_state, an_event

TWO = [an_event("1"), an_event("2", "job-2")]


def ended(job_id: str, **fields) -> JobState:
    """Return the state of a job that has ended."""
    job = parse_job(a_job_object(job_id=job_id, **fields))
    return a_state(job_id, phase=Phase.DONE, status=job.status, job=job)


def test_status_of_a_healthy_database(run_cli: RunCli, seed_store):
    """A database that needs no action makes the exit code 0, also while no daemon runs."""
    seed_store(states=[ended("job-1")])

    result = run_cli("status")

    assert result.code == 0
    assert ["daemon", "not", "running"] in result.lines
    assert ["jobs", "1", "SUCCEEDED"] in result.lines
    assert "API       not known: the daemon is not running\n" in result.out
    assert [HOOK, "enabled", "0", "-", "0"] in result.lines
    assert result.out.endswith("No action needed.\n")


def test_status_shows_pending_events_without_a_daemon(
    run_cli: RunCli, seed_store, now: ManualClock
):
    """Pending events are shown with their age, and need action while no daemon runs."""
    now.now = time.time() - 9_000
    seed_store(events=[an_event()])

    result = run_cli("status")

    assert result.code == 1
    (shown,) = (line for line in result.lines if line[:1] == [HOOK])
    assert shown[1:3] == ["enabled", "1"]
    assert shown[3].startswith("2h3")
    expected = (
        "not running, with 0 unfinished jobs and 1 pending delivery: start `sutro-poller run`"
    )
    assert expected in result.out


def test_status_of_a_stopped_daemon_that_should_discover(run_cli: RunCli, seed_store):
    """Without a daemon no job is discovered: that needs action, though nothing is waiting."""
    seed_store(states=[ended("job-1")])

    result = run_cli("status", POLLER_DISCOVER="on")

    assert result.code == 1
    assert "not running, with 0 unfinished jobs and 0 pending deliveries, and disc" in result.out


def test_status_counts_a_stopped_daemon_with_unfinished_jobs(run_cli: RunCli, seed_store):
    """A job that has not ended needs a daemon, as does a named one without a status."""
    seed_store(
        states=[
            a_state("job-1", status=JobStatus.RUNNING),
            ended("job-2"),
            a_state("job-3", phase=Phase.MISSING),
        ]
    )

    result = run_cli("status")
    with_names = run_cli("status", POLLER_JOB_IDS="job-2,job-4")

    assert result.code == 1
    assert "not running, with 1 unfinished job and 0 pending deliveries: start" in result.out
    assert "The daemon is not running, with 2 unfinished jobs" in with_names.out


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (
            {"events": TWO, "bury": HOOK},
            "webhook has 2 dead letters: see `sutro-poller dead-letters ls --sink w",
        ),
        ({"disable": HOOK}, "webhook is disabled (410 Gone): fix its receiver, then run `sutro-"),
        ({"flags": {"auth": "rejected 1"}}, "API key rejected: set SUTRO_API_KEY"),
    ],
    ids=["dead", "disabled", "refused"],
)
def test_status_lists_required_actions(run_cli: RunCli, seed_store, batch, expected):
    """Each issue is a line that says what to do, and makes the exit code 1."""
    seed_store(**batch)

    screen, plain = run_cli("status"), run_cli("status", "-o", "json")

    assert (screen.code, plain.code) == (1, 1)
    assert expected in screen.out
    assert expected in json.loads(plain.out)["actions"][0]


def test_jobs_ls_filters_by_state(run_cli: RunCli, seed_store):
    """A job is a line with its state; the state filter ignores case."""
    seed_store(states=[ended("job-1"), a_state("job-2", status=JobStatus.RUNNING)])

    result = run_cli("jobs", "ls", "--state", "succeeded")

    head, line = result.lines
    assert head[:3] == ["JOB", "ID", "STATE"]
    assert line[:3] == ["job-1", "SUCCEEDED", "2024-01-15T12:00:00Z"]
    assert run_cli("jobs", "ls", "--state", "failed").out == "No jobs recorded.\n"


def test_jobs_ls_lists_named_jobs_without_a_response(run_cli: RunCli, seed_store, tmp_path: Path):
    """Jobs of the settings and of the file that were never recorded are listed, once and last."""
    seed_store(states=[ended("job-1")])
    (tmp_path / "jobs").write_text("job-2\njob-3\n", "utf-8")
    names = {"POLLER_JOB_IDS": "job-1,job-2", "POLLER_JOBS_FILE": str(tmp_path / "jobs")}

    result = run_cli("jobs", "ls", **names)

    assert [line[:3] for line in result.lines[1:]] == [
        ["job-1", "SUCCEEDED", "2024-01-15T12:00:00Z"],
        ["job-2", "UNKNOWN", "-"],
        ["job-3", "UNKNOWN", "-"],
    ]
    assert run_cli("jobs", "ls", "--job", "job-3", **names).lines[1][0] == "job-3"


def test_jobs_ls_shows_run_time_cost_and_reason(run_cli: RunCli, seed_store):
    """A failed job is a line with its run time, its cost and the message of the API."""
    reason = {"message": "The model returned no output."}
    seed_store(states=[ended("job-1", status="FAILED", failure_reason=reason, job_cost=0.0234)])

    result = run_cli("jobs", "ls")

    shown = ["job-1", "FAILED", "2024-01-15T12:00:00Z", "2m0s", "-", "$0.0234"]
    assert result.lines[1][:6] == shown
    assert result.out.endswith("The model returned no output.\n")


def test_jobs_ls_shows_how_long_a_job_has_run(run_cli: RunCli, seed_store):
    """A job that runs has run until now."""
    started = datetime.now(UTC) - timedelta(days=2)
    job = parse_job(a_job_object(status="RUNNING", datetime_started=started.isoformat()))
    job = replace(job, datetime_completed=None)
    seed_store(states=[a_state("job-1", status=JobStatus.RUNNING, job=job)])

    assert run_cli("jobs", "ls").lines[1][3] == "2d0h"


def ends_of_an_hour(model: str = "qwen-3-4b") -> list[JobState]:
    """Return the states of jobs of a model that ran for an hour."""
    times = {
        "datetime_created": "2024-01-15T09:00:00Z",
        "datetime_started": "2024-01-15T09:00:10Z",
        "datetime_completed": "2024-01-15T10:00:10Z",
    }
    return [ended(f"job-{n}", model=model, **times) for n in range(100, 100 + MIN_ENDS)]


def a_job_that_has_run_for(age: timedelta, **fields: object) -> tuple[JobState, datetime]:
    """Return the state of a job that runs, and when it started."""
    started = datetime.now(UTC).replace(microsecond=0) - age
    known = {"job_id": "job-1", "status": "RUNNING", "datetime_started": started.isoformat()}
    job = replace(parse_job(a_job_object(**known, **fields)), datetime_completed=None)
    return a_state("job-1", status=JobStatus.RUNNING, job=job), started


def test_jobs_ls_shows_when_a_job_may_be_expected_to_end(run_cli: RunCli, seed_store):
    """A job that runs is expected to end when those like it did; an ended one is not."""
    state, started = a_job_that_has_run_for(timedelta(minutes=5), model="qwen-3-4b")
    seed_store(states=[state, *ends_of_an_hour()])

    rows = run_cli("jobs", "ls").lines
    shown = {row["job_id"]: row for row in json.loads(run_cli("jobs", "ls", "-o", "json").out)}

    until = (started + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    assert [row[4] for row in rows if row[0] == "job-1"] == [until]
    assert {row[4] for row in rows if row[0].startswith("job-1") and row[0] != "job-1"} == {"-"}
    assert shown["job-1"]["expected_end"] == {
        "p50": until,
        "p95": until,
        "basis": {
            "class": {"model": "qwen-3-4b", "min_rows": 32, "max_rows": 63, "priority": 1},
            "samples": MIN_ENDS,
        },
    }
    assert shown["job-100"]["expected_end"] is None
    assert "EXPECTED" not in run_cli("jobs", "ls", "--state", "succeeded").out


def test_jobs_show_shows_the_basis_of_an_expected_end(run_cli: RunCli, seed_store):
    """The expected end of one job comes with the ended jobs that it is compared with."""
    state, started = a_job_that_has_run_for(timedelta(minutes=5), model="other", num_rows=7)
    seed_store(states=[state, *ends_of_an_hour()])

    until = (started + timedelta(hours=1)).isoformat().replace("+00:00", "Z")
    basis = f"from {MIN_ENDS} ended jobs of all models"
    assert (
        f"expected_end        {until}, 95 % by {until}, {basis}"
        in run_cli("jobs", "show", "job-1").out
    )


def test_nothing_is_expected_of_a_job_that_outlasts_all(run_cli: RunCli, seed_store):
    """A job that has run for longer than all that have ended has no expected end."""
    state, _ = a_job_that_has_run_for(timedelta(hours=2), model="qwen-3-4b")
    seed_store(states=[state, *ends_of_an_hour()])

    assert run_cli("jobs", "ls", "--job", "job-1", "-o", "json").out.count('"expected_end": null')


def test_jobs_show(run_cli: RunCli, seed_store):
    """A job is shown with all fields and a timeline of its events and their deliveries."""
    seed_store(states=[ended("job-1", name="Reviews")], events=[an_event()], bury=HOOK)

    result, plain = run_cli("jobs", "show", "job"), run_cli("jobs", "show", "job-1", "-o", "json")

    assert ["name", "Reviews"] in result.lines
    assert ["job_cost", "$0.0234"] in result.lines
    assert ["2024-01-15T10:32:15Z", "job.succeeded", "evt_1", "-", "-", "-"] in result.lines
    dead = ["job.succeeded", "evt_1", HOOK, "dead", "HTTP", "400"]
    assert dead in [line[1:] for line in result.lines]
    shown = json.loads(plain.out)
    assert (shown["job_cost"], shown["events"][0]["deliveries"][0]["reason"]) == (
        0.0234,
        "HTTP 400",
    )


def test_jobs_show_without_events(run_cli: RunCli, seed_store):
    """A named job without a response is shown; one that is not known is a usage error."""
    seed_store()

    result = run_cli("jobs", "show", "job-9", POLLER_JOB_IDS="job-9")
    unknown = run_cli("jobs", "show", "job-8", POLLER_JOB_IDS="job-9")

    assert ["state", "UNKNOWN"] in result.lines
    assert result.out.endswith("No events recorded.\n")
    assert (unknown.code, "no job ID starts with 'job-8'" in unknown.err) == (2, True)


def test_events_ls(run_cli: RunCli, seed_store):
    """An event is a line with its status at each sink; in JSON it is an object."""
    seed_store(events=TWO, bury=HOOK)

    result, plain = run_cli("events", "ls", "--job", "job-2"), run_cli("events", "ls", "-o", "json")

    assert result.lines[1][-3:] == ["job-2", HOOK, "dead"]
    assert len(run_cli("events", "ls", "--limit", "1").lines) == 2
    assert json.loads(plain.out)[0]["deliveries"] == [{"sink": HOOK, "status": "dead"}]


def test_events_show(run_cli: RunCli, seed_store):
    """The body is formatted, with the deliveries and their errors."""
    seed_store(events=TWO, bury=HOOK)

    result, plain = (
        run_cli("events", "show", "evt_2"),
        run_cli("events", "show", "evt_2", "-o", "json"),
    )

    assert '"n": "2"' in result.out
    assert ["checksum_ok", "True"] in result.lines
    assert "HTTP 400" in result.out
    assert json.loads(plain.out)["body"] == {"n": "2", "data": {}}


def test_events_show_without_sinks(run_cli: RunCli, seed_store):
    """An event without a sink is shown, and can be replayed only to a named sink."""
    seed_store(events=[an_event(type="job.found")])

    assert run_cli("events", "show", "evt_1").out.endswith("No sink was configured for it.\n")
    result = run_cli("events", "replay", "evt_1")
    assert (result.code, result.out) == (
        1,
        "No sink was configured for it: choose one with --sink.\n",
    )


def test_replay_lists_each_delivery(run_cli: RunCli, seed_store):
    """Each delivery is a line; their number and the time go to stderr."""
    seed_store(events=TWO, bury=HOOK)

    result = run_cli("dead", "replay", "--all")

    assert result.code == 0
    assert {line[0] for line in result.lines[1:]} == {"evt_1", "evt_2"}
    assert "2 of 2 will be sent again when `sutro-poller run` is started" in result.err


def test_replay_of_pending_deliveries_exits_1(run_cli: RunCli, seed_store):
    """A delivery that is pending already is reported as such."""
    seed_store(events=TWO)

    result = run_cli("events", "replay", "evt_1", "evt_2")

    assert (result.code, result.err) == (1, "")
    assert result.out.count("already pending") == 2


def test_drop_lists_each_dead_letter(run_cli: RunCli, seed_store):
    """Each dropped dead letter is a line; one that does not exist is not dropped."""
    seed_store(events=TWO, bury=HOOK)

    result, again = run_cli("dead", "drop", "evt_2"), run_cli("dead", "drop", "evt_2")

    assert (result.code, result.lines[1][0], result.lines[1][-1]) == (0, "evt_2", "dropped")
    assert "1 dead letter dropped" in result.err
    assert (again.code, again.out) == (1, "No dead letters.\n")
    assert [line[0] for line in run_cli("dead", "ls").lines[1:]] == ["evt_1"]


@pytest.mark.parametrize("act", ["replay", "drop"])
@pytest.mark.parametrize("words", [(), ("--sink", HOOK), ("--all", "evt_1")])
def test_replay_and_drop_need_ids_or_all(run_cli: RunCli, seed_store, act: str, words):
    """A missing id or a filter alone does not mean all, and ids beside --all are an error."""
    seed_store(events=TWO, bury=HOOK)

    result = run_cli("dead", act, *words)

    assert result.code == 2
    assert len(run_cli("dead", "ls").lines) == 3


def test_sinks_enable_lists_deliveries(run_cli: RunCli, seed_store):
    """The deliveries that a sink gets back are listed; the second time there is nothing to do."""
    seed_store(events=TWO, disable=HOOK)

    result, again = run_cli("sinks", "enable", HOOK), run_cli("sinks", "enable", HOOK)

    assert (result.code, len(result.lines)) == (0, 3)
    assert "webhook is enabled; 2 events will be sent when" in result.err
    assert (again.code, again.out) == (0, "No change.\n")
    assert run_cli("sinks", "ls").lines[2][:3] == [HOOK, "enabled", "2"]


def test_costs_are_summed_exactly(run_cli: RunCli, seed_store):
    """0.1 and 0.2 are 0.3; unknown costs are counted apart, never as 0."""
    seed_store(
        states=[
            ended("a", job_cost=0.1, model="m"),
            ended("b", job_cost=0.2, model="m"),
            ended("c", job_cost=None, model="m"),
            ended("d", job_cost=None, model="n"),
        ]
    )

    result, plain = run_cli("costs"), run_cli("costs", "-o", "json")

    assert [[line[0], line[1], *line[-2:]] for line in result.lines[1:]] == [
        ["m", "3", "1", "$0.30"],
        ["n", "1", "1", "unknown"],
        ["total", "4", "2", "$0.30"],
    ]
    assert [row["cost_usd"] for row in json.loads(plain.out)] == ["0.3", None]


def test_costs_by_day_and_name_as_csv(run_cli: RunCli, seed_store):
    """CSV has no total, so that a program can sum; an unknown cost is empty."""
    seed_store(states=[ended("a", name=None, job_cost=None), ended("b", name="x", job_cost=0.5)])

    by_name = run_cli("costs", "--by", "name", "-o", "csv")
    by_day = run_cli("costs", "--by", "day", "--since", "2024-01-15", "-o", "csv")

    assert by_name.out.splitlines()[1:] == [",1,15420,8230,1,", "x,1,15420,8230,0,0.5"]
    assert by_day.out.splitlines()[1:] == ["2024-01-15,2,30840,16460,1,0.5"]
    assert run_cli("costs", "--since", "1h").out == "No ended jobs.\n"


def test_costs_by_month_and_status_as_csv(run_cli: RunCli, seed_store):
    """A month has all its days, and each status its jobs; another host has none."""
    states = [
        ended("a", job_cost=0.1),
        ended("b", status="FAILED", job_cost=0.2),
        ended("c", job_cost=0.4),
    ]
    seed_store(states=states)

    by_month = run_cli("costs", "--by", "month", "-o", "csv")
    by_status = run_cli("costs", "--by", "status", "-o", "csv")

    assert by_month.out.splitlines()[1:] == ["2024-01,3,46260,24690,0,0.7"]
    assert by_status.out.splitlines()[1:] == [
        "FAILED,1,15420,8230,0,0.2",
        "SUCCEEDED,2,30840,16460,0,0.5",
    ]
    assert run_cli("costs", "--deployment", "other").out == "No ended jobs.\n"


def test_costs_are_compared_with_estimates(run_cli: RunCli, seed_store):
    """Each class of jobs has its estimates and costs; a job that lacks one is counted apart."""
    seed_store(
        states=[
            ended("a", job_cost=0.3, cost_estimate=0.2),
            ended("b", job_cost=0.3, cost_estimate=0.2, num_rows=40),
            ended("c", job_cost=0.3, cost_estimate=None),
            ended("d", job_cost=0.1, cost_estimate=0.2, model="=1+1", num_rows=None),
        ]
    )

    result = run_cli("costs", "--compare", "-o", "csv")

    assert result.out.splitlines()[1:] == [
        "'=1+1,,1,1,1,0.2,0.1,0.5",
        "llama-3.3-70b,32-63,1,3,2,0.4,0.6,1.5",
    ]


def test_costs_by_day_are_those_of_utc(
    run_cli: RunCli, seed_store, now: ManualClock, monkeypatch: pytest.MonkeyPatch
):
    """A day is one of UTC, also where the clocks have just been changed."""
    end, late = "2024-04-06T13:30:00Z", "2024-04-06T23:59:59.9Z"
    now.now = datetime(2024, 4, 7, tzinfo=UTC).timestamp()
    seed_store(states=[ended("a", datetime_completed=end), ended("b", datetime_completed=late)])
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        result = run_cli("costs", "--by", "day", "--since", "2024-04-06", "-o", "csv")
        none = run_cli("costs", "--since", "2024-04-07")
    finally:
        monkeypatch.undo()
        time.tzset()

    assert [line[:12] for line in result.out.splitlines()[1:]] == ["2024-04-06,2"]
    assert none.out == "No ended jobs.\n"


@pytest.mark.parametrize(
    "when", ["7d", "2024-01-15", "20240115", "2024-01-15T13:00:00+02:00", "36500d", "0001-01-01"]
)
def test_since_takes_durations_and_dates(run_cli: RunCli, seed_store, now: ManualClock, when: str):
    """`--since` lists what was recorded since then; a date is in UTC unless it has a zone."""
    now.now = time.time() if when == "7d" else NOON
    seed_store(states=[ended("job-1")], events=[an_event()])

    assert len(run_cli("events", "ls", "--since", when).lines) == 2
    assert run_cli("costs", "--since", when).code == 0


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--since", "soon"), "5m or 1h30m, or a date such as 2024-01-15"),
        (("--since", "800000d"), "must be 36500d or less, or a date such as 2024-01-15"),
        (("--since", "0001-01-01T00:00+14:00"), "must be a duration such as 30s, 500ms, 5m or"),
        (("--since", "9999-12-31T23:00-14:00"), "must be a duration such as 30s, 500ms, 5m or"),
        (("--limit", "0"), "must be a whole number, 1 or more"),
        (("--type", "job.end"), "invalid choice: 'job.end'"),
        (("--job", "x"), "no job ID starts with 'x'"),
    ],
)
def test_invalid_filters_are_usage_errors(run_cli: RunCli, seed_store, words, expected):
    """An invalid filter is exit 2 and a line with the valid values."""
    seed_store(events=TWO)

    result = run_cli("events", "ls", *words)

    assert result.code == 2
    assert expected in result.err


@pytest.mark.parametrize(
    "verb", ["status", "jobs ls", "events ls", "dead ls", "sinks ls", "costs", "dead drop --all"]
)
def test_missing_database_is_one_line(run_cli: RunCli, path: Path, verb: str):
    """A missing file and a store in memory are exit 78 and one line."""
    missing, in_memory = run_cli(*verb.split()), run_cli(*verb.split(), POLLER_STORE="memory:")

    assert (missing.code, in_memory.code) == (78, 78)
    does_not_exist = f"sutro-poller: POLLER_STORE: {path} does not exist; use the same"
    assert missing.err.startswith(does_not_exist)
    assert in_memory.err.endswith(
        "cannot be read by another process; set it to a path, for the daemon too\n"
    )
    assert missing.err.count("\n") == in_memory.err.count("\n") == 1


def test_schema_is_printed(run_cli: RunCli):
    """The JSON Schema is printed without a database."""
    result = run_cli("schema")

    assert json.loads(result.out)["$id"] == "urn:sutro-poller:event"


def test_jobs_ls_lists_a_missing_job_that_was_never_seen(run_cli: RunCli, seed_store):
    """A job that went missing before the API ever showed it is listed like any other."""
    seed_store(states=[a_state("mistyped", phase=Phase.MISSING), ended("job-1")])

    result = run_cli("jobs", "ls", "--state", "missing")

    assert result.code == 0
    assert [line[:2] for line in result.lines[1:]] == [["mistyped", "MISSING"]]

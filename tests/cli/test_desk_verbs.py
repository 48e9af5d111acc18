"""The verbs that list and change what the database holds."""

import json
import time
from pathlib import Path

import pytest

from poller.core.jobs import JobStatus
from poller.core.parsing import parse_job
from poller.core.state import JobState, Phase
from tests.cli.conftest import Ask
from tests.support.builders import a_job_object
from tests.support.store_builders import HOOK, NOON, ManualClock, a_state, an_event

TWO = [an_event("1"), an_event("2", "job-2")]


def ended(job_id: str, **fields) -> JobState:
    """Give the state of a job that has ended."""
    job = parse_job(a_job_object(job_id=job_id, **fields))
    return a_state(job_id, phase=Phase.DONE, status=job.status, job=job)


def test_status_of_a_healthy_database(ask: Ask, keep):
    """All is shown, and when nothing needs a person the exit code is 0."""
    keep(states=[a_state(status=JobStatus.RUNNING)])

    told = ask("status")

    assert told.code == 0
    assert ["daemon", "not", "running"] in told.lines
    assert ["jobs", "1", "RUNNING"] in told.lines
    assert [HOOK, "enabled", "0", "-", "0"] in told.lines
    assert told.out.endswith("No action needed.\n")


def test_status_of_events_that_nobody_sends(ask: Ask, keep, now: ManualClock):
    """What waits is shown with its age; while no daemon runs it needs a person."""
    now.now = time.time() - 150
    keep(events=[an_event()])

    told = ask("status")

    assert told.code == 1
    (shown,) = (line for line in told.lines if line[:1] == [HOOK])
    assert shown[1:3] == ["enabled", "1"]
    assert shown[3].startswith("2m3")
    assert "deliveries are pending but no daemon runs: start `sutro-poller run`." in told.out


@pytest.mark.parametrize(
    ("batch", "told"),
    [
        (
            {"events": TWO, "bury": HOOK},
            "webhook has dead letters: see `sutro-poller dead-letters ls --sink w",
        ),
        ({"disable": HOOK}, "webhook is disabled (410 Gone): fix its receiver, then run `sutro-"),
        ({"flags": {"auth": "rejected 1"}}, "API key rejected: set SUTRO_API_KEY"),
    ],
    ids=["dead", "disabled", "refused"],
)
def test_status_says_what_needs_a_person(ask: Ask, keep, batch, told):
    """Each trouble is a line that says what to do, and makes the exit code 1."""
    keep(**batch)

    screen, plain = ask("status"), ask("status", "-o", "json")

    assert (screen.code, plain.code) == (1, 1)
    assert told in screen.out
    assert told in json.loads(plain.out)["actions"][0]


def test_jobs_ls(ask: Ask, keep):
    """A job is a line of how it stands; the state may be asked for in small letters."""
    keep(states=[ended("job-1"), a_state("job-2", status=JobStatus.RUNNING)])

    told = ask("jobs", "ls", "--state", "succeeded")

    head, line = told.lines
    assert head[:3] == ["JOB", "ID", "STATE"]
    assert line[:3] == ["job-1", "SUCCEEDED", "2024-01-15T12:00:00Z"]
    assert ask("jobs", "ls", "--state", "failed").out == "No jobs recorded.\n"


def test_events_ls(ask: Ask, keep):
    """An event is a line with how it stands at each sink; in JSON it is an object."""
    keep(events=TWO, bury=HOOK)

    told, plain = ask("events", "ls", "--job", "job-2"), ask("events", "ls", "-o", "json")

    assert told.lines[1][-3:] == ["job-2", HOOK, "dead"]
    assert len(ask("events", "ls", "--limit", "1").lines) == 2
    assert json.loads(plain.out)[0]["deliveries"] == [{"sink": HOOK, "status": "dead"}]


def test_events_show(ask: Ask, keep):
    """The body is shown readably, with where it went and why not."""
    keep(events=TWO, bury=HOOK)

    told, plain = ask("events", "show", "evt_2"), ask("events", "show", "evt_2", "-o", "json")

    assert '"n": "2"' in told.out
    assert "HTTP 400" in told.out
    assert json.loads(plain.out)["body"] == {"n": "2"}


def test_events_show_without_sinks(ask: Ask, keep):
    """An event that nobody takes is shown all the same, and cannot go back to anybody."""
    keep(events=[an_event(type="job.found")])

    assert ask("events", "show", "evt_1").out.endswith("No sink was configured for it.\n")
    told = ask("events", "replay", "evt_1")
    assert (told.code, told.out) == (1, "No sink was configured for it: choose one with --sink.\n")


def test_replay_says_which_and_when(ask: Ask, keep):
    """Each delivery is a line; how many go is said apart, with when."""
    keep(events=TWO, bury=HOOK)

    told = ask("dead", "replay", "--all")

    assert told.code == 0
    assert {line[0] for line in told.lines[1:]} == {"evt_1", "evt_2"}
    assert "2 of 2 will be sent again when `sutro-poller run` is started" in told.err


def test_replay_of_what_is_pending_exits_1(ask: Ask, keep):
    """What cannot go is said to be so, line by line."""
    keep(events=TWO)

    told = ask("events", "replay", "evt_1", "evt_2")

    assert (told.code, told.err) == (1, "")
    assert told.out.count("already pending") == 2


def test_drop_says_which(ask: Ask, keep):
    """Nothing is dropped silently, and what is not there is not dropped."""
    keep(events=TWO, bury=HOOK)

    told, again = ask("dead", "drop", "evt_2"), ask("dead", "drop", "evt_2")

    assert (told.code, told.lines[1][0], told.lines[1][-1]) == (0, "evt_2", "dropped")
    assert "1 dropped" in told.err
    assert (again.code, again.out) == (1, "No dead letters.\n")
    assert [line[0] for line in ask("dead", "ls").lines[1:]] == ["evt_1"]


@pytest.mark.parametrize("act", ["replay", "drop"])
@pytest.mark.parametrize("words", [(), ("--sink", HOOK), ("--all", "evt_1")])
def test_all_must_be_said(ask: Ask, keep, act: str, words):
    """Neither no id nor a filter alone means all, and ids beside --all mean nothing."""
    keep(events=TWO, bury=HOOK)

    told = ask("dead", act, *words)

    assert told.code == 2
    assert len(ask("dead", "ls").lines) == 3


def test_sinks_enable(ask: Ask, keep):
    """What comes back is listed; the second time there is nothing to do."""
    keep(events=TWO, disable=HOOK)

    told, again = ask("sinks", "enable", HOOK), ask("sinks", "enable", HOOK)

    assert (told.code, len(told.lines)) == (0, 3)
    assert "webhook is enabled; 2 events will be sent when" in told.err
    assert (again.code, again.out) == (0, "No change.\n")
    assert ask("sinks", "ls").lines[2][:3] == [HOOK, "enabled", "2"]


def test_costs_are_summed_exactly(ask: Ask, keep):
    """A tenth and two tenths are three tenths; what is not known is counted apart, never as 0."""
    keep(
        states=[
            ended("a", job_cost=0.1, model="m"),
            ended("b", job_cost=0.2, model="m"),
            ended("c", job_cost=None, model="m"),
            ended("d", job_cost=None, model="n"),
        ]
    )

    told, plain = ask("costs"), ask("costs", "-o", "json")

    assert [[line[0], line[1], *line[-2:]] for line in told.lines[1:]] == [
        ["m", "3", "1", "0.3"],
        ["n", "1", "1", "unknown"],
        ["total", "4", "2", "0.3"],
    ]
    assert [it["cost_usd"] for it in json.loads(plain.out)] == ["0.3", None]


def test_costs_by_day_and_name_as_csv(ask: Ask, keep):
    """CSV has no total, so that a program may sum; a cost that is not known is empty."""
    keep(states=[ended("a", name=None, job_cost=None), ended("b", name="x", job_cost=0.5)])

    by_name = ask("costs", "--by", "name", "-o", "csv")
    by_day = ask("costs", "--by", "day", "--since", "2024-01-15", "-o", "csv")

    assert by_name.out.splitlines()[1:] == [",1,15420,8230,1,", "x,1,15420,8230,0,0.5"]
    assert by_day.out.splitlines()[1:] == ["2024-01-15,2,30840,16460,1,0.5"]
    assert ask("costs", "--since", "1h").out == "No ended jobs.\n"


@pytest.mark.parametrize("when", ["7d", "2024-01-15", "2024-01-15T13:00:00+02:00"])
def test_since_takes_durations_and_dates(ask: Ask, keep, now: ManualClock, when: str):
    """What was recorded since then is listed; a date is in UTC unless it says otherwise."""
    now.now = time.time() if when == "7d" else NOON
    keep(events=[an_event()])

    assert len(ask("events", "ls", "--since", when).lines) == 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--since", "soon"), "must be a duration such as 2h or 7d, or a date such as 2024-01-15"),
        (("--limit", "0"), "must be a whole number, 1 or more"),
        (("--type", "job.end"), "invalid choice: 'job.end'"),
        (("--job", "x"), "no job ID starts with 'x'"),
    ],
)
def test_wrong_filters_are_misuse(ask: Ask, keep, words, told):
    """A filter that means nothing is exit 2 and a line that says what it takes."""
    keep(events=TWO)

    found = ask("events", "ls", *words)

    assert found.code == 2
    assert told in found.err


@pytest.mark.parametrize(
    "verb", ["status", "jobs ls", "events ls", "dead ls", "sinks ls", "costs", "dead drop --all"]
)
def test_no_database_is_one_line(ask: Ask, path: Path, verb: str):
    """A file that is not there, and a store in memory, are exit 78 and one line."""
    missing, in_memory = ask(*verb.split()), ask(*verb.split(), POLLER_STORE="memory:")

    assert (missing.code, in_memory.code) == (78, 78)
    does_not_exist = f"sutro-poller: POLLER_STORE: {path} does not exist; use the same"
    assert missing.err.startswith(does_not_exist)
    assert in_memory.err.endswith(
        "cannot be read by another process; set it to a path, for the daemon too\n"
    )
    assert missing.err.count("\n") == in_memory.err.count("\n") == 1


def test_schema_is_printed(ask: Ask):
    """The JSON Schema is printed without any database."""
    told = ask("schema")

    assert json.loads(told.out)["$id"] == "urn:sutro-poller:event"

"""Query plans: no statement reads more of the history than it returns or changes."""

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from importlib import import_module
from itertools import chain, combinations
from pkgutil import iter_modules
from typing import Final

import pytest

from poller import store
from poller.core.job_status import JobStatus
from poller.core.outbox import DeliveryStatus
from poller.store import list_sql, schema

SMALL: Final = {
    "CONSTANT": "a row in the statement",
    "additions": "at most 100,000 rows",
    "counted": "the sums of one day",
    "crossings": "a row for each threshold of a budget in each period",
    "flags": "a few rows",
    "found": "the deployments",
    "identity": "one row",
    "job_counts": "a row for each phase and status",
    "job_sums": "a row for each day and model, and each day and name",
    "json_each": "a list that the caller has",
    "models": "the models of one deployment",
    "newest": "at most LAGS events",
    "others": "the deployments",
    "sinks": "a row for each sink",
}
"""What may be scanned: everything but jobs, events and deliveries, whatever they are called."""

SORTS: Final = {
    "admin_sql.COSTS_BY_DAY": "the sums of each day, a row for each model",
    "admin_sql.COSTS_OF_FIRST_DAY": "the jobs that ended on one day",
    "admin_sql.DETECTION_LAGS": "at most LAGS events of each type",
    "admin_sql.JOBS_BY_STATE": "the counts of jobs, a row for each phase and status",
    "admin_sql.JOB_IDS": "at most MANY_IDS ids of each kind, and the added ones",
    "admin_sql.WATCHED_JOBS": "the deployments of one job",
    "recount.WRONG_STATES": "a row for each state: the jobs come in the order of an index",
    "recount.WRONG_SUMS_OF_DAY": "the jobs that ended on one day",
    "recount.WRONG_UNFINISHED": "the jobs that are not done",
    "report.COSTS_OF_PERIOD": "the jobs that ended on one day",
    "report.SLOWEST": "the jobs that ended on one day",
    "sql.ADDED_IDS": "the added jobs alone",
    "list_sql.jobs of job": "the deployments of one job",
    "list_sql.events in few": "at most FEW_DELIVERIES",
    "list_sql.deliveries of event_ids": "the sinks of events that the operator named",
    "list_sql.deliveries of job": "the sinks of the events of one job",
}
"""The statements that may sort, and what bounds the rows."""

WHOLE: Final = {
    "recount.ADD_ALL_JOBS": "sums all jobs anew, after an unclean end with wrong sums",
    "recount.COUNT_ALL_JOBS": "counts all jobs anew, after an unclean end with wrong counts",
    "recount.WRONG_HEADS": "verifies the pending deliveries, after an unclean end",
    "recount.WRONG_STATES": "counts all jobs, after an unclean end",
    "recount.WRONG_UNFINISHED": "counts the jobs that are not done, after an unclean end",
    "schema_v5_costs.ADD_ALL_JOBS": "sums all jobs, once at the migration",
}
"""The statements that read all jobs or deliveries."""

VERBS: Final = ("SELECT", "INSERT", "UPDATE", "DELETE", "WITH")
STATES: Final = tuple(status.value for status in DeliveryStatus)


def constants() -> Iterator[tuple[str, str]]:
    """Yield each statement in the modules of the store, with its name."""
    for module in iter_modules(store.__path__):
        for name, value in vars(import_module(f"{store.__name__}.{module.name}")).items():
            is_statement = isinstance(value, str) and value.lstrip().startswith(VERBS)
            if is_statement and name.isupper() and not name.startswith("_"):
                yield f"{module.name}.{name}", value


def subsets(*names: str) -> Iterator[tuple[str, ...]]:
    """Yield all subsets."""
    return chain.from_iterable(combinations(names, size) for size in range(len(names) + 1))


def lists() -> Iterator[tuple[str, str]]:
    """Yield the statement of each list with each filter, and its name."""
    for given in subsets("job", "state"):
        kind = "of job" if "job" in given else ""
        yield f"list_sql.jobs {kind}".strip(), list_sql.jobs(given)
    yield "list_sql.jobs_in", list_sql.jobs_in(tuple(JobStatus), is_filtered=False)
    yield "list_sql.jobs_in of name", list_sql.jobs_in(tuple(JobStatus), is_filtered=True)
    yield "list_sql.last_job_in", list_sql.last_job_in(tuple(JobStatus))
    for given in subsets("job", "type", "sink", "state"):
        yield "list_sql.events", list_sql.events(given)
    for given in subsets("job", "type"):
        yield "list_sql.last_event", list_sql.last_event(given)
    for given, state in (
        (given, state) for given in subsets("job", "type") for state in STATES[:2]
    ):
        yield "list_sql.events in few", list_sql.events(given, state)
    for order in (list_sql.LATEST_FIRST, list_sql.OLDEST_FIRST):
        for given in subsets("event_ids", "job", "type", "sink"):
            kind = next((name for name in ("event_ids", "job") if name in given), None)
            if kind is not None:
                statement = list_sql.deliveries(given, None, order)
                yield f"list_sql.deliveries of {kind}", statement
            name = f"list_sql.deliveries of {kind}" if kind else "list_sql.deliveries"
            yield name, list_sql.deliveries(given, DeliveryStatus.DEAD, order)


STATEMENTS: Final = [*constants(), *lists()]


@pytest.fixture(scope="module")
def db() -> Iterator[sqlite3.Connection]:
    """Return an empty database: SQLite plans by the indexes alone, since nothing is analyzed."""
    with closing(sqlite3.connect(":memory:")) as connection:
        schema.migrate(connection)
        yield connection


def plan(db: sqlite3.Connection, statement: str) -> list[str]:
    """Return the steps of a statement."""
    values: Mapping[str, None] = dict.fromkeys(re.findall(r":(\w+)", statement))
    return [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {statement}", values)]


@pytest.mark.parametrize(("name", "statement"), STATEMENTS, ids=[name for name, _ in STATEMENTS])
def test_statement_scans_and_sorts_no_history(
    db: sqlite3.Connection, name: str, statement: str
) -> None:
    """No statement scans jobs, events or deliveries, or sorts many of them."""
    steps = plan(db, statement)

    scanned = {match[1] for step in steps if (match := re.match(r"SCAN (\w+)", step))}
    assert name in WHOLE or scanned <= SMALL.keys(), steps
    assert name in SORTS or "TEMP B-TREE" not in str(steps), steps


def test_exceptions_are_needed(db: sqlite3.Connection) -> None:
    """Every statement that may sort does, and every one that may read all rows."""
    plans = [(name, str(plan(db, statement))) for name, statement in STATEMENTS]

    assert {name for name, steps in plans if "TEMP B-TREE" in steps} == SORTS.keys()
    assert {name for name, steps in plans if re.search("SCAN (jobs|deliveries)", steps)} == (
        WHOLE.keys()
    )


def test_all_statements_are_found() -> None:
    """The statements of the daemon, of the operator and of the lists are all among those tested."""
    names = {name for name, _ in STATEMENTS}

    assert {"sql.DUE", "admin_sql.SINKS", "list_sql.jobs", "list_sql.events in few"} <= names

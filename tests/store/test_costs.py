"""The kept sums of costs, against a full scan of the jobs."""

import json
import re
import sqlite3
from collections import defaultdict
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from hypothesis import Phase as Stage
from hypothesis import given, settings
from hypothesis import strategies as st

from poller.core.job_status import JobStatus
from poller.core.outbox import DAY
from poller.core.state import JobState, Phase
from poller.store import clock_sql, schema, sql
from poller.store.costs import GROUPS, Sums, read_costs
from poller.store.rows import state_row
from tests.support.builders import a_job
from tests.support.store_builders import NOON, a_state

CREATED: Final = datetime(2024, 1, 13, tzinfo=UTC)
ENDS: Final = (
    None,
    datetime(2024, 1, 13, 23, 59, 59, 900_000, tzinfo=UTC),
    datetime(2024, 1, 14, tzinfo=UTC),
    datetime(2024, 1, 14, 12, 30, 0, 500_000, tzinfo=UTC),
    datetime(2024, 1, 15, 23, 59, 59, tzinfo=UTC),
)
SINCE: Final = (0.0, *(moment.timestamp() // 1 for moment in ENDS if moment), NOON)

COSTS: Final = st.one_of(
    st.sampled_from([None, 0.0, 0.1, 0.2, 0.3, 1e-07, 123_456.789, 1e300]),
    st.decimals(0, 99_999, places=9).map(float),
)
STATES: Final = st.builds(
    lambda job_id, phase, status, fields: a_state(
        job_id, phase=phase, status=status, job=replace(a_job(status), job_id=job_id, **fields)
    ),
    st.sampled_from(["job-1", "job-2", "job-3"]),
    st.sampled_from([Phase.ACTIVE, Phase.SETTLING, Phase.DONE, Phase.MISSING]),
    st.sampled_from(
        [JobStatus.RUNNING, JobStatus.SUCCEEDED, JobStatus.SUCCEEDED, JobStatus.FAILED]
    ),
    st.fixed_dictionaries(
        {
            "model": st.sampled_from([None, "", "m", "n"]),
            "name": st.sampled_from([None, "x", "m"]),
            "job_cost": COSTS,
            "input_tokens": st.sampled_from([None, 0, 7, 2**63 - 1]),
            "output_tokens": st.sampled_from([None, 3, 10**12]),
            "datetime_created": st.sampled_from([None, CREATED]),
            "datetime_completed": st.sampled_from(ENDS),
        }
    ),
)
DEPLOYMENTS: Final = st.sampled_from(["first", "first", "second", "third"])
OPERATIONS: Final = st.lists(
    st.one_of(
        st.tuples(st.just("write"), DEPLOYMENTS, STATES),
        st.tuples(st.just("write"), DEPLOYMENTS, STATES),
        st.tuples(st.just("write_in_1970"), DEPLOYMENTS, STATES),
        st.tuples(st.sampled_from(["damage", "prune", "correct_clock", "prune_sums"])),
    ),
    max_size=12,
)


NEW_COLUMN: Final = re.compile(r":?overdue_stages( = excluded\.overdue_stages)?, ")
"""What version 8 has added to the statement that writes a state."""
WITHOUT_SHRINKING: Final = frozenset(Stage) - {Stage.shrink}
"""It would take minutes."""


class Actions:
    """What changes the jobs of a database, each by its name."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        self.now = NOON

    def write(self, deployment: str, state: JobState) -> None:
        """Write the state of a job."""
        self.now += 20_000.0
        self._write(deployment, state, self.now)

    def write_in_1970(self, deployment: str, state: JobState) -> None:
        """Write the state of a job by a clock that is wrong."""
        self._write(deployment, state, 1_000.0)

    def _write(self, deployment: str, state: JobState, now: float) -> None:
        statement = sql.WRITE_STATE
        if schema.version(self.db) < 8:
            statement = NEW_COLUMN.sub("", statement)
        self.db.execute(statement, {**state_row(state), "deployment": deployment, "now": now})

    def damage(self) -> None:
        """Damage the last row."""
        self.db.execute("UPDATE jobs SET job = '{' WHERE rowid = (SELECT max(rowid) FROM jobs)")

    def prune(self) -> None:
        """Delete a job that has not changed for long, with its portion."""
        values = {"now": self.now, "jobs_for": DAY / 2, "watched": "[]", "portion": 1}
        self.db.execute(sql.PRUNE_JOBS, values)

    def correct_clock(self) -> None:
        """Correct the times that a wrong clock has written."""
        values = {"now": self.now, "earliest": clock_sql.EARLIEST}
        self.db.execute(clock_sql.CLAMP_JOBS, values)

    def prune_sums(self) -> None:
        """Delete the sums of no jobs."""
        if schema.version(self.db) >= 5:
            self.db.execute(sql.PRUNE_SUMS)


def scan(
    db: sqlite3.Connection, by: str, since: float, deployment: str | None = None
) -> dict[str, Sums]:
    """Return the sums by a scan of all jobs, in Python."""
    groups: dict[str, Sums] = defaultdict(Sums)
    rows = [row for row in db.execute("SELECT * FROM jobs") if has_ended(row)]
    for row in rows:
        job = json.loads(row["job"])
        ended_at = datetime.fromisoformat(job["datetime_completed"] or as_text(row["changed_at"]))
        if ended_at.timestamp() < since or any(is_later_twin(other, row) for other in rows):
            continue
        if deployment not in {None, row["deployment"]}:
            continue
        cost = job["job_cost"]
        is_known = cost is not None and cost < 1e9
        day = ended_at.date().isoformat()
        keys = {**job, "day": day, "month": day[:7], "status": row["status"]}
        groups[keys[by] or ""].add(
            Sums(
                jobs=1,
                input_tokens=as_count(job["input_tokens"]),
                output_tokens=as_count(job["output_tokens"]),
                cost_unknown=int(not is_known),
                cost_usd=Decimal(str(cost)) if is_known else None,
            )
        )
    return groups


def has_ended(row: sqlite3.Row) -> bool:
    """Return whether a row has a job that has ended, is not missing and not damaged."""
    return JobStatus(row["status"]).is_terminal and row["phase"] != "missing" and row["job"] != "{"


def is_later_twin(other: sqlite3.Row, row: sqlite3.Row) -> bool:
    """Return whether a row has the same job, polled later at another name of its deployment."""
    job, twin = json.loads(row["job"]), json.loads(other["job"])
    return (
        other["deployment"] != row["deployment"]
        and other["job_id"] == row["job_id"]
        and tuple(other[name] for name in ("changed_at", "deployment"))
        > tuple(row[name] for name in ("changed_at", "deployment"))
        and twin["datetime_created"] == job["datetime_created"] is not None
        and twin["datetime_completed"] == job["datetime_completed"]
    )


def as_text(time: float) -> str:
    """Return a time in whole seconds."""
    return datetime.fromtimestamp(int(time), UTC).isoformat()


def as_count(tokens: int | None) -> int:
    """Return a number of tokens that a job can have."""
    return tokens if tokens is not None and tokens <= 10**12 else 0


def a_database(version: int) -> sqlite3.Connection:
    """Return an empty database of a schema version."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    db.row_factory = sqlite3.Row
    db.executescript(f"{''.join(schema.MIGRATIONS[:version])}; PRAGMA user_version = {version}")
    return db


@settings(max_examples=150, deadline=None, phases=WITHOUT_SHRINKING)
@given(before=OPERATIONS, after=OPERATIONS)
def test_kept_sums_equal_a_scan(before: list[Any], after: list[Any]) -> None:
    """After a migration and any changes of jobs the sums of costs are those of a full scan."""
    with closing(a_database(4)) as db:
        actions = Actions(db)
        for name, *arguments in before:
            getattr(actions, name)(*arguments)
        schema.migrate(db)
        for name, *arguments in [("prune_sums",), *after]:
            getattr(actions, name)(*arguments)
            for by in GROUPS:
                for since in SINCE:
                    assert read_costs(db, by, since) == scan(db, by, since), (name, by, since)
            for by in GROUPS:
                of_first = read_costs(db, by, SINCE[1], "first")
                assert of_first == scan(db, by, SINCE[1], "first"), (name, by)
        actions.prune_sums()
        assert not db.execute("SELECT 1 FROM job_sums WHERE jobs <= 0").fetchall()

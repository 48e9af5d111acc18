"""The sums of costs in version 5 of the schema: triggers keep them right.

The jobs that ended on one day are summed by model and by name. `is_twin` marks a job that counts
under another name of its deployment. The texts are templates: `{row}` is the table or trigger row
that has the job.
"""

from typing import Final

_HAS_ENDED: Final = """
    {row}.status IN ('SUCCEEDED', 'FAILED', 'CANCELLED') AND {row}.phase <> 'missing'
    AND json_valid({row}.job)
"""

ENDED_AT: Final = f"""
    CASE WHEN {_HAS_ENDED} AND NOT {{row}}.is_twin
         THEN coalesce(json_extract({{row}}.job, '$.datetime_completed'),
                       strftime('%Y-%m-%dT%H:%M:%SZ', {{row}}.changed_at, 'unixepoch'), '')
    END
"""
"""By the API, else when the end was observed; NULL for a job that does not count."""

COST: Final = """CASE WHEN json_extract({row}.job, '$.job_cost') BETWEEN 0 AND 1e9
                THEN CAST(json_extract({row}.job, '$.job_cost') AS REAL)
           END"""

_COUNTED_JOB: Final = f"""
    SELECT {{sign}}1 AS sign, {ENDED_AT} AS ended_at,
           CAST(coalesce(json_extract({{row}}.job, '$.model'), '') AS TEXT) AS model,
           CAST(coalesce(json_extract({{row}}.job, '$.name'), '') AS TEXT) AS name,
           CASE WHEN json_extract({{row}}.job, '$.input_tokens') BETWEEN 0 AND 1e12
                THEN CAST(json_extract({{row}}.job, '$.input_tokens') AS INTEGER) ELSE 0
           END AS input_tokens,
           CASE WHEN json_extract({{row}}.job, '$.output_tokens') BETWEEN 0 AND 1e12
                THEN CAST(json_extract({{row}}.job, '$.output_tokens') AS INTEGER) ELSE 0
           END AS output_tokens,
           {COST} AS cost
    {{source}}
     WHERE {ENDED_AT} IS NOT NULL
"""
"""A number that no job can have would overflow a sum, and counts as unknown."""

TRILLIONTHS: Final = """CAST(
             CASE WHEN cost < 1e3 THEN round((cost - CAST(cost AS INTEGER)) * 1e12)
                  WHEN cost < 1e6 THEN round((cost - CAST(cost AS INTEGER)) * 1e9) * 1e3
                  ELSE round((cost - CAST(cost AS INTEGER)) * 1e6) * 1e6
             END AS INTEGER)"""
"""The part of a cost below one dollar."""

_SUMMANDS: Final = f"""
           substr(ended_at, 1, 10) AS day, sign AS jobs,
           sign * input_tokens AS input_tokens, sign * output_tokens AS output_tokens,
           sign * (cost IS NULL) AS cost_unknown,
           sign * coalesce(CAST(cost AS INTEGER), 0) AS dollars,
           sign * coalesce({TRILLIONTHS}, 0) AS trillionths
"""
"""A cost is two whole numbers, which are subtracted again without an error.

They have its first 15 digits: a floating-point number holds no more of what the API wrote.
"""

_ADD_JOBS: Final = """
    INSERT INTO job_sums
    SELECT kind, iif(kind = 'model', model, name), {summands}
      FROM ({jobs} LIMIT -1)
     CROSS JOIN (SELECT 'model' AS kind UNION ALL SELECT 'name')
     WHERE true
    ON CONFLICT DO UPDATE
       SET jobs = jobs + excluded.jobs,
           input_tokens = input_tokens + excluded.input_tokens,
           output_tokens = output_tokens + excluded.output_tokens,
           cost_unknown = cost_unknown + excluded.cost_unknown,
           dollars = dollars + excluded.dollars,
           trillionths = trillionths + excluded.trillionths;
"""
"""The limit, which is none, keeps SQLite from computing a job once for each kind."""

_MARK_TWINS: Final = """
    UPDATE jobs
       SET is_twin = NOT is_twin
     WHERE {condition}
       AND is_twin <> EXISTS (
            SELECT 1
              FROM deployments AS others
             CROSS JOIN jobs AS twin
             WHERE twin.deployment = others.deployment
               AND twin.job_id = jobs.job_id
               AND (twin.changed_at, twin.deployment) > (jobs.changed_at, jobs.deployment)
               AND CASE WHEN {twin_has_ended} AND json_valid(jobs.job)
                        THEN json_extract(twin.job, '$.datetime_created')
                             = json_extract(jobs.job, '$.datetime_created')
                         AND json_extract(twin.job, '$.datetime_completed')
                             IS json_extract(jobs.job, '$.datetime_completed')
                   END
           );
"""
"""A job that was polled at two names of one deployment is one job: its times are the same."""

_OF_JOB: Final = "job_id = {row}.job_id AND deployment IN (SELECT deployment FROM deployments)"
_HAS_OTHERS: Final = """
    (SELECT min(deployment) FROM jobs) <> {row}.deployment
    OR (SELECT max(deployment) FROM jobs) <> {row}.deployment
"""
"""Quick, and true if a job may have rows of other deployments."""


def _add_jobs(*jobs: str) -> str:
    return _ADD_JOBS.format(summands=_SUMMANDS, jobs=" UNION ALL ".join(jobs))


def _mark_twins(condition: str) -> str:
    return _MARK_TWINS.format(condition=condition, twin_has_ended=_HAS_ENDED.format(row="twin"))


def _trigger(name: str, event: str, condition: str, work: str) -> str:
    return f"CREATE TRIGGER {name} AFTER {event} ON jobs WHEN {condition} BEGIN {work} END;\n"


def _twin_trigger(name: str, event: str, row: str) -> str:
    work = _mark_twins(_OF_JOB.format(row=row))
    return _trigger(name, event, _HAS_OTHERS.format(row=row), work)


_OLD_JOB: Final = _COUNTED_JOB.format(row="old", sign="-", source="")
_NEW_JOB: Final = _COUNTED_JOB.format(row="new", sign="", source="")
_ANY_JOB: Final = _COUNTED_JOB.format(row="jobs", sign="", source="FROM jobs")
ADD_ALL_JOBS: Final = _add_jobs(_ANY_JOB)


def counted_jobs(condition: str) -> str:
    """Return the query of the jobs that count and fulfil a condition, with what is summed."""
    return f"SELECT *, {_SUMMANDS} FROM ({_ANY_JOB} AND {condition} LIMIT -1)"  # noqa: S608 - constants


_VIEW: Final = """
CREATE VIEW counted_jobs AS
SELECT *, {summands}
  FROM ({jobs});
"""


def view_of_jobs(columns: str = "") -> str:
    """Return what creates the view of all jobs that count, with further columns."""
    jobs = _COUNTED_JOB.format(row="jobs", sign="", source=f"{columns}FROM jobs")
    return _VIEW.format(summands=_SUMMANDS, jobs=jobs)


_TABLE: Final = """
CREATE TABLE job_sums (
    kind          TEXT NOT NULL,
    key           TEXT NOT NULL,
    day           TEXT NOT NULL,
    jobs          INTEGER NOT NULL,
    input_tokens  INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    cost_unknown  INTEGER NOT NULL,
    dollars       INTEGER NOT NULL,
    trillionths   INTEGER NOT NULL,
    PRIMARY KEY (kind, key, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX job_sums_empty ON job_sums (kind) WHERE jobs = 0;
"""

_IS_CHANGED: Final = f"""
    {ENDED_AT.format(row="old")} IS NOT {ENDED_AT.format(row="new")}
    OR ({ENDED_AT.format(row="new")} IS NOT NULL AND old.job <> new.job)
"""

COSTS: Final = "".join(
    (
        "ALTER TABLE jobs ADD COLUMN is_twin INTEGER NOT NULL DEFAULT 0;",
        f"CREATE INDEX jobs_by_end ON jobs ({ENDED_AT.replace('{row}.', '')});",
        view_of_jobs(),
        _TABLE,
        _mark_twins("(SELECT count(*) FROM deployments) > 1"),
        ADD_ALL_JOBS,
        _trigger("ended_job_added", "INSERT", _HAS_ENDED.format(row="new"), _add_jobs(_NEW_JOB)),
        _trigger("ended_job_changed", "UPDATE", _IS_CHANGED, _add_jobs(_OLD_JOB, _NEW_JOB)),
        _trigger("ended_job_deleted", "DELETE", _HAS_ENDED.format(row="old"), _add_jobs(_OLD_JOB)),
        _twin_trigger("twin_added", "INSERT", "new"),
        _twin_trigger("twin_changed", "UPDATE OF phase, status, job, changed_at", "new"),
        _twin_trigger("twin_deleted", "DELETE", "old"),
    )
)

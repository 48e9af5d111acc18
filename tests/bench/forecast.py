"""Measure expected ends on jobs that the history has not seen: python -m tests.bench.forecast.

Jobs are sent at random, and what is expected of each is asked when it is sent, when it starts and
at fixed ages, of a history that has only the jobs that had ended by then. A workload of a file is
measured with `python -m tests.bench.forecast FILE`: a CSV, gzipped or not, with the columns
submit_s, queue_s, run_s, and group and feat, which stand for the model and the number of rows.
"""

import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from poller.core.duration_history import DurationHistory
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from tests.bench import results
from tests.bench.forecast_jobs import CHANGE, CHANGING, SEED, STEADY, Work, read, send
from tests.bench.overdue_alarms import alarm_shares

EPOCH: Final = datetime(2024, 1, 1, tzinfo=UTC)
WARM_UP: Final = 500
"""The first jobs, which only fill the history."""
AFTER_CHANGE: Final = 500
AGES: Final = (60.0, 600.0, 3_600.0)
"""Seconds of running at which a job that has not ended is asked for."""
ENDED: Final = "ended"
SENT: Final = "when sent"
MEDIAN_TARGET: Final = (0.42, 0.58)
LATE_TARGET: Final = (0.92, 0.98)
MAX_ALARMS: Final = 0.02


@dataclass(slots=True)
class Calibration:
    """How often an end was asked for and expected, and how many came before each quantile."""

    asked: int = 0
    expected: int = 0
    before_p50: int = 0
    before_p95: int = 0

    def add(self, other: "Calibration") -> None:
        """Add other counts."""
        self.asked += other.asked
        self.expected += other.expected
        self.before_p50 += other.before_p50
        self.before_p95 += other.before_p95

    @property
    def shares(self) -> tuple[float, float]:
        """The shares of ends before p50 and before p95."""
        return self.before_p50 / (self.expected or 1), self.before_p95 / (self.expected or 1)


class Moment(NamedTuple):
    """When a job is asked for, or ends."""

    at: float
    number: int
    label: str


def moments(work: Sequence[Work]) -> list[Moment]:
    """Return when each job is asked for, and when it ends, in the order of time."""
    return sorted(moment for number, job in enumerate(work) for moment in _of_job(number, job))


def _of_job(number: int, job: Work) -> Iterator[Moment]:
    yield Moment(job.sent_at, number, SENT)
    yield Moment(job.started_at, number, "when started")
    for age in AGES:
        if age < job.job.run:
            yield Moment(job.started_at + age, number, f"after {age:,.0f} s")
    yield Moment(job.ended_at, number, ENDED)


def job_at(work: Work, number: int, label: str) -> Job:
    """Return the object of a job at one of its moments."""
    created = EPOCH + timedelta(seconds=work.sent_at)
    is_sent, is_ended = label == SENT, label == ENDED
    status = JobStatus.QUEUED if is_sent else JobStatus.RUNNING
    return Job(
        job_id=f"job-{number}",
        model=work.job.model,
        status=JobStatus.SUCCEEDED if is_ended else status,
        num_rows=work.job.rows,
        job_priority=work.job.priority,
        datetime_created=created,
        datetime_started=None if is_sent else created + timedelta(seconds=work.job.queue),
        datetime_completed=EPOCH + timedelta(seconds=work.ended_at) if is_ended else None,
    )


def calibrate(
    work: Sequence[Work], part: Callable[[int], str | None]
) -> dict[tuple[str, str], Calibration]:
    """Return how the ends came, by the part of the jobs and by when they were asked for.

    `part` names the part of a job by its number; None for one that is not asked for.
    """
    history = DurationHistory()
    found: dict[tuple[str, str], Calibration] = {}
    for at, number, label in moments(work):
        job = job_at(work[number], number, label)
        name = part(number)
        if label == ENDED:
            history.add(job)
        elif name is not None:
            expected = history.expected_end(job, EPOCH + timedelta(seconds=at))
            ended = EPOCH + timedelta(seconds=work[number].ended_at)
            found.setdefault((name, label), Calibration()).add(
                Calibration(
                    asked=1,
                    expected=expected is not None,
                    before_p50=expected is not None and ended < expected.p50,
                    before_p95=expected is not None and ended < expected.p95,
                )
            )
    return found


def after_warm_up(number: int) -> str | None:
    """Return the part of a job of a workload that does not change."""
    return None if number < WARM_UP else ""


def around_change(number: int) -> str | None:
    """Return the part of a job of a workload that changes."""
    if number < CHANGE:
        return "before" if number >= WARM_UP else None
    return f"the first {AFTER_CHANGE} after" if number < CHANGE + AFTER_CHANGE else "later"


def whole(found: dict[tuple[str, str], Calibration]) -> Calibration:
    """Return the sum of all counts."""
    total = Calibration()
    for counts in found.values():
        total.add(counts)
    return total


def table(measured: dict[str, dict[tuple[str, str], Calibration]]) -> str:
    """Return all counts as a table."""
    lines = [
        "| jobs | asked | ends | expected | before p50 | before p95 |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for name, found in measured.items():
        for (part, label), counts in found.items():
            p50, p95 = (f"{share:.1%}" if counts.expected else "" for share in counts.shares)
            jobs = f"{name}, {part}" if part else name
            expected = f"{counts.expected / counts.asked:.0%}"
            lines.append(f"| {jobs} | {label} | {counts.asked:,} | {expected} | {p50} | {p95} |")
    return "\n".join(lines)


HOW: Final = f"""\
Jobs that are sent at random, seed {SEED}. What is expected of each is asked of a history of those
that had ended by then: when it is sent, when it starts, and after some time of running. The first
{WARM_UP} jobs only fill the history. The ends that came before what was expected are counted."""


def chapter() -> results.Chapter:
    """Measure all workloads; the targets are for those that do not change."""
    steady = {name: calibrate(send(draw), after_warm_up) for name, draw in STEADY.items()}
    changing = {name: calibrate(send(draw), around_change) for name, draw in CHANGING.items()}
    rows = [
        results.Row(
            what=f"{name}: ends before {quantile}",
            figure=f"{share:.1%}",
            to_reach=f"{least:.0%} to {most:.0%}",
            is_reached=least <= share <= most,
        )
        for name, found in steady.items()
        for quantile, share, (least, most) in zip(
            ("p50", "p95"), whole(found).shares, (MEDIAN_TARGET, LATE_TARGET), strict=True
        )
    ]
    rows += [
        results.Row(
            what=f"{name}: normal jobs that are overdue",
            figure=f"{share:.1%}",
            to_reach=f"at most {MAX_ALARMS:.0%}",
            is_reached=share <= MAX_ALARMS,
        )
        for name, draw in STEADY.items()
        for share in alarm_shares(send(draw), after_warm_up).values()
    ]
    rows += [
        results.Row(what=f"{name}, {part}: normal jobs that are overdue", figure=f"{share:.1%}")
        for name, draw in CHANGING.items()
        for part, share in alarm_shares(send(draw), around_change).items()
    ]
    return results.Chapter("Expected ends", HOW, rows, table(steady | changing))


def main() -> None:
    """Print the figures of a file, or of all workloads."""
    if sys.argv[1:]:
        for path in sys.argv[1:]:
            print(alarm_shares(read(Path(path)), after_warm_up))  # noqa: T201 - the figures
        measured = {
            Path(path).name: calibrate(read(Path(path)), after_warm_up) for path in sys.argv[1:]
        }
        print(table(measured))  # noqa: T201 - the figures
    else:
        print(chapter())  # noqa: T201 - the figures


if __name__ == "__main__":
    main()

"""The jobs of one simulated account."""

import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from itertools import count, islice
from typing import Any, Final, NamedTuple

from aiohttp import web

from poller.sutro.simulator.faults import Fault, Kind
from poller.sutro.simulator.script import JobScript, SimulatedJob

LOG_ENTRIES: Final = 10_000


class Entry(NamedTuple):
    """One request and the status of its response."""

    at: float
    method: str
    path: str
    status: int


@dataclass(slots=True, kw_only=True, eq=False)
class Simulator:
    """The jobs of one simulated account, and a log of the requests.

    `now` returns seconds since 1970. `requests` counts API requests by kind, `log` keeps the last
    LOG_ENTRIES requests of any kind. `faults` make the next requests fail, one after the other.
    The rows of the list show each job as it was `list_delay` seconds ago. `suffix` ends the IDs
    that the simulator chooses.

    A submission gets the first of `next_submissions`, and else the next of `submissions` in turn:
    fields of its script.
    """

    now: Callable[[], float] = time.time
    speed: float = 1.0
    list_delay: float = 0.0
    key: str = "sk_simulator"
    suffix: str = ""
    prefixes: tuple[str, ...] = ("", "/v1")
    submissions: tuple[dict[str, Any], ...] = ({},)
    next_submissions: deque[dict[str, Any]] = field(default_factory=deque, init=False)
    requests: Counter[Kind] = field(default_factory=Counter, init=False)
    log: deque[Entry] = field(default_factory=lambda: deque(maxlen=LOG_ENTRIES), init=False)
    faults: list[Fault] = field(default_factory=list, init=False)
    _jobs: dict[str, SimulatedJob] = field(default_factory=dict, init=False)
    _submitted: Iterator[int] = field(default_factory=count, init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1), init=False)

    def add(self, script: JobScript) -> None:
        """Create a job now. Raises ValueError when its ID exists already."""
        if script.job_id in self._jobs:
            raise ValueError(f"there is a job with ID {script.job_id} already")
        self._jobs[script.job_id] = SimulatedJob(
            script=script, number=next(self._numbers), created=self.now(), speed=self.speed
        )
        if script.fault:
            self.faults.append(replace(script.fault, job_id=script.job_id))

    def remove(self, job_id: str) -> bool:
        """Remove a job; return whether it existed."""
        return self._jobs.pop(job_id, None) is not None

    def cancel(self, job: SimulatedJob) -> bool:
        """Cancel a job now; return whether it had not ended."""
        now = self.now()
        if job.status(now).is_terminal:
            return False
        self._jobs[job.script.job_id] = job.cancelled(now)
        return True

    @property
    def job_ids(self) -> Collection[str]:
        """The IDs of all jobs, the oldest first."""
        return self._jobs.keys()

    def free_id(self) -> str:
        """Return an ID that no job has."""
        ids = (f"job-{number}{self.suffix}" for number in count(len(self._jobs) + 1))
        return next(job_id for job_id in ids if job_id not in self._jobs)

    def take_submission(self) -> dict[str, Any]:
        """Return the fields for the next submission; those that take turns choose an ID once."""
        if self.next_submissions:
            return self.next_submissions.popleft()
        fields = self.submissions[next(self._submitted) % len(self.submissions)]
        is_used = fields.get("job_id") in self._jobs
        return {name: fields[name] for name in fields if not (is_used and name == "job_id")}

    def find(self, job_id: str) -> SimulatedJob | None:
        """Return a job that the API shows."""
        job = self._jobs.get(job_id)
        return job if job and job.appears <= self.now() else None

    def page(self, limit: int | None, before: int | None) -> list[SimulatedJob]:
        """Return jobs of the list, newest first: at most `limit`, with numbers below `before`."""
        now = self.now()
        shown = (
            job
            for job in reversed(self._jobs.values())
            if job.is_listed(now) and (before is None or job.number < before)
        )
        return list(islice(shown, limit))

    def take_fault(self, kind: Kind, job_id: str | None = None) -> Fault | None:
        """Return the next fault for such a request, and count it as used."""
        for index, fault in enumerate(self.faults):
            if fault.concerns(kind, job_id):
                rest = [replace(fault, count=fault.count - 1)] if fault.count > 1 else []
                self.faults[index : index + 1] = rest
                return fault
        return None


SIMULATOR: Final = web.AppKey("SIMULATOR", Simulator)

"""A faithful Sutro API on loopback, whose jobs follow scripts.

To `Authorization: Key <key>` it responds like the real one, under each of its prefixes:

    GET    /jobs/{job_id}            one job object
    GET    /list-jobs                all of them, newest first; pages with `limit` and `cursor`
    GET    /job-status/{job_id}      the status alone, as the official SDK polls it

It is steered without a key:

    POST   /simulator/jobs           the fields of `JobScript`, all optional; returns the job ID
    DELETE /simulator/jobs/{job_id}  remove the job
    POST   /simulator/faults         the fields of `Fault`: make the next requests fail
    DELETE /simulator/faults         remove all faults
    POST   /simulator/key            `{"key": "sk_..."}`: accept only this key

It reads the clock that it was given and never waits: a job is computed when it is requested.
"""

import os
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from itertools import count, islice
from typing import Final, NamedTuple

import anyio
from aiohttp import web

from poller.core.errors import ConfigError
from poller.sutro.simulator.requests import (
    Fault,
    KeyChange,
    Kind,
    Page,
    read_body,
    read_query,
    write_cursor,
)
from poller.sutro.simulator.script import JobScript, SimulatedJob

LOOPBACK: Final = "127.0.0.1"
LOG_ENTRIES: Final = 10_000
SHUTDOWN_SECONDS: Final = 1.0


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
    The rows of the list show each job as it was `list_delay` seconds ago.
    """

    now: Callable[[], float] = time.time
    speed: float = 1.0
    list_delay: float = 0.0
    key: str = "sk_simulator"
    prefixes: tuple[str, ...] = ("", "/v1")
    requests: Counter[Kind] = field(default_factory=Counter, init=False)
    log: deque[Entry] = field(default_factory=lambda: deque(maxlen=LOG_ENTRIES), init=False)
    faults: list[Fault] = field(default_factory=list, init=False)
    _jobs: dict[str, SimulatedJob] = field(default_factory=dict, init=False)
    _numbers: Iterator[int] = field(default_factory=lambda: count(1), init=False)

    def add(self, script: JobScript) -> None:
        """Create a job now. Raises ValueError when its ID exists already."""
        if script.job_id in self._jobs:
            raise ValueError(f"there is a job with ID {script.job_id} already")
        self._jobs[script.job_id] = SimulatedJob(
            script=script, number=next(self._numbers), created=self.now(), speed=self.speed
        )

    def remove(self, job_id: str) -> bool:
        """Remove a job; return whether it existed."""
        return self._jobs.pop(job_id, None) is not None

    @property
    def job_ids(self) -> Collection[str]:
        """The IDs of all jobs, the oldest first."""
        return self._jobs.keys()

    def free_id(self) -> str:
        """Return an ID that no job has."""
        ids = (f"job-{number}" for number in count(len(self._jobs) + 1))
        return next(job_id for job_id in ids if job_id not in self._jobs)

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

    def take_fault(self, kind: Kind) -> Fault | None:
        """Return the next fault for a request of this kind, and count it as used."""
        for index, fault in enumerate(self.faults):
            if fault.path in (None, kind):
                rest = [replace(fault, count=fault.count - 1)] if fault.count > 1 else []
                self.faults[index : index + 1] = rest
                return fault
        return None


SIMULATOR: Final = web.AppKey("SIMULATOR", Simulator)


def serve(simulator: Simulator, *, port: int = 0) -> AbstractAsyncContextManager[str]:
    """Return a context that serves the API of a simulator like `listen`."""
    return listen(application(simulator), port)


@asynccontextmanager
async def listen(app: web.Application, port: int = 0) -> AsyncIterator[str]:
    """Serve an application on loopback, and nowhere else, and yield its base URL.

    Port 0 takes any that is free. Raises ConfigError where it cannot listen.
    """
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=SHUTDOWN_SECONDS)
    await runner.setup()
    try:
        yield await _listen(runner, port)
    finally:
        with anyio.move_on_after(2 * SHUTDOWN_SECONDS, shield=True):
            await runner.cleanup()


async def _listen(runner: web.AppRunner, port: int) -> str:
    try:
        await web.TCPSite(runner, LOOPBACK, port).start()
    except OSError as error:
        why = os.strerror(error.errno or 0)
        raise ConfigError(
            f"the simulator cannot listen on port {port}: {why}; use another"
        ) from None
    return f"http://{LOOPBACK}:{runner.addresses[0][1]}"


def application(simulator: Simulator) -> web.Application:
    """Return the web application of a simulator."""
    app = web.Application()
    app[SIMULATOR] = simulator
    app.on_response_prepare.append(_stamp)
    for prefix in simulator.prefixes:
        app.router.add_get(prefix + "/jobs/{job_id}", _guarded("jobs", _get_job))
        app.router.add_get(prefix + "/list-jobs", _guarded("list-jobs", _list_jobs))
        app.router.add_get(prefix + "/job-status/{job_id}", _guarded("job-status", _get_status))
    app.router.add_post("/simulator/jobs", _add_job)
    app.router.add_delete("/simulator/jobs/{job_id}", _remove_job)
    app.router.add_post("/simulator/faults", _add_fault)
    app.router.add_delete("/simulator/faults", _clear_faults)
    app.router.add_post("/simulator/key", _change_key)
    return app


async def _stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Log a response and date it by the simulator's clock, which may be virtual."""
    simulator = request.app[SIMULATOR]
    now = simulator.now()
    response.headers["Date"] = formatdate(now, usegmt=True)
    simulator.log.append(Entry(now, request.method, request.path_qs, response.status))


def _guarded(
    kind: Kind, handler: Callable[[Simulator, web.Request], web.Response]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Wrap an API handler: faults first, then the check of the key."""

    async def respond(request: web.Request) -> web.Response:
        simulator = request.app[SIMULATOR]
        simulator.requests[kind] += 1
        if fault := simulator.take_fault(kind):
            return _fail(fault)
        if request.headers.get("Authorization") != f"Key {simulator.key}":
            return _json_response("The API key is not valid.", status=401)
        return handler(simulator, request)

    return respond


def _get_job(simulator: Simulator, request: web.Request) -> web.Response:
    job = simulator.find(request.match_info["job_id"])
    return web.json_response({"job": job.as_object(simulator.now())}) if job else _no_job(request)


def _get_status(simulator: Simulator, request: web.Request) -> web.Response:
    """Return the status in capitals, whatever the script's case: the SDK compares literally."""
    job = simulator.find(request.match_info["job_id"])
    if not job:
        return _no_job(request)
    now = simulator.now()
    reason = job.failure_reason(now)
    return web.json_response(
        {
            "message": "Job status retrieved.",
            "job_status": {job.script.job_id: job.status(now)},
            "metadata": {"failure_reason": reason} if reason else None,
        }
    )


def _list_jobs(simulator: Simulator, request: web.Request) -> web.Response:
    page = read_query(request, Page)
    jobs = simulator.page(page.limit and page.limit + 1, page.cursor)
    shown, now, delay = jobs[: page.limit], simulator.now(), simulator.list_delay
    is_more = len(jobs) > len(shown)
    return web.json_response(
        {
            "jobs": [job.as_row(now, delay=delay) for job in shown],
            "next_cursor": write_cursor(shown[-1].number) if is_more else None,
        }
    )


async def _add_job(request: web.Request) -> web.Response:
    simulator = request.app[SIMULATOR]
    script = await read_body(request, JobScript, job_id=simulator.free_id())
    try:
        simulator.add(script)
    except ValueError as error:
        return _json_response(str(error), status=409)
    return web.json_response({"job_id": script.job_id}, status=201)


async def _remove_job(request: web.Request) -> web.Response:
    is_gone = request.app[SIMULATOR].remove(request.match_info["job_id"])
    return web.Response(status=204) if is_gone else _no_job(request)


async def _add_fault(request: web.Request) -> web.Response:
    request.app[SIMULATOR].faults.append(await read_body(request, Fault))
    return web.Response(status=204)


async def _clear_faults(request: web.Request) -> web.Response:
    request.app[SIMULATOR].faults.clear()
    return web.Response(status=204)


async def _change_key(request: web.Request) -> web.Response:
    request.app[SIMULATOR].key = (await read_body(request, KeyChange)).key
    return web.Response(status=204)


def _fail(fault: Fault) -> web.Response:
    response = _json_response(
        f"The simulator is configured to respond with {fault.status}.", status=fault.status
    )
    if fault.retry_after is not None:
        response.headers["Retry-After"] = fault.retry_after
    return response


def _no_job(request: web.Request) -> web.Response:
    return _json_response(f"No job found with ID {request.match_info['job_id']}", status=404)


def _json_response(message: str, *, status: int) -> web.Response:
    return web.json_response({"message": message}, status=status)

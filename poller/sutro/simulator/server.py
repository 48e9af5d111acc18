"""A faithful Sutro API on loopback, whose jobs follow scripts.

To `Authorization: Key <key>` it responds like the real one, under each of its prefixes:

    GET    /jobs/{job_id}            one job object
    GET    /list-jobs                all of them, newest first; pages with `limit` and `cursor`
    GET    /job-status/{job_id}      the status alone, as the official SDK polls it
    POST   /batch-inference          submit a job
    GET    /stream-job-progress/{job_id}, POST /job-results, GET or POST /job-cancel/{job_id}

It is steered without a key:

    POST   /simulator/jobs           the fields of `JobScript`, all optional; returns the job ID
    DELETE /simulator/jobs/{job_id}  remove the job
    POST   /simulator/submissions    fields of `JobScript` for the next job that is submitted
    POST   /simulator/faults         the fields of `Fault`: make the next requests fail
    DELETE /simulator/faults         remove all faults
    POST   /simulator/key            `{"key": "sk_..."}`: accept only this key

A submission with the header `Simulator-Script` has such fields, in JSON, of its own.
It reads the clock that it was given and never waits: a job is computed when it is requested.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from email.utils import formatdate
from typing import Final

import anyio
from aiohttp import web

from poller.core.errors import ConfigError
from poller.sutro.simulator.account import SIMULATOR, Entry, Simulator
from poller.sutro.simulator.faults import Fault, Kind
from poller.sutro.simulator.requests import (
    KeyChange,
    Page,
    read_body,
    read_query,
    read_script_fields,
    write_cursor,
)
from poller.sutro.simulator.responses import message_response, no_job, shown_job
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.submissions import (
    cancel_job,
    get_results,
    stream_progress,
    submit_job,
)

__all__ = ["Entry", "Simulator", "application", "listen", "serve"]

LOOPBACK: Final = "127.0.0.1"
MAX_BODY_BYTES: Final = 2**30
SHUTDOWN_SECONDS: Final = 1.0


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
    app = web.Application(client_max_size=MAX_BODY_BYTES)
    app[SIMULATOR] = simulator
    app.on_response_prepare.append(_stamp)
    for prefix in simulator.prefixes:
        app.router.add_routes(_api_routes(prefix))
    app.router.add_post("/simulator/jobs", _add_job)
    app.router.add_delete("/simulator/jobs/{job_id}", _remove_job)
    app.router.add_post("/simulator/submissions", _choose_submission)
    app.router.add_post("/simulator/faults", _add_fault)
    app.router.add_delete("/simulator/faults", _clear_faults)
    app.router.add_post("/simulator/key", _change_key)
    return app


def _api_routes(prefix: str) -> list[web.RouteDef]:
    cancel = prefix + "/job-cancel/{job_id}", _guarded("job-cancel", cancel_job)
    progress = prefix + "/stream-job-progress/{job_id}"
    return [
        web.get(prefix + "/jobs/{job_id}", _guarded("jobs", _get_job)),
        web.get(prefix + "/list-jobs", _guarded("list-jobs", _list_jobs)),
        web.get(prefix + "/job-status/{job_id}", _guarded("job-status", _get_status)),
        web.post(prefix + "/batch-inference", _guarded("batch-inference", submit_job)),
        web.get(progress, _guarded("stream-job-progress", stream_progress)),
        web.post(prefix + "/job-results", _guarded("job-results", get_results)),
        web.get(*cancel),
        web.post(*cancel),
    ]


async def _stamp(request: web.Request, response: web.StreamResponse) -> None:
    """Log a response and date it by the simulator's clock, which may be virtual."""
    simulator = request.app[SIMULATOR]
    now = simulator.now()
    response.headers["Date"] = formatdate(now, usegmt=True)
    simulator.log.append(Entry(now, request.method, request.path_qs, response.status))


def _guarded(
    kind: Kind, handler: Callable[[Simulator, web.Request], Awaitable[web.Response]]
) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Wrap an API handler: faults first, then the check of the key."""

    async def respond(request: web.Request) -> web.Response:
        simulator = request.app[SIMULATOR]
        simulator.requests[kind] += 1
        if fault := simulator.take_fault(kind, request.match_info.get("job_id")):
            return _fail(fault)
        if request.headers.get("Authorization") != f"Key {simulator.key}":
            return message_response("The API key is not valid.", status=401)
        return await handler(simulator, request)

    return respond


async def _get_job(simulator: Simulator, request: web.Request) -> web.Response:
    job = shown_job(simulator, request.match_info["job_id"])
    return web.json_response({"job": job.as_object(simulator.now())})


async def _get_status(simulator: Simulator, request: web.Request) -> web.Response:
    """Return the status in capitals, whatever the script's case: the SDK compares literally."""
    job = shown_job(simulator, request.match_info["job_id"])
    now = simulator.now()
    reason = job.failure_reason(now)
    return web.json_response(
        {
            "message": "Job status retrieved.",
            "job_status": {job.script.job_id: job.status(now)},
            "metadata": {"failure_reason": reason} if reason else None,
        }
    )


async def _list_jobs(simulator: Simulator, request: web.Request) -> web.Response:
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
        return message_response(str(error), status=409)
    return web.json_response({"job_id": script.job_id}, status=201)


async def _remove_job(request: web.Request) -> web.Response:
    job_id = request.match_info["job_id"]
    if not request.app[SIMULATOR].remove(job_id):
        raise no_job(job_id)
    return web.Response(status=204)


async def _choose_submission(request: web.Request) -> web.Response:
    request.app[SIMULATOR].next_submissions.append(
        read_script_fields(await request.read() or b"{}")
    )
    return web.Response(status=204)


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
    response = message_response(
        f"The simulator is configured to respond with {fault.status}.", status=fault.status
    )
    if fault.retry_after is not None:
        response.headers["Retry-After"] = fault.retry_after
    return response

"""The requests with which the official SDK submits, follows and cancels a job."""

import json

from aiohttp import web

from poller.core.job_status import JobStatus
from poller.sutro.simulator.account import Simulator
from poller.sutro.simulator.requests import (
    SCRIPT_HEADER,
    ResultsQuery,
    Submission,
    read_body,
    read_script_fields,
)
from poller.sutro.simulator.responses import message_response, shown_job
from poller.sutro.simulator.script import JobScript


async def submit_job(simulator: Simulator, request: web.Request) -> web.Response:
    """Create the job of a submission, with the script of its header or the one chosen before."""
    submission = await read_body(request, Submission)
    header = request.headers.get(SCRIPT_HEADER)
    chosen = read_script_fields(header) if header else simulator.take_submission()
    script = JobScript(**{"job_id": simulator.free_id()} | submission.script_fields | chosen)
    try:
        simulator.add(script)
    except ValueError as error:
        return message_response(str(error), status=409)
    message = "Job created successfully"
    return web.json_response(
        {"metadata": {"job_id": script.job_id, "message": message}, "results": script.job_id}
    )


async def cancel_job(simulator: Simulator, request: web.Request) -> web.Response:
    """Cancel a job, with GET as the SDK does it and with POST as the documentation has it."""
    job = shown_job(simulator, request.match_info["job_id"])
    is_cancelled = simulator.cancel(job)
    result = "has been cancelled" if is_cancelled else "has already ended"
    return web.json_response(
        {"cancelled": is_cancelled, "message": f"Job {job.script.job_id} {result}"}
    )


async def get_results(simulator: Simulator, request: web.Request) -> web.Response:
    """Return one output for each row of a job that has succeeded."""
    job = shown_job(simulator, (await read_body(request, ResultsQuery)).job_id)
    if job.status(simulator.now()) is not JobStatus.SUCCEEDED:
        return message_response(f"Job {job.script.job_id} has not succeeded", status=400)
    outputs = [f"Simulated output {number}" for number in range(1, job.script.rows + 1)]
    return web.json_response({"message": "Job results retrieved.", "results": {"outputs": outputs}})


async def stream_progress(simulator: Simulator, request: web.Request) -> web.Response:
    """Return the progress of this moment as a stream that ends; the SDK then polls the status."""
    job = shown_job(simulator, request.match_info["job_id"])
    update = {"update_type": "progress", "result": job.rows_done(simulator.now())}
    return web.Response(text=json.dumps(update) + "\n", content_type="application/x-ndjson")

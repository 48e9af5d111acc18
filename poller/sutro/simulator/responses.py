"""Error responses in the form of the Sutro API."""

import json

from aiohttp import web

from poller.sutro.simulator.account import Simulator
from poller.sutro.simulator.script import SimulatedJob


def message_response(message: str, *, status: int) -> web.Response:
    """Return a response with a message alone."""
    return web.json_response({"message": message}, status=status)


def no_job(job_id: str) -> web.HTTPNotFound:
    """Return the exception that responds about a job that the API does not show."""
    text = json.dumps({"message": f"No job found with ID {job_id}"})
    return web.HTTPNotFound(text=text, content_type="application/json")


def shown_job(simulator: Simulator, job_id: str) -> SimulatedJob:
    """Return a job that the API shows. Raises the 404 if there is none."""
    job = simulator.find(job_id)
    if job is None:
        raise no_job(job_id)
    return job

"""`check`: the settings as the daemon would see them, and a word from the API."""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import Final

import anyio

from poller.cli import add_env_file_argument, print_output, print_status
from poller.cli import exit_codes as codes
from poller.config import Config, describe, load
from poller.core.errors import ConfigError, NotFound, PollError
from poller.runtime import logging as logs
from poller.runtime.clock import Clock
from poller.settings.types import MEMORY
from poller.wiring import build_client, build_http

UNLIKELY_ID: Final = "sutro-poller-check"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `check` takes."""
    parser.add_argument("--api", action="store_true", help="make one request, say what it told")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    add_env_file_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Show every setting; with --api make one request."""
    config = load(os.environ, arguments.env_file, for_run=not arguments.api)
    _check_places(config)
    logs.configure("warning", "console", stream=sys.stderr, secrets=config.secrets)
    code, told = anyio.run(_ask_api, config) if arguments.api else (codes.OK, "")
    rows = describe(config)
    if arguments.output == "json":
        shown = {"settings": [row._asdict() for row in rows]} | ({"api": told} if told else {})
        print_output(json.dumps(shown, indent=2))
        return code
    names, origins = (max(len(row[column]) for row in rows) for column in (0, 2))
    for variable, value, origin in rows:
        print_output(f"{variable:{names}}  {origin:{origins}}  {value or '-'}")
    print_output(f"\n{told or 'No setting is wrong; with --api the API is asked too.'}")
    return code


def _check_places(config: Config) -> None:
    """Look whether the files can be there, without touching them. Raises ConfigError."""
    settings = config.settings
    folder = Path(settings.store).parent
    is_default = config.is_default("POLLER_STORE")  # its folder is made
    if settings.store != MEMORY and not is_default and not os.access(folder, os.W_OK | os.X_OK):
        raise ConfigError(f"POLLER_STORE: {folder} must be a folder that this user may write to")
    if settings.jobs_file and not settings.jobs_file.exists():
        print_status(
            f"POLLER_JOBS_FILE: {settings.jobs_file} is not there yet; the daemon waits for it"
        )


async def _ask_api(config: Config) -> tuple[int, str]:
    """Make one request, for the first configured job, and say what it told."""
    job_id = next(iter(config.settings.job_ids), UNLIKELY_ID)
    async with build_http(config) as http:
        client = build_client(config, http, Clock())
        try:
            job = await client.get_job(job_id)
        except NotFound:
            told = f"job {job_id} is not known to it: too new, or not of this account"
            told = f"; {told}" if config.settings.job_ids else ""  # nobody asked for that one
            return codes.OK, f"The API at {client.base} takes the key{told}."
        except PollError as error:
            told = f"The API at {client.base} cannot be used: {error}."
            return codes.for_poll_error(error), told
        return codes.OK, f"The API at {client.base} takes the key; job {job_id} is {job.status}."

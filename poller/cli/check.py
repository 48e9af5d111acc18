"""`check`: validate the settings, and optionally the connection to the API."""

import argparse
import json
import os
import sqlite3
import sys
from pathlib import Path

import anyio

from poller.advice import has_wal_reset_bug, warnings
from poller.cli import exit_codes as codes
from poller.cli import print_output, print_status
from poller.cli.arguments import add_output_arguments
from poller.config import Config, load
from poller.core.errors import ConfigError, NotFound, PollError, Unauthorized, WrongEndpoint
from poller.runtime import logging as logs
from poller.runtime.clock import Clock
from poller.settings.secrets import mask
from poller.settings.sources import MEMORY
from poller.store.file_checks import check_is_database
from poller.sutro.source import UNLIKELY_ID
from poller.wiring import build_client, build_http


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `check`."""
    parser.add_argument(
        "--api", action="store_true", help="send one request to the API and report the response"
    )
    add_output_arguments(parser)


def run(arguments: argparse.Namespace) -> int:
    """Print every setting; with --api also send one request."""
    config = load(os.environ, arguments.env_file, for_run=not arguments.api)
    _check_paths(config)
    logs.configure("warning", "console", stream=sys.stderr, secrets=config.secrets)
    code, report = anyio.run(_test_connection, config) if arguments.api else (codes.OK, "")
    rows = [
        {"variable": name, "value": mask(value), "origin": value.origin}
        for name, value in config.sourced.items()
    ]
    if arguments.output == "json":
        _print_warnings(config)
        api = {"api": report} if report else {}
        print_output(json.dumps({"settings": rows} | api, indent=2))
        return code
    names, origins = (max(len(row[key]) for row in rows) for key in ("variable", "origin"))
    for row in rows:
        print_output(f"{row['variable']:{names}}  {row['origin']:{origins}}  {row['value'] or '-'}")
    _print_warnings(config)  # after the table, which is longer than many terminals
    print_output("\n" + (report or "Configuration is valid. Use --api to test the connection."))
    return code


def _print_warnings(config: Config) -> None:
    lines = [*config.sources.file.warnings, *warnings(config)]
    if has_wal_reset_bug(sqlite3.sqlite_version_info):
        lines.append(
            f"SQLite {sqlite3.sqlite_version} may damage a database that another program, such as"
            " the sqlite3 shell, writes to while the daemon runs: use 3.51.3 or later, 3.50.7 or"
            " 3.44.6 (sqlite.org/wal.html#walresetbug)"
        )
    print_status(*(f"warning: {line}" for line in lines))


def _check_paths(config: Config) -> None:
    """Raise ConfigError unless the files can be where they are configured. Touch nothing."""
    settings = config.settings
    folder = Path(settings.store).parent
    if config.is_default("POLLER_STORE"):  # `run` creates its folder
        folder = next(path for path in (folder, *folder.parents) if path.exists())
    is_writable = folder.is_dir() and os.access(folder, os.W_OK | os.X_OK)
    if settings.store != MEMORY:
        if not is_writable:
            rule = "must be a directory that this user can write to"
            raise ConfigError(f"POLLER_STORE: {folder} {rule}")
        check_is_database(Path(settings.store))
    if settings.jobs_file and not settings.jobs_file.is_file():
        fault = (
            "is not a regular file; the daemon cannot read it"
            if settings.jobs_file.exists()
            else "does not exist yet; the daemon waits for it"
        )
        print_status(f"POLLER_JOBS_FILE: {settings.jobs_file} {fault}")


async def _test_connection(config: Config) -> tuple[int, str]:
    """Return the exit code and the report of one request, for the first configured job."""
    job_id = next(iter(config.settings.job_ids), UNLIKELY_ID)
    async with build_http(config) as http:
        client = build_client(config, http, Clock())
        try:
            job = await client.get_job(job_id)
        except NotFound:
            unknown = f", but does not know job {job_id}: check the ID and the account"
            detail = unknown if config.settings.job_ids else ""
            return codes.OK, f"{client.base} accepted the API key{detail}."
        except PollError as error:
            is_certain = isinstance(error, Unauthorized | WrongEndpoint)
            verdict = "cannot be used" if is_certain else "has not shown whether the key is valid"
            return codes.for_error(error), f"{client.base} {verdict}: {error}."
        return codes.OK, f"{client.base} accepted the API key; job {job_id} is {job.status}."

"""The verb `wait`: arguments, exit code and what is printed."""

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio

from poller.cli import add_env_file_argument, print_error, print_output, print_status
from poller.cli import exit_codes as codes
from poller.cli.arguments import parse_job_id
from poller.cli.wait.forecast import Forecast
from poller.cli.wait.progress import progress
from poller.cli.wait.report import as_json, reasons, summary
from poller.config import Config, load
from poller.core.errors import ConfigError, PollError
from poller.core.formatting import format_duration
from poller.core.jobs import JOB_ID_RULE
from poller.core.state import JobEventType
from poller.polling.jobs_text import read_ids
from poller.polling.waiter import JobResult, JobWaiter, WaitOptions, find_latest
from poller.runtime import logging as logs
from poller.runtime.clock import Clock
from poller.settings.durations import parse_duration
from poller.store.memory import MemoryStore
from poller.sutro.client import SutroClient
from poller.wiring import build_client, build_http, build_waiter

NO_JOBS: Final = (
    "no jobs to wait for: pass IDs, use --latest, or set POLLER_JOB_IDS or POLLER_JOBS_FILE"
)

CODES: Final = {
    JobEventType.FAILED: codes.JOB_FAILED,
    JobEventType.CANCELLED: codes.JOB_CANCELLED,
    JobEventType.MISSING: codes.JOB_MISSING,
    JobEventType.UNRECOGNISED: codes.JOB_UNRECOGNISED,
}
"""The exit code of each end but success; if ends differ, the first in this order counts."""

EXIT_CODES: Final = (
    "Exit codes: 0 all succeeded, 1 a job failed, 3 one was cancelled, 4 the API does not know one,"
    " 5 one seems to have ended with an unknown status, 6 the API rejects the request for one,"
    " 69 the API was unreachable for --unreachable-after, 77 it rejects the key, 78 wrong settings,"
    " 124 --timeout, 130 interrupted."
)
ADVICE: Final = "; the jobs go on: wait for them again"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `wait`."""
    parser.epilog = EXIT_CODES
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "job_ids",
        nargs="*",
        type=parse_job_id,
        default=(),
        metavar="ID",
        help="a job ID (default: those of POLLER_JOB_IDS and POLLER_JOBS_FILE)",
    )
    which.add_argument("--latest", action="store_true", help="the newest job of the account")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--all", action="store_true", help="wait until all jobs have ended (default)")
    end.add_argument("--any", action="store_true", help="stop when the first job has ended")
    parser.add_argument(
        "--fail-fast", action="store_true", help="stop at the first job that does not succeed"
    )
    parser.add_argument(
        "--timeout",
        type=_duration,
        default=math.inf,
        metavar="DURATION",
        help="stop waiting after this long: 90s, 2h (default: never)",
    )
    parser.add_argument(
        "--unreachable-after",
        type=_duration,
        default=math.inf,
        metavar="DURATION",
        help="stop when the API has not responded for this long (default: never)",
    )
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print the result and errors, but no progress"
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    add_env_file_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Wait, print how the jobs ended, and return the exit code."""
    config = load(os.environ, arguments.env_file, for_run=False, is_delivering=False)
    config.key()  # raises when there is none
    job_ids = () if arguments.latest else tuple(arguments.job_ids) or _configured_ids(config)
    logs.configure("error", "console", stream=sys.stderr, secrets=config.secrets)
    try:
        return anyio.run(_wait, config, arguments, tuple(dict.fromkeys(job_ids)))
    except KeyboardInterrupt:
        print_error(f"interrupted{ADVICE}")
        return codes.INTERRUPTED


async def _wait(config: Config, arguments: argparse.Namespace, job_ids: Sequence[str]) -> int:
    clock = Clock()
    forecast = Forecast(config, clock)
    async with build_http(config) as http:
        client = build_client(config, http, clock)
        with progress(clock, is_quiet=arguments.quiet, expect=forecast.of) as listener:
            waiter = build_waiter(
                config,
                client,
                clock,
                store=MemoryStore(routes={}, deployment=config.origin.deployment, now=clock.steady),
                listener=listener,
                options=WaitOptions(
                    is_any=arguments.any,
                    is_fail_fast=arguments.fail_fast,
                    timeout=arguments.timeout,
                    unreachable_after=arguments.unreachable_after,
                ),
            )
            failure = await _follow(waiter, client, job_ids)
    if len(waiter.results) > 1 and not arguments.quiet:
        print_status(*reasons(waiter.results))
    return _report(waiter.results, failure, is_json=arguments.output == "json")


async def _follow(
    waiter: JobWaiter, client: SutroClient, job_ids: Sequence[str]
) -> tuple[int, str] | None:
    """Wait for these jobs, or the newest. Return exit code and message if the wait failed."""
    try:
        with anyio.fail_after(waiter.options.timeout):
            await waiter.run(
                job_ids or [await find_latest(client, waiter.listener, waiter.options)]
            )
    except TimeoutError:
        waited = format_duration(waiter.options.timeout)
        return codes.TIMED_OUT, f"timed out after {waited}{ADVICE}"
    except PollError as error:
        code = codes.for_error(error)
        return code, f"{error}{ADVICE if code == codes.UNREACHABLE else ''}"
    return None


def _report(results: Sequence[JobResult], failure: tuple[int, str] | None, *, is_json: bool) -> int:
    """Print a failure to stderr and the result to stdout; return the exit code."""
    if failure:
        print_error(failure[1])
    if is_json or results:
        print_output(as_json(results) if is_json else summary(results))
    if failure:
        return failure[0]
    ends = {result.end for result in results}
    return next((code for end, code in CODES.items() if end in ends), codes.OK)


def _configured_ids(config: Config) -> tuple[str, ...]:
    """Return the IDs of the settings and of the file. Raises ConfigError when there are none."""
    job_ids, path = config.settings.job_ids, config.settings.jobs_file
    if path:
        job_ids += _ids_in(path)
    if not job_ids:
        raise ConfigError(f"POLLER_JOBS_FILE: {path} contains no job ID" if path else NO_JOBS)
    return job_ids


def _ids_in(path: Path) -> tuple[str, ...]:
    try:
        good, bad = read_ids(path)
    except OSError as error:
        raise ConfigError(f"POLLER_JOBS_FILE: cannot read {path}: {error.strerror}") from None
    if bad:
        raise ConfigError(f"POLLER_JOBS_FILE: {path}, line {bad[0]}: {JOB_ID_RULE}")
    return good


def _duration(text: str) -> float:
    try:
        return float(str(parse_duration(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

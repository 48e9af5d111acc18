"""`wait`: the end of jobs, as an exit code."""

import argparse
import math
import os
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio

from poller.cli import add_env_file_argument, print_error, print_output, print_status
from poller.cli import exit_codes as codes
from poller.cli.wait.progress import progress
from poller.cli.wait.report import as_json, reasons, summary
from poller.config import Config, load
from poller.core.errors import ConfigError, PollError
from poller.core.formatting import format_duration
from poller.core.jobs import is_job_id
from poller.core.state import JobEventType
from poller.polling.waiter import JobResult, JobWaiter, ProgressListener, WaitOptions, find_latest
from poller.polling.watchlist import JOB_ID_RULE, parse_ids
from poller.runtime import logging as logs
from poller.runtime.clock import Clock
from poller.settings.types import parse_duration
from poller.sutro.client import SutroClient
from poller.wiring import build_client, build_http, build_rate_limiter, build_source

NO_JOBS: Final = "wait: name a job, ask for --latest, or set POLLER_JOB_IDS or POLLER_JOBS_FILE"

CODES: Final = {
    JobEventType.FAILED: codes.JOB_FAILED,
    JobEventType.CANCELLED: codes.JOB_CANCELLED,
    JobEventType.MISSING: codes.JOB_MISSING,
}
"""The exit code for each bad end; when several differ the first of them counts."""

ADVICE: Final = {
    codes.UNREACHABLE: "; the jobs go on, wait for them again",
}
"""What to do next, where the line of the error does not say it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Say what `wait` takes."""
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "job_ids",
        nargs="*",
        type=_job_id,
        default=(),
        metavar="ID",
        help="a job; without one those of POLLER_JOB_IDS and POLLER_JOBS_FILE",
    )
    which.add_argument("--latest", action="store_true", help="the newest job of the account")
    end = parser.add_mutually_exclusive_group()
    end.add_argument("--all", action="store_true", help="until all have ended (the default)")
    end.add_argument("--any", action="store_true", help="until the first has ended")
    parser.add_argument(
        "--fail-fast", action="store_true", help="until one does not succeed, at the latest"
    )
    parser.add_argument(
        "--timeout",
        type=_duration,
        default=math.inf,
        metavar="D",
        help="give up after 90s, 2h, ...; never unless told",
    )
    parser.add_argument(
        "--unreachable-after",
        type=_duration,
        default=math.inf,
        metavar="D",
        help="give up when no answer came for so long; never unless told",
    )
    parser.add_argument("-o", "--output", choices=("text", "json"), default="text")
    add_env_file_argument(parser)


def run(arguments: argparse.Namespace) -> int:
    """Wait, say how it ended, and give the exit code for that."""
    config = load(os.environ, arguments.env_file, for_run=False, is_delivering=False)
    config.key()  # raises when there is none
    job_ids = () if arguments.latest else tuple(arguments.job_ids) or _configured_ids(config)
    logs.configure("error", "console", stream=sys.stderr, secrets=config.secrets)
    return anyio.run(_wait, config, arguments, tuple(dict.fromkeys(job_ids)))


async def _wait(config: Config, arguments: argparse.Namespace, job_ids: Sequence[str]) -> int:
    clock = Clock()
    async with build_http(config) as http:
        client = build_client(config, http, clock)
        with progress(clock) as listener:
            waiter = _make_waiter(config, client, clock, listener, _terms(arguments))
            obstacle = await _follow(waiter, client, job_ids)
    return _report(waiter.results, obstacle, is_json=arguments.output == "json")


async def _follow(
    waiter: JobWaiter, client: SutroClient, job_ids: Sequence[str]
) -> tuple[int, str] | None:
    """Wait for these jobs, or the newest. Give the code and the line of what kept from that."""
    try:
        with anyio.fail_after(waiter.options.timeout):
            await waiter.run(
                job_ids or [await find_latest(client, waiter.listener, waiter.options)]
            )
    except TimeoutError:
        waited = format_duration(waiter.options.timeout)
        told = f"gave up after {waited}: the jobs go on, wait for them again"
        return codes.TIMED_OUT, told
    except PollError as error:
        code = codes.for_poll_error(error)
        return code, f"{error}{ADVICE.get(code, '')}"
    return None


def _report(
    results: Sequence[JobResult], obstacle: tuple[int, str] | None, *, is_json: bool
) -> int:
    """Say how it ended: reasons and obstacles on stderr, the result on stdout."""
    if len(results) > 1:
        print_status(*reasons(results))
    if obstacle:
        print_error(obstacle[1])
    if is_json or results:
        print_output(as_json(results) if is_json else summary(results))
    ends = {it.end for it in results}
    return obstacle[0] if obstacle else next((CODES[it] for it in CODES if it in ends), codes.OK)


def _make_waiter(
    config: Config,
    client: SutroClient,
    clock: Clock,
    listener: ProgressListener,
    terms: WaitOptions,
) -> JobWaiter:
    rate_limiter = build_rate_limiter(config, clock, random.random)
    return JobWaiter(
        source=build_source(config, client, rate_limiter, clock, on_reload_error=listener.report),
        listener=listener,
        clock=clock,
        options=terms,
        policy=config.poll_policy,
        rules=config.lifecycle_policy,
        concurrency=config.settings.concurrency,
    )


def _terms(arguments: argparse.Namespace) -> WaitOptions:
    return WaitOptions(
        is_any=arguments.any,
        is_fail_fast=arguments.fail_fast,
        timeout=arguments.timeout,
        unreachable_after=arguments.unreachable_after,
    )


def _configured_ids(config: Config) -> tuple[str, ...]:
    """Give the ids of the settings and of the file. Raises ConfigError when there are none."""
    job_ids, path = config.settings.job_ids, config.settings.jobs_file
    if path:
        job_ids += _ids_in(path)
    if not job_ids:
        raise ConfigError(f"POLLER_JOBS_FILE: {path} names no job" if path else NO_JOBS)
    return job_ids


def _ids_in(path: Path) -> tuple[str, ...]:
    try:
        good, bad = parse_ids(path.read_text(encoding="utf-8-sig", errors="replace"))
    except OSError as error:
        raise ConfigError(f"POLLER_JOBS_FILE: cannot read {path}: {error.strerror}") from None
    if bad:
        raise ConfigError(f"POLLER_JOBS_FILE: {path}, line {bad[0]}: {JOB_ID_RULE}")
    return good


def _job_id(text: str) -> str:
    if not is_job_id(text):
        raise argparse.ArgumentTypeError(f"{text[:64]!r}: {JOB_ID_RULE}")
    return text


def _duration(text: str) -> float:
    try:
        return float(str(parse_duration(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

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

from poller.cli import complain, env_file_argument, note, say
from poller.cli import exit_codes as codes
from poller.cli.wait.engine import Onlooker, Standing, Terms, Waiter, find_latest
from poller.cli.wait.progress import progress
from poller.cli.wait.report import as_json, reasons, span, summary
from poller.config import Config, load
from poller.core.errors import ConfigError, PollError
from poller.core.jobs import is_job_id
from poller.core.lifecycle import Rules
from poller.core.state import JobEvent
from poller.polling.watchlist import RULE, parse_ids
from poller.runtime import logging as logs
from poller.runtime.clock import Clock
from poller.settings.types import seconds
from poller.sutro.client import SutroClient
from poller.sutro.list_planner import Listing
from poller.sutro.rate_limit import Budget
from poller.sutro.source import SutroSource
from poller.wiring import make_client, make_http, pace

NO_JOBS: Final = "wait: name a job, ask for --latest, or set POLLER_JOB_IDS or POLLER_JOBS_FILE"

CODES: Final = {
    JobEvent.FAILED: codes.JOB_FAILED,
    JobEvent.CANCELLED: codes.JOB_CANCELLED,
    JobEvent.MISSING: codes.JOB_MISSING,
}
"""The exit code for each bad end; when several differ the first of them counts."""

ADVICE: Final = {
    codes.UNREACHABLE: "; the jobs go on, wait for them again",
}
"""What to do next, where the line of the error does not say it."""


def arguments(parser: argparse.ArgumentParser) -> None:
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
    env_file_argument(parser)


def execute(arguments: argparse.Namespace) -> int:
    """Wait, say how it ended, and give the exit code for that."""
    config = load(os.environ, arguments.env_file, for_run=False, is_delivering=False)
    config.key()  # raises when there is none
    job_ids = () if arguments.latest else tuple(arguments.job_ids) or _configured_ids(config)
    logs.configure("error", "console", stream=sys.stderr, secrets=config.secrets)
    return anyio.run(_wait, config, arguments, tuple(dict.fromkeys(job_ids)))


async def _wait(config: Config, arguments: argparse.Namespace, job_ids: Sequence[str]) -> int:
    clock = Clock()
    async with make_http(config) as http:
        client = make_client(config, http, clock)
        with progress(clock) as onlooker:
            waiter = _make_waiter(config, client, clock, onlooker, _terms(arguments))
            obstacle = await _follow(waiter, client, job_ids)
    return _report(waiter.standings, obstacle, is_json=arguments.output == "json")


async def _follow(
    waiter: Waiter, client: SutroClient, job_ids: Sequence[str]
) -> tuple[int, str] | None:
    """Wait for these jobs, or the newest. Give the code and the line of what kept from that."""
    try:
        with anyio.fail_after(waiter.terms.timeout):
            await waiter.run(job_ids or [await find_latest(client, waiter.onlooker, waiter.terms)])
    except TimeoutError:
        told = f"gave up after {span(waiter.terms.timeout)}: the jobs go on, wait for them again"
        return codes.TIMED_OUT, told
    except PollError as error:
        code = codes.of_trouble(error)
        return code, f"{error}{ADVICE.get(code, '')}"
    return None


def _report(
    standings: Sequence[Standing], obstacle: tuple[int, str] | None, *, is_json: bool
) -> int:
    """Say how it ended: reasons and obstacles on stderr, the result on stdout."""
    if len(standings) > 1:
        note(*reasons(standings))
    if obstacle:
        complain(obstacle[1])
    if is_json or standings:
        say(as_json(standings) if is_json else summary(standings))
    ends = {it.end for it in standings}
    return obstacle[0] if obstacle else next((CODES[it] for it in CODES if it in ends), codes.OK)


def _make_waiter(
    config: Config, client: SutroClient, clock: Clock, onlooker: Onlooker, terms: Terms
) -> Waiter:
    settings, now = config.settings, clock.steady

    def renew_key() -> None:
        for problem in config.refresh():
            onlooker.tell(problem)

    budget = Budget(per_minute=settings.requests_per_minute, now=now, random=random.random)
    return Waiter(
        source=SutroSource(
            client,
            budget,
            listing=Listing(now, is_on=settings.listing != "off"),
            now=now,
            renew_key=renew_key,
        ),
        onlooker=onlooker,
        clock=clock,
        terms=terms,
        policy=pace(settings),
        rules=Rules(settings.settle_timeout, settings.not_found_grace),
        concurrency=settings.concurrency,
    )


def _terms(arguments: argparse.Namespace) -> Terms:
    return Terms(
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
        raise ConfigError(f"POLLER_JOBS_FILE: {path}, line {bad[0]}: {RULE}")
    return good


def _job_id(text: str) -> str:
    if not is_job_id(text):
        raise argparse.ArgumentTypeError(f"{text[:64]!r}: {RULE}")
    return text


def _duration(text: str) -> float:
    try:
        return float(str(seconds(text)))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None

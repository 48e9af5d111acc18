"""The client of the Sutro API: URLs, headers, limits, and the meaning of each status."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, urlencode, urlsplit

import structlog
from pydantic import SecretStr

from poller.core.counters import Counters
from poller.core.errors import (
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    ResponseTooLarge,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.jobs import Job, is_unchanged
from poller.core.parsing import parse_job
from poller.runtime.http_client import HttpClient
from poller.runtime.http_headers import http_date, retry_after
from poller.runtime.http_values import NoResponse, Response
from poller.sutro.clock_skew import ClockSkew
from poller.sutro.decoding import decode
from poller.sutro.port import Known

JOB_BYTES_CAP: Final = 4 * 1024 * 1024
PAGE_BYTES_CAP: Final = 16 * 1024 * 1024
MESSAGE_CHARS_CAP: Final = 64 * 1024
RETRY_AFTER_CAP: Final = 3_600.0
SECONDS_PER_CENTURY: Final = 100 * 365 * 86_400.0
"""No two clocks are that far apart: such a `Date` is junk."""
PUBLIC_HOST: Final = "api.sutro.sh"
OWN_DEPLOYMENT: Final = "for a deployment of your own, set SUTRO_API_URL"

STATUSES: Final[tuple[tuple[int, int, type[PollError], str], ...]] = (
    (404, 404, WrongEndpoint, "this server is not the Sutro API"),
    (408, 408, Transient, "the API timed out"),
    (425, 425, Transient, "the API asks for a retry"),
    (501, 501, Rejected, "this server does not support the request"),
    (0, 299, MalformedResponse, "the response has no content"),
    (300, 399, WrongEndpoint, "the server redirects, which is never followed"),
    (400, 499, Rejected, "the API rejects this request"),
    (500, 999, Transient, "the API failed"),
)
"""The meaning of a status, by its first and last number. The first row that fits counts."""

NOT_THE_API: Final = (WrongEndpoint, MalformedResponse, Rejected)
"""Errors of a place where the API is not."""

log = structlog.get_logger()


def no_known_jobs(_job_id: str) -> None:
    """Return None: each job is read anew."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """A page of the account's jobs, newest first, and the cursor of the next page, if any."""

    jobs: tuple[Job, ...]
    next_cursor: str | None

    def is_older_than(self, moment: datetime) -> bool:
        """Return whether most of its jobs were created before a moment: one date may be odd."""
        created = sorted(job.datetime_created for job in self.jobs if job.datetime_created)
        return bool(created) and created[len(created) // 2] < moment


class SutroClient:
    """Requests one job, its status, or a page of jobs.

    `base` is the URL without a trailing slash. Where it has no path, the API may be under `/v1` or
    at the root: the first prefix that responds like the API is kept. The first request tries both,
    later ones alternate, so that a wrong URL does not cost twice the requests.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        base: str,
        key: Callable[[], SecretStr],
        now: Callable[[], float],
        counts: Counters | None = None,
    ) -> None:
        self._http = http
        self._base = base
        self._key = key
        self._now = now
        self._counts = counts or Counters()
        self._prefixes: tuple[str, ...] = ("",) if urlsplit(base).path else ("/v1", "")
        self._tries = len(self._prefixes)
        self._clock_skew = ClockSkew()
        self._unreadable: set[str] = set()

    @property
    def clock_skew(self) -> float:
        """The API's clock minus ours, in seconds, by the `Date` of its responses."""
        return self._clock_skew.seconds

    @property
    def base(self) -> str:
        """The URL that requests go to, as far as it is known by now."""
        return self._base + (self._prefixes[0] if len(self._prefixes) == 1 else "")

    async def get_job(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Return a job; the `known` one while it has not changed. Raises PollError."""
        raw = (await self._request("job", f"/jobs/{quote(job_id, safe='')}")).get("job")
        job = _unchanged_job(raw, known) or _parse(raw, job_id)
        if job.job_id != job_id:
            raise MalformedResponse("the response is about another job")
        return job

    async def get_status(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Return the `known` job with the status and failure reason that it has now.

        The response is always small. `job_status` is a map from ids to statuses, in older
        deployments a bare status.
        """
        raw = await self._request("status", f"/job-status/{quote(job_id, safe='')}")
        statuses, metadata = raw.get("job_status"), raw.get("metadata")
        job = _parse(
            {
                "job_id": job_id,
                "status": statuses.get(job_id) if isinstance(statuses, dict) else statuses,
                "failure_reason": metadata.get("failure_reason")
                if isinstance(metadata, dict)
                else None,
            },
            job_id,
        )
        names = ("status", "raw_status", "failure_reason", "invalid_fields")
        return replace(known(job_id) or job, **{name: getattr(job, name) for name in names})

    async def list_jobs(
        self, *, limit: int, cursor: str | None = None, known: Known = no_known_jobs
    ) -> JobPage:
        """Return at most `limit` jobs, 1 to 100, from the newest or from a cursor on.

        A job that has not changed is the `known` one. A job that cannot be parsed is left out, and
        logged once for each reason.
        Raises PollError.
        """
        query = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        raw = await self._request("list", f"/list-jobs?{urlencode(query)}", cap=PAGE_BYTES_CAP)
        jobs, next_cursor = raw.get("jobs"), raw.get("next_cursor")
        if not isinstance(jobs, list):
            raise MalformedResponse("the response has no list of jobs")
        next_cursor = next_cursor if isinstance(next_cursor, str) else None
        return JobPage(tuple(self._parse_all(jobs, known)), next_cursor)

    def _parse_all(self, jobs: list[Any], known: Known) -> Iterator[Job]:
        for raw in jobs:
            try:
                yield _unchanged_job(raw, known) or _parse(raw, "")
            except (MalformedResponse, Rejected) as error:
                self._counts.unreadable_rows += 1
                if str(error) not in self._unreadable:
                    self._unreadable.add(str(error))
                    log.warning("listing.unreadable_job", error=str(error))

    async def _request(self, kind: str, path: str, *, cap: int = JOB_BYTES_CAP) -> dict[str, Any]:
        """Return the response under the next prefix; the first time, try each until one fits."""
        for _ in range(self._tries - 1):
            try:
                return await self._get(kind, path, cap)
            except NOT_THE_API:
                continue
        self._tries = 1
        return await self._get(kind, path, cap)

    async def _get(self, kind: str, path: str, cap: int) -> dict[str, Any]:
        headers = {
            "Authorization": f"Key {self._key().get_secret_value()}",
            "Accept": "application/json",
        }
        prefix = self._prefixes[0]
        url = self._base + prefix + path
        self._counts.requests[kind] += 1
        requested_at = self._now()
        try:
            response = await self._http.request("GET", url, headers=headers, cap=cap)
        except NoResponse as error:
            raise Transient(str(error)) from None
        finally:
            self._counts.request_durations[kind].observe(self._now() - requested_at)
        self._sample_clock(response, requested_at)
        try:
            body = self._decode_response(response, kind, cap)
        except NotFound:
            self._pin_prefix(prefix)
            raise
        except NOT_THE_API:
            # To the end, if it is one of them still: another request may have found the API.
            self._prefixes = tuple(sorted(self._prefixes, key=prefix.__eq__))
            raise
        self._pin_prefix(prefix)
        return body

    def _pin_prefix(self, prefix: str) -> None:
        if len(self._prefixes) > 1:
            self._prefixes, self._tries = (prefix,), 1
            log.info("sutro.endpoint_found", url=self._base + prefix)

    def _sample_clock(self, response: Response, requested_at: float) -> None:
        date, now = http_date(response.headers.get("Date", "")), self._now()
        if date is not None and abs(date.timestamp() - now) < SECONDS_PER_CENTURY:
            self._clock_skew.sample(date, requested_at=requested_at, received_at=now)

    def _decode_response(self, response: Response, kind: str, cap: int) -> dict[str, Any]:
        """Return the JSON object of a 200; raise the error that any other response means."""
        if response.status != 200:
            raise self._error(response)
        if response.is_truncated:
            raise ResponseTooLarge(f"the response is over {cap} bytes")
        return decode(response, kind, cap)

    def _error(self, response: Response) -> PollError:
        status = response.status
        pause = retry_after(response.headers, cap=RETRY_AFTER_CAP, now=self._now())
        if status in {401, 403}:
            hint = f"; {OWN_DEPLOYMENT}" if self._is_public else ""
            message = f"API key rejected ({status}): check SUTRO_API_KEY{hint}"
            return Unauthorized(message, status=status)
        if status == 429 or (status == 503 and pause is not None):
            return RateLimited(f"the API limits the rate ({status})", retry_after=pause)
        if status == 404 and _is_api_message(response):
            return NotFound("no such job (404)")
        kind, text = next(row[2:] for row in STATUSES if row[0] <= status <= row[1])
        if kind is not WrongEndpoint and status != 501:
            return kind(f"{text} ({status})")
        advice = OWN_DEPLOYMENT if self._is_public else "check SUTRO_API_URL"
        return kind(f"{text} ({status}): {advice}")

    @property
    def _is_public(self) -> bool:
        return urlsplit(self._base).hostname == PUBLIC_HOST


def _unchanged_job(raw: object, known: Known) -> Job | None:
    """Return the known job, if the API object carries no change over it."""
    if not isinstance(raw, dict) or not isinstance(job_id := raw.get("job_id"), str):
        return None
    job = known(job_id)
    return job if job and is_unchanged(raw, job) else None


def _parse(raw: object, job_id: str) -> Job:
    """Parse a job. Contain a bug to the job that triggers it."""
    try:
        return parse_job(raw)
    except MalformedResponse:
        raise
    except Exception:
        log.exception("job.parse_failed", job_id=job_id)
        raise Rejected("this job triggers a bug in the parser") from None


def _is_api_message(response: Response) -> bool:
    """Return whether a 404 is the API's own, `{"message": "..."}`, not another server's."""
    try:
        return isinstance(decode(response, "message", MESSAGE_CHARS_CAP).get("message"), str)
    except (MalformedResponse, ResponseTooLarge):
        return False

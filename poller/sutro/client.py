"""One request to the Sutro API: its URL, its header, its limits, and what each status means."""

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlencode, urlsplit

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
from poller.runtime.http import HttpClient, NoResponse, Response, http_date, retry_after
from poller.sutro.clock_skew import ClockSkew
from poller.sutro.decoding import decode
from poller.sutro.port import Known

JOB_BYTES_CAP: Final = 4 * 1024 * 1024
PAGE_BYTES_CAP: Final = 16 * 1024 * 1024
MESSAGE_CHARS_CAP: Final = 64 * 1024
RETRY_AFTER_CAP: Final = 3_600.0
SECONDS_PER_CENTURY: Final = 100 * 365 * 86_400.0
"""Seconds. No two clocks are that far apart: such a `Date` is junk."""
PUBLIC_HOST: Final = "api.sutro.sh"

STATUSES: Final[tuple[tuple[int, int, type[PollError], str], ...]] = (
    (404, 404, WrongEndpoint, "a 404 that is not the API's: check SUTRO_API_URL"),
    (408, 408, Transient, "the API gave up waiting"),
    (425, 425, Transient, "the API wants the request again"),
    (501, 501, Rejected, "the API does not do this"),
    (0, 299, MalformedResponse, "the API owes a job here"),
    (300, 399, WrongEndpoint, "a redirect, which is never followed: check SUTRO_API_URL"),
    (400, 499, Rejected, "the API rejects this request"),
    (500, 999, Transient, "the API is in trouble"),
)
"""From the first to the last status: what it means. The first row that fits counts."""

NOT_THE_API: Final = (WrongEndpoint, MalformedResponse, Rejected)
"""What comes from a place where the API is not."""

log = structlog.get_logger()


def no_known_jobs(_job_id: str) -> None:
    """Know no job."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """Some of the account's jobs, newest first, and where the next page begins, if there is one."""

    jobs: tuple[Job, ...]
    next_cursor: str | None

    def is_older_than(self, moment: datetime) -> bool:
        """Tell whether it reaches down to jobs that were created before a moment."""
        created = [job.datetime_created for job in self.jobs if job.datetime_created]
        return bool(created) and min(created) < moment


class SutroClient:
    """Ask the API about one job, or for a page of them.

    `base` is the URL without a trailing slash. Where it has no path, the API may live under `/v1`
    or at the root: the first of the two that answers like the API is kept. The first look tries
    both at once, later ones take turns, so that a wrong URL does not cost twice the requests.
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

    @property
    def clock_skew(self) -> float:
        """The API's clock minus ours, in seconds, as its answers show it."""
        return self._clock_skew.seconds

    @property
    def deployment(self) -> str:
        """The API's host, with its port where that is not the scheme's own."""
        return urlsplit(self._base).netloc

    @property
    def base(self) -> str:
        """The URL that requests go to, as far as it is known by now."""
        return self._base + (self._prefixes[0] if len(self._prefixes) == 1 else "")

    async def get_job(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Look at one job; where it stands as it is `known`, give it as that. Raises PollError."""
        raw = (await self._request("job", f"/jobs/{job_id}")).get("job")
        job = _unchanged_job(raw, known) or _read(raw, job_id)
        if job.job_id != job_id:
            raise MalformedResponse("the answer is about another job")
        return job

    async def get_status(self, job_id: str) -> Job:
        """Look at a job's status and failure reason alone: little, but always small."""
        raw = await self._request("status", f"/job-status/{job_id}")
        words, metadata = raw.get("job_status"), raw.get("metadata")
        return _read(
            {
                "job_id": job_id,
                "status": words.get(job_id) if isinstance(words, dict) else None,
                "failure_reason": metadata.get("failure_reason")
                if isinstance(metadata, dict)
                else None,
            },
            job_id,
        )

    async def list_jobs(
        self, *, limit: int, cursor: str | None = None, known: Known = no_known_jobs
    ) -> JobPage:
        """List at most `limit` jobs, 1 to 100, from the newest or from a cursor on.

        A job that stands as it is `known` is given as that. One that cannot be read is left out.
        Raises PollError.
        """
        query = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        raw = await self._request("list", f"/list-jobs?{urlencode(query)}", cap=PAGE_BYTES_CAP)
        jobs, following = raw.get("jobs"), raw.get("next_cursor")
        if not isinstance(jobs, list):
            raise MalformedResponse("the answer has no list of jobs")
        return JobPage(
            tuple(_is_readable(jobs, known)), following if isinstance(following, str) else None
        )

    async def _request(self, kind: str, path: str, *, cap: int = JOB_BYTES_CAP) -> dict[str, Any]:
        """Make a request under the prefix whose turn it is, at first under each until one fits."""
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
        asked_at = self._now()
        try:
            answer = await self._http.request("GET", url, headers=headers, cap=cap)
        except NoResponse as error:
            raise Transient(str(error)) from None
        finally:
            self._counts.request_durations[kind].observe(self._now() - asked_at)
        self._sample_clock(answer, asked_at)
        try:
            body = self._decode_response(answer, kind, cap)
        except NotFound:
            self._pin_prefix(prefix)
            raise
        except NOT_THE_API:
            self._prefixes = tuple(sorted(self._prefixes, key=prefix.__eq__))  # to the end
            raise
        self._pin_prefix(prefix)
        return body

    def _pin_prefix(self, prefix: str) -> None:
        if len(self._prefixes) > 1:
            self._prefixes, self._tries = (prefix,), 1
            log.info("sutro.endpoint_found", url=self._base + prefix)

    def _sample_clock(self, answer: Response, asked_at: float) -> None:
        made_at, now = http_date(answer.headers.get("Date", "")), self._now()
        if made_at is not None and abs(made_at.timestamp() - now) < SECONDS_PER_CENTURY:
            self._clock_skew.sample(made_at, asked_at=asked_at, answered_at=now)

    def _decode_response(self, answer: Response, kind: str, cap: int) -> dict[str, Any]:
        """Give the JSON object of a 200, or raise what any other answer means."""
        status = answer.status
        if status != 200:
            raise self._error(answer)
        if answer.is_truncated:
            raise ResponseTooLarge(f"the answer is over {cap} bytes")
        return decode(answer, kind, cap)

    def _error(self, answer: Response) -> PollError:
        """Say what an answer means that is not a 200."""
        status, pause = answer.status, retry_after(answer.headers, cap=RETRY_AFTER_CAP)
        if status in {401, 403}:
            told = f"the API refused the key ({status}); put SUTRO_API_KEY right{self._hint()}"
            return Unauthorized(told, status=status)
        if status == 429 or (status == 503 and pause is not None):
            return RateLimited(f"the API asks for a pause ({status})", retry_after=pause)
        if status == 404 and _is_api_message(answer):
            return NotFound("the API knows no such job (404)")
        kind, text = next(row[2:] for row in STATUSES if row[0] <= status <= row[1])
        hint = self._hint() if kind is WrongEndpoint else ""
        return kind(f"{text} ({status}){hint}")

    def _hint(self) -> str:
        if urlsplit(self._base).hostname != PUBLIC_HOST:
            return ""
        return "; if you have a deployment of your own, set SUTRO_API_URL to it"


def _is_readable(jobs: list[Any], known: Known) -> Iterator[Job]:
    for raw in jobs:
        with suppress(MalformedResponse, Rejected):
            yield _unchanged_job(raw, known) or _read(raw, "")


def _unchanged_job(raw: object, known: Known) -> Job | None:
    """Give what is known of a job, if it stands as that."""
    if not isinstance(raw, dict) or not isinstance(job_id := raw.get("job_id"), str):
        return None
    job = known(job_id)
    return job if job and is_unchanged(raw, job) else None


def _read(raw: object, job_id: str) -> Job:
    """Read a job. A bug that one odd job brings to light must not blind the others."""
    try:
        return parse_job(raw)
    except MalformedResponse:
        raise
    except Exception:
        log.exception("job.parse_failed", job_id=job_id)
        raise Rejected("the job brings a bug of this program to light") from None


def _is_api_message(answer: Response) -> bool:
    """Tell the API's own 404, `{"message": "..."}`, from that of whatever stands in its place."""
    try:
        return isinstance(decode(answer, "message", MESSAGE_CHARS_CAP).get("message"), str)
    except (MalformedResponse, ResponseTooLarge):
        return False

"""The client of the Sutro API: URLs, headers, limits, and where the API is."""

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import structlog
from pydantic import SecretStr

from poller.core.counters import Counters
from poller.core.errors import (
    FOREIGN_ERRORS,
    Intercepted,
    MalformedResponse,
    NotFound,
    PollError,
    RateLimited,
    Rejected,
    ResponseTooLarge,
    StaleConnection,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.jobs import Job, is_unchanged
from poller.core.parsing import parse_job
from poller.runtime.http_client import HttpClient
from poller.runtime.http_headers import http_date
from poller.runtime.http_values import NoResponse, Response
from poller.sutro.clock_skew import ClockSkew
from poller.sutro.decoding import decode
from poller.sutro.port import Known
from poller.sutro.response_errors import response_error

JOB_BYTES_CAP: Final = 4 * 1024 * 1024
PAGE_BYTES_CAP: Final = 16 * 1024 * 1024
SECONDS_PER_CENTURY: Final = 100 * 365 * 86_400.0
"""No two clocks are that far apart: such a `Date` is junk."""
PUBLIC_HOST: Final = "api.sutro.sh"
PROGRAM: Final = "sutro-poller/"
"""The `Server` of this program's own HTTP API, which has jobs under `/v1` too."""

IDENTITY_RANKS: Final[tuple[tuple[type[PollError], ...], ...]] = (
    FOREIGN_ERRORS,
    (Intercepted,),
    (Unauthorized,),
    (Transient, ResponseTooLarge),
)
"""Errors by how likely it is that they came from the API, the least likely first.

Until the API is found, the likeliest of the errors of all prefixes counts: a rejected API
key counts unless another prefix has failed with an error of the last rank.
"""

HOST_ERRORS: Final = (RateLimited, StaleConnection)
"""Errors of the host or the connection: the prefix has yet to be tried."""

T = TypeVar("T")

log = structlog.get_logger()


def no_known_jobs(_job_id: str) -> None:
    """Return None: each job is read anew."""


@dataclass(frozen=True, slots=True)
class JobPage:
    """Jobs of the account, newest first, those that are as known, and the next page's cursor."""

    jobs: tuple[Job, ...]
    next_cursor: str | None
    unchanged: Collection[str] = field(default=(), compare=False)


class SutroClient:
    """Requests one job, its status, or a page of jobs.

    `base` is the URL without a trailing slash. Where it has no path, the API may be under `/v1` or
    at the root. The prefix is kept that responds as only the API does: with a job, with the list,
    or with a 404 that names the job. The first request tries both, and so does the first one with
    another key; later ones alternate, so that a wrong URL does not cost twice the requests.
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
        prefixes = ("", "/v1") if self._is_public else ("/v1", "")
        self._candidates: tuple[str, ...] = ("",) if urlsplit(base).path else prefixes
        self._prefixes: tuple[str, ...] = self._candidates
        self._errors: dict[str, PollError] = {}
        self._tried_key: SecretStr | None = None
        self._clock_skew = ClockSkew()
        self._unreadable: set[str] = set()

    @property
    def clock_skew(self) -> float:
        """The API's clock minus ours, in seconds, by the `Date` of its responses."""
        return self._clock_skew.seconds

    @property
    def is_clock_right(self) -> bool:
        """Return whether the API's clock has confirmed ours."""
        return self._clock_skew.is_small

    @property
    def base(self) -> str:
        """The URL that requests go to, as far as it is known by now."""
        return self._base + (self._prefixes[0] if len(self._prefixes) == 1 else "")

    def find_again(self) -> None:
        """Try each prefix again with the next request, as at the start."""
        self._prefixes, self._errors = self._candidates, {}

    async def get_job(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Return a job; the `known` one while it has not changed. Raises PollError."""

        def read(raw: dict[str, Any]) -> Job:
            job = _unchanged_job(raw.get("job"), known) or _parse(raw.get("job"), job_id)
            if job.job_id != job_id:
                raise MalformedResponse("the response is about another job")
            return job

        return await self._request("job", f"/jobs/{quote(job_id, safe='')}", read, job_id=job_id)

    async def get_status(self, job_id: str, known: Known = no_known_jobs) -> Job:
        """Return the `known` job with the status and failure reason that it has now.

        The response is always small. `job_status` is a map from ids to statuses, in older
        deployments a bare status.
        """

        def read(raw: dict[str, Any]) -> Job:
            statuses, metadata = raw.get("job_status"), raw.get("metadata")
            return _parse(
                {
                    "job_id": job_id,
                    "status": statuses.get(job_id) if isinstance(statuses, dict) else statuses,
                    "failure_reason": metadata.get("failure_reason")
                    if isinstance(metadata, dict)
                    else None,
                },
                job_id,
            )

        job = await self._request(
            "status", f"/job-status/{quote(job_id, safe='')}", read, job_id=job_id
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

        def read(raw: dict[str, Any]) -> JobPage:
            jobs, following = raw.get("jobs"), raw.get("next_cursor")
            if not isinstance(jobs, list):
                raise MalformedResponse("the response has no list of jobs")
            next_cursor = following if isinstance(following, str) else None
            unchanged: set[str] = set()
            return JobPage(tuple(self._parse_all(jobs, known, unchanged)), next_cursor, unchanged)

        query = {"limit": str(limit)} | ({"cursor": cursor} if cursor else {})
        return await self._request("list", f"/list-jobs?{urlencode(query)}", read)

    def _parse_all(self, jobs: list[Any], known: Known, unchanged: set[str]) -> Iterator[Job]:
        for raw in jobs:
            try:
                if job := _unchanged_job(raw, known):
                    unchanged.add(job.job_id)
                yield job or _parse(raw, "")
            except (MalformedResponse, Rejected) as error:
                self._counts.unreadable_rows += 1
                if str(error) not in self._unreadable:
                    self._unreadable.add(str(error))
                    log.warning("listing.unreadable_job", error=str(error))

    async def _request(
        self, kind: str, path: str, read: Callable[[dict[str, Any]], T], *, job_id: str = ""
    ) -> T:
        """Return what `read` finds in the response under the API's prefix. Raises PollError.

        Until the prefix is found, those are tried that have not failed yet, else the next one.
        """
        key = self._key()
        if key != self._tried_key:
            self._errors, self._tried_key = {}, key
        untried = [prefix for prefix in self._prefixes if prefix not in self._errors]
        errors: list[PollError] = []
        for prefix in untried or self._prefixes[:1]:
            try:
                value = read(await self._get(kind, prefix + path, key, job_id))
            except NotFound:
                self._keep_prefix(prefix)
                raise
            except PollError as failure:
                if self._prefixes == (prefix,):
                    raise
                errors.append(self._weigh(prefix, failure))
                if isinstance(failure, HOST_ERRORS):
                    break
            else:
                self._keep_prefix(prefix)
                return value
        raise errors[-1]

    def _weigh(self, prefix: str, error: PollError) -> PollError:
        """Record the error of a prefix that may not be the API's; return the one that counts."""
        self._prefixes = tuple(sorted(self._prefixes, key=prefix.__eq__))  # its turn is last
        if isinstance(error, HOST_ERRORS):
            return error
        self._errors[prefix] = detach(error)
        others = [failed for other, failed in self._errors.items() if other != prefix]
        return max([error, *others], key=_identity_rank)

    def _keep_prefix(self, prefix: str) -> None:
        if self._prefixes != (prefix,):
            self._prefixes, self._errors = (prefix,), {}
            log.info("sutro.endpoint_found", url=self._base + prefix)

    async def _get(self, kind: str, path: str, key: SecretStr, job_id: str) -> dict[str, Any]:
        headers = {
            "Authorization": f"Key {key.get_secret_value()}",
            "Accept": "application/json",
        }
        cap = PAGE_BYTES_CAP if kind == "list" else JOB_BYTES_CAP
        self._counts.requests[kind] += 1
        requested_at = self._now()
        try:
            response = await self._http.request("GET", self._base + path, headers=headers, cap=cap)
        except NoResponse as error:
            raise (StaleConnection if error.is_stale else Transient)(str(error)) from None
        finally:
            self._counts.request_durations[kind].observe(self._now() - requested_at)
        self._sample_clock(response, requested_at)
        if response.headers.get("Server", "").startswith(PROGRAM):
            raise WrongEndpoint("this is the HTTP API of sutro-poller: check SUTRO_API_URL")
        if response.status != 200:
            raise response_error(response, job_id, is_public=self._is_public, now=self._now())
        if response.is_truncated:
            raise ResponseTooLarge(f"the response is over {cap} bytes")
        return decode(response, kind, cap)

    def _sample_clock(self, response: Response, requested_at: float) -> None:
        date, now = http_date(response.headers.get("Date", "")), self._now()
        if date is not None and abs(date.timestamp() - now) < SECONDS_PER_CENTURY:
            self._clock_skew.sample(date, requested_at=requested_at, received_at=now)

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


def detach(error: PollError) -> PollError:
    """Remove an error's frames and causes, which hold a response of up to megabytes."""
    error.__context__ = None
    return error.with_traceback(None)


def _identity_rank(error: PollError) -> int:
    return next(rank for rank, kinds in enumerate(IDENTITY_RANKS) if isinstance(error, kinds))

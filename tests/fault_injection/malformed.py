"""Every class of malformed answer, and an API over bare TCP that gives them to a job."""

import json
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from anyio.abc import ByteStream

from tests.fault_injection.broken_transports import REDIRECTS, TRANSPORTS, Transport
from tests.fault_injection.odd_bodies import LOST, TOLD, Body, JobObject, written
from tests.support.builders import a_job_object
from tests.support.http_peers import Peer, Talk, answers, peer
from tests.support.run_checker import Shown

ENDS: Final = frozenset({"SUCCEEDED", "FAILED", "CANCELLED"})
DATED: Final = {"date": "Mon, 15 Jan 2024 10:30:00 GMT"}


@dataclass(frozen=True, slots=True)
class Malformed:
    """One class of answers. `tells`: it is still an observation of the job that it is about."""

    name: str
    write: Callable[[JobObject, str], Talk]
    tells: bool = False


@dataclass(frozen=True, slots=True)
class Turn:
    """One answer in the life of a job: about this object, written well or as some class does."""

    job: JobObject
    of: Malformed | None = None

    @property
    def owes(self) -> str | None:
        """Name the event that is owed once this has been answered."""
        if self.of and not self.of.tells:
            return None
        status = self.job["status"]
        return f"job.{status.lower()}" if status in ENDS else STARTED.get(status)

    def talk(self, base: str, *, is_status: bool) -> Talk:
        """Give the answer, that to a question for the status alone in its own shape."""
        if self.of and not (is_status and self.of.tells):
            return self.of.write(self.job, base)
        return answers(200, status_alone(self.job) if is_status else written(self.job), **DATED)


STARTED: Final = {"RUNNING": "job.started"}


def status_alone(job: JobObject) -> bytes:
    """Answer as the API's way to ask for a status does."""
    reason = {"failure_reason": job["failure_reason"]}
    return json.dumps({"job_status": {job["job_id"]: job["status"]}, "metadata": reason}).encode()


@dataclass
class Life:
    """A job's answers in turn; the last one is given for ever. `asked` says when each was."""

    job_id: str
    turns: list[Turn]
    asked: list[float] = field(default_factory=list)

    def turn(self) -> Turn:
        """Give the answer to the next look."""
        self.asked.append(anyio.current_time())
        return self.turns[min(len(self.asked), len(self.turns)) - 1]

    @property
    def owed(self) -> set[tuple[str, str]]:
        """Say which events this life owes in all."""
        return {(self.job_id, it.owes) for it in self.turns if it.owes}


@dataclass
class Api:
    """Lives by job id, and what they have shown. `page` is what its list always is.

    `curt` names the jobs that were asked for their status alone, `followed` the paths that only
    somebody who follows a redirect asks for.
    """

    lives: dict[str, Life]
    now: Callable[[], float]
    page: Any = None
    base: str = ""
    listed: int = 0
    shown: list[Shown] = field(default_factory=list)
    curt: set[str] = field(default_factory=set)
    followed: list[str] = field(default_factory=list)

    async def answer(self, stream: ByteStream, line: str) -> None:
        """Answer the request that begins with this line."""
        path = line.split()[1]
        if path.startswith("/v1/list-jobs"):
            self.listed += 1
            await answers(200, json.dumps(self.page).encode(), **DATED)(stream)
            return
        life = self.lives.get(path.rpartition("/")[2])
        if life is None:
            self.followed.append(path)
            return
        turn, is_status = life.turn(), "/job-status/" in path
        if is_status:
            self.curt.add(life.job_id)
        await turn.talk(self.base, is_status=is_status)(stream)
        if turn.owes:
            self.shown.append(Shown(self.now(), life.job_id, turn.owes))


@asynccontextmanager
async def speaking(api: Api) -> AsyncIterator[Peer]:
    """Let an API answer over bare TCP."""

    async def talk(stream: ByteStream) -> None:
        await api.answer(stream, it.lines[-1])

    async with peer(talk) as it:
        api.base = f"{it.base}/v1"
        yield it


def objects(job_id: str, ends_as: str = "SUCCEEDED") -> tuple[JobObject, JobObject, JobObject]:
    """Give what a job shows queued, running and ended."""
    cost = {"job_cost": None, "datetime_completed": None}
    queued = a_job_object(job_id=job_id, status="QUEUED", datetime_started=None, **cost)
    running = a_job_object(job_id=job_id, status="RUNNING", **cost)
    return queued, running, a_job_object(job_id=job_id, status=ends_as)


def first(job_id: str, of: Malformed) -> Life:
    """Give a life whose first answer is of a class."""
    queued, running, ended = objects(job_id)
    return Life(job_id, [_bad(queued, of), Turn(queued), Turn(running), Turn(ended)])


def middle(job_id: str, of: Malformed) -> Life:
    """Give a life that shows that it runs by an answer of a class, if that can tell it."""
    queued, running, ended = objects(job_id)
    runs = [] if of.tells else [Turn(running)]
    return Life(job_id, [Turn(queued), _bad(running, of), *runs, Turn(ended)])


def terminal(job_id: str, of: Malformed) -> Life:
    """Give a life that shows its end by answers of a class alone, if they can tell it."""
    queued, running, ended = objects(job_id, "FAILED" if "reason" in of.name else "SUCCEEDED")
    ends = [] if of.tells else [Turn(ended)]
    return Life(job_id, [Turn(queued), Turn(running), _bad(ended, of), *ends])


POSITIONS: Final = {"first": first, "middle": middle, "terminal": terminal}


def _bad(job: JobObject, of: Malformed) -> Turn:
    """Put an answer in the place of a good one; what tells nothing claims an end that is none."""
    if of.tells:
        return Turn(job, of)
    claim = {"status": "CANCELLED", "datetime_completed": "2024-01-15T10:32:15Z", "job_cost": 9}
    return Turn(job | claim, of)


def mixed(job_id: str, gaps: Sequence[Sequence[Malformed]]) -> Life:
    """Give a life with malformed answers before, between and after its good ones."""
    turns: list[Turn] = []
    for job, gap in zip(objects(job_id), gaps, strict=True):
        turns += [*(_bad(job, it) for it in gap), Turn(job)]
    return Life(job_id, turns)


def _of_body(name: str, body: Body, *, tells: bool) -> Malformed:
    return Malformed(name, lambda job, _base: answers(200, body(job), **DATED), tells)


def _of_transport(name: str, transport: Transport) -> Malformed:
    return Malformed(name, lambda job, _base: transport(written(job)))


def _redirects(code: int, name: str, place: Callable[[JobObject, str], str | None]) -> Malformed:
    def write(job: JobObject, base: str) -> Talk:
        to = place(job, base)
        return answers(code, written(job), **({"location": to} if to else {}))

    return Malformed(f"{code} to {name}", write)


PLACES: Final[dict[str, Callable[[JobObject, str], str | None]]] = {
    "the same origin": lambda _job, base: f"{base}/elsewhere",
    "another origin": lambda _job, base: base.replace("127.0.0.1", "localhost") + "/elsewhere",
    "itself": lambda job, base: f"{base}/jobs/{job['job_id']}",
    "nowhere": lambda _job, _base: None,
}


def _text_plain(job: JobObject, _base: str) -> Talk:
    return answers(200, written(job), content_type="text/plain; charset=latin-1")


CLASSES: Final = (
    *(_of_transport(name, it) for name, it in TRANSPORTS.items()),
    *(_redirects(code, name, it) for code in REDIRECTS for name, it in PLACES.items()),
    *(_of_body(name, it, tells=False) for name, it in LOST.items()),
    *(_of_body(name, it, tells=True) for name, it in TOLD.items()),
    Malformed("JSON as text/plain", _text_plain, tells=True),
)
"""Every class, by what it does to the transport, then to the body."""

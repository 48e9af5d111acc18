"""A world with weather: spells in which one end is in one kind of trouble, for hours.

They come on top of the chance faults of `World`. No spell makes an event by itself: a single job
is unknown for less than the time after which it counts as missing, and all of them together for
any time.
"""

from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from typing import Any, Final

from aiohttp import web

from poller.polling.missing_guard import GUARD_JOBS
from tests.fault_injection.job_stories import FATES, Story, stages
from tests.fault_injection.request_faults import API_FAULTS, HOOK_FAULTS
from tests.fault_injection.world import World
from tests.support.run_checker import Shown

MINUTE, HOUR = 60.0, 3_600.0
ODD: Final = "3"
"""Jobs whose ids end so have spells of their own."""
SLOW: Final = 3.0
LONGEST_SEND: Final = 20.0
WATCHED: Final = HOUR - 10 * MINUTE
ENDS: Final = {f"job.{ends_as}" for ends_as in FATES}


@dataclass(frozen=True, slots=True)
class Spell:
    """A time of one kind of trouble."""

    kind: str
    begin: float
    end: float


@dataclass(slots=True)
class Held(Story):
    """A job that stays in each stage until a moment of its own, told or not."""

    holds: tuple[float, ...] = ()

    def move_on(self, now: float) -> None:
        """Go to the next stage when its time has come and nothing is owed for this one."""
        number = len(self.reached) - 1
        if number >= len(self.holds) or now >= self.holds[number]:
            Story.move_on(self, now)


@dataclass
class Storm(World):
    """A world in which spells pass until `calm_at`."""

    calm_at: float = 0.0
    spells: list[Spell] = field(default_factory=list)
    pauses: list[tuple[float, float]] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    def brew(self, *, jobs: int, lasting: float) -> None:
        """Make up the jobs and the spells of the next so many seconds."""
        now, random = self.now(), self.random
        self.calm_at = now + lasting
        for number in range(jobs):
            told = stages(random.choice(FATES), is_cost_late=random.random() < 0.3)
            # Half of the ends come late, so that there are debts when it grows calm.
            holds = sorted(
                now + lasting * random.uniform(low, 1.0) for low in (0.0, number % 2 * 0.8)
            )
            job_id = f"job-{number}"
            self.jobs[job_id] = Held(job_id, told, [now], holds=tuple(holds))
        # One of the two: misses of one job in both might add up to the time that makes it missing.
        unknown = random.choice(["all unknown", "one unknown"])
        for kind in [*random.choices(FREQUENT, k=6), unknown]:
            self._let(kind, random.uniform(0.0, lasting), at_most=lasting / 5)
        for kind in [random.choice(FREQUENT), random.choice(list(HOOK_SPELLS))]:
            self._let(kind, lasting - random.uniform(0.0, lasting / 5), at_most=lasting)

    def _let(self, kind: str, after: float, *, at_most: float) -> None:
        """Let a spell begin after so many seconds."""
        begin = self.now() + after
        lasts = self.random.uniform(0.2, 1.0) * min(LONGEST[kind], at_most)
        self.spells.append(Spell(kind, begin, begin + lasts))

    def heal(self) -> None:
        """End all trouble, but for the requests that are in it."""
        World.heal(self)
        self.spells.clear()

    async def look(self, request: web.Request) -> web.StreamResponse:
        """Answer one look at a job, or fail it as the weather has it."""
        story = self.jobs.get(request.path.rpartition("/")[2])
        self.moments.append(self.now())
        if kind := self._trouble(API_SPELLS, story):
            return await API_SPELLS[kind](self, request, story)
        return await World.look(self, request)

    async def take(self, request: web.Request) -> web.StreamResponse:
        """Take one event, or fail as the weather has it."""
        self.delay = self.random.uniform(0.0, SLOW) if "receiver slow" in self.weather else 0.0
        kind = self._trouble(HOOK_SPELLS, None)
        self.refused = [*self.refused, self.now()] if kind in OUTAGES else []
        if kind:
            return await HOOK_SPELLS[kind](self, request, await request.read())
        return await World.take(self, request)

    @property
    def weather(self) -> Collection[str]:
        """The kinds of trouble that there are now."""
        now = self.now()
        return [it.kind for it in self.spells if it.begin <= now < it.end]

    @property
    def is_receiver_out(self) -> bool:
        """Whether who sends must know it: five refusals in a row, and none before under way."""
        return sum(at > self.refused[0] + LONGEST_SEND for at in self.refused) >= 5

    def _trouble(self, spells: dict[str, "Trouble"], story: Story | None) -> str | None:
        """Name the spell that a request meets: of one job, of a page, or of an event."""
        for kind in self.weather:
            if kind in spells and self._is_met(kind, story):
                return kind
        return None

    def _is_met(self, kind: str, story: Story | None) -> bool:
        """Tell whether a spell is one of this job too; None stands for a page or an event."""
        if kind.startswith("one "):
            return story is not None and story.job_id.endswith(ODD)
        return kind != "all unknown" or self._quorum >= GUARD_JOBS

    @property
    def _quorum(self) -> int:
        """Count the jobs that run and have no trouble of their own: what is unknown tells of all.

        No others are sure to be asked for.
        """
        return sum(
            f"job.{it.stage.status.lower()}" not in ENDS and not it.job_id.endswith(ODD)
            for it in self.jobs.values()
        )

    @property
    def due_to_come(self) -> list[Shown]:
        """What was shown while the daemon still asked: for a cost it does so for an hour."""
        ends = {it.job_id: it.at for it in reversed(self.shown) if it.type in ENDS}
        came = {(it.job_id, it.type) for it in self.arrivals}
        return [
            it
            for it in self.shown
            if it.type != "job.cost_settled"
            or it.at < ends.get(it.job_id, it.at) + WATCHED
            or (it.job_id, it.type) in came
        ]

    @property
    def untold(self) -> list[str]:
        """The jobs that stand still, but for costs that came when nobody waited any more."""
        return [
            f"still at {it.stage.status}: {it.job_id}"
            for it in self.jobs.values()
            if any(at.owes not in {None, "job.cost_settled", *it.acknowledged} for at in it.stages)
        ]


Trouble = Callable[[Storm, web.Request, Any], Awaitable[web.StreamResponse]]


def _any_of(faults: dict[str, Any], *names: str) -> Trouble:
    async def fail(storm: Storm, request: web.Request, what: object) -> web.StreamResponse:
        return await faults[storm.random.choice(names)](storm, request, what)

    return fail


def _say(*statuses: int) -> Trouble:
    async def fail(storm: Storm, _request: web.Request, _what: object) -> web.Response:
        return storm.say({"message": "No."}, status=storm.random.choice(statuses))

    return fail


async def _know_none(storm: Storm, _request: web.Request, story: Story | None) -> web.Response:
    """Be the API of another tenant."""
    if story is None:
        return storm.say({"jobs": [], "next_cursor": None})
    return storm.say({"message": "No job found with ID"}, status=404)


async def _pause(storm: Storm, _request: web.Request, _what: object) -> web.Response:
    """Ask for a pause until the spell is over, and note that no look may come before."""
    end = max(it.end for it in storm.spells if it.kind == "API throttles")
    seconds = int(min(end - storm.now(), HOUR))
    storm.pauses.append((storm.now(), storm.now() + seconds))
    return storm.say({}, status=429, **{"Retry-After": str(seconds)})


async def _rest(storm: Storm, _request: web.Request, _what: object) -> web.Response:
    seconds = storm.random.randrange(10, 120)
    return storm.say({}, status=storm.random.choice([429, 503]), **{"Retry-After": str(seconds)})


WAYS: Final = ("status", "reset", "hang")
API_SPELLS: Final[dict[str, Trouble]] = {
    "API down": _any_of(API_FAULTS, *WAYS),
    "API throttles": _pause,
    "key revoked": _say(401, 403),
    "all unknown": _know_none,
    "one unknown": _say(404),
    "one rejected": _say(400, 403, 405, 410, 422, 451, 501),
}
HOOK_SPELLS: Final[dict[str, Trouble]] = {
    "receiver down": _any_of(HOOK_FAULTS | {"status": _say(500, 502, 503, 504)}, *WAYS),
    "receiver throttles": _rest,
    "receiver refuses": _say(400, 404, 422),
}
OUTAGES: Final = {"receiver down", "receiver throttles"}
LONGEST: Final = {
    "API down": 6 * HOUR,
    "API throttles": HOUR,
    "key revoked": 4 * HOUR,
    "all unknown": 2 * HOUR,
    "one unknown": 4 * MINUTE,
    "one rejected": 4 * HOUR,
    "receiver down": 12 * HOUR,
    "receiver throttles": 2 * HOUR,
    "receiver refuses": 2 * HOUR,
    "receiver slow": 6 * HOUR,
}
FREQUENT: Final = sorted(set(LONGEST) - {"all unknown", "one unknown"})

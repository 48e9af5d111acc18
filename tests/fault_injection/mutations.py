"""Mutations of real responses: of their bytes and of their values."""

import copy
import json
from collections.abc import Callable
from random import Random
from typing import Any, Final

from poller.sutro.simulator.script import JobScript, SimulatedJob
from tests.support.builders import a_job_object

JOB: Final = "job-12345"
BEGAN: Final = 1_705_314_600.0


def real_responses() -> list[dict[str, Any]]:
    """Return what the API sends about one job in each stage of each outcome."""
    bodies = [{"job": a_job_object()}]
    for ends_as in ("succeeded", "failed", "cancelled"):
        script = JobScript(
            job_id=JOB,
            ends_as=ends_as,
            name="Odd \u20ac name",
            cost_delay=5.0,
            tokens_delay=3.0,
            reason_delay=2.0,
        )
        job = SimulatedJob(script=script, number=1, created=BEGAN, speed=1.0)
        bodies += [{"job": job.as_object(BEGAN + after)} for after in (0, 4.8, 10, 24.9, 26, 31)]
    return bodies


WORDS: Final = (
    *("QUEUED", "RUNNING", "CANCELLING", "SUCCEEDED", "FAILED", "CANCELLED", "UNKNOWN"),
    *("succeeded", "Canceled", "COMPLETE", "error", "EXPLODED", "\u017fUCCEEDED", "FA\u0130LED"),
)
TEXTS: Final = (
    *("", " ", "\0", "\x1b[2J", "\u2028", "\ufeff", "\ud800", "\udfff", "\u202e", "\U0001f600"),
    *("e\u0301" * 400, '"' * 3_000, "\\" * 5_000, "\U0001f600" * 5_000, "x" * 30_000, "../x", "."),
    *("0000-00-00T00:00:00Z", "9999-12-31T23:59:59-23:59", "2024-01-15T10:30:00.1234567890+05:30"),
    *("20240115T103000Z", "2024-W03-1", "2024-01-15", "2024-02-30T00:00:00Z", "now", "1e999"),
)
NUMBERS: Final = (
    *(0, -0.0, 1, -1, 0.1, 1e-320, 1e308, 2**53, 2**63, 2**64, -(2**63), 10**17, 10**18),
    *(float("nan"), float("inf"), float("-inf"), 1_705_314_735, 15_420.0),
)
PLAIN: Final = (None, True, False, [], {}, [[]], {"": {}}, [None] * 50, {"message": 5})


def _tree(random: Random) -> Any:
    """Nest a value, sometimes deeper than any parser goes."""
    tree: Any = random.choice(PLAIN)
    for _ in range(random.choice((1, 7, 8, 9, 60, 400))):
        tree = [tree] if random.random() < 0.5 else {random.choice(("in", "message", "\0")): tree}
    return tree


def odd_value(random: Random) -> Any:
    """Return a value that hardly any field should have."""
    kinds: tuple[Callable[[], Any], ...] = (
        lambda: random.choice(WORDS),
        lambda: random.choice(TEXTS),
        lambda: random.choice(NUMBERS),
        lambda: random.choice(PLAIN),
        lambda: _tree(random),
        lambda: random.choice(TEXTS) + random.choice(WORDS) + random.choice(TEXTS),
        lambda: {"message": random.choice(TEXTS), random.choice(TEXTS): random.choice(NUMBERS)},
    )
    return random.choice(kinds)()


Structural = Callable[[dict[str, Any], Random], Any]


def _swap_field(raw: dict[str, Any], random: Random) -> Any:
    """Give up to four fields odd values; the id stays in three cases out of four."""
    job = raw["job"]
    names = [name for name in job if name != "job_id" or random.random() < 0.25]
    for name in random.sample(names, random.randrange(1, 5)):
        job[name] = odd_value(random)
    return raw


def _drop_field(raw: dict[str, Any], random: Random) -> Any:
    del raw["job"][random.choice(list(raw["job"]))]
    return raw


def _swap_values(raw: dict[str, Any], random: Random) -> Any:
    one, other = random.sample(list(raw["job"]), 2)
    raw["job"][one], raw["job"][other] = raw["job"][other], raw["job"][one]
    return raw


def _change_status(raw: dict[str, Any], random: Random) -> Any:
    raw["job"]["status"] = random.choice(WORDS)
    return raw


def _replace_job(raw: dict[str, Any], random: Random) -> Any:
    raw["job"] = random.choice((odd_value(random), [raw["job"]], {"job": raw["job"]}))
    return raw


def _replace_root(raw: dict[str, Any], random: Random) -> Any:
    return random.choice((odd_value(random), [raw], raw["job"], {"jobs": [raw["job"]]}))


def _add_fields(raw: dict[str, Any], random: Random) -> Any:
    for _ in range(random.randrange(1, 50)):
        raw["job"][random.choice(TEXTS) + str(random.random())] = odd_value(random)
    return raw


STRUCTURAL: Final[tuple[Structural, ...]] = (
    *[_swap_field] * 4,
    *(_drop_field, _swap_values, _change_status, _replace_job, _replace_root, _add_fields),
)

Bytewise = Callable[[bytes, Random], bytes]


def _flip(body: bytes, random: Random) -> bytes:
    changed = bytearray(body or b"{")
    for _ in range(random.randrange(1, 6)):
        changed[random.randrange(len(changed))] = random.randrange(256)
    return bytes(changed)


def _cut(body: bytes, random: Random) -> bytes:
    return body[: random.randrange(len(body) + 1)]


def _splice(body: bytes, random: Random) -> bytes:
    """Copy one part over another."""
    start, end, to = (random.randrange(len(body) + 1) for _ in range(3))
    return body[:to] + body[start:end] + body[to + random.randrange(20) :]


def _insert(body: bytes, random: Random) -> bytes:
    at, junk = random.randrange(len(body) + 1), random.choice(JUNK)
    return body[:at] + junk + body[at:]


JUNK: Final = (
    *(
        b"\0",
        b"\xff\xfe",
        b"\xef\xbb\xbf",
        b"\xed\xa0\x80",
        b"\xf5",
        b'"',
        b"\\",
        b"\\u",
        b"\\ud800",
    ),
    *(b"{", b"}", b"[", b"]", b",", b":", b"9" * 5_000, b"NaN", b"1e999", b"-", b"[" * 3_000),
    *(b'"status":"FAILED",', b'"job_id":"job-0",', b'"job":{},', b"\n" * 50, b"//", b"/* */"),
)
BYTEWISE: Final[tuple[Bytewise, ...]] = (_flip, _cut, _splice, _insert)


def mutated(raw: dict[str, Any], random: Random) -> bytes:
    """Mutate the values of a response, its bytes, or both."""
    kind, tree = random.random(), copy.deepcopy(raw)
    if kind < 0.75:
        tree = random.choice(STRUCTURAL)(tree, random)
    body = json.dumps(tree, ensure_ascii=random.random() < 0.5).encode("utf-8", "surrogatepass")
    if kind > 0.6:
        for _ in range(random.randrange(1, 3)):
            body = random.choice(BYTEWISE)(body, random)
    return body

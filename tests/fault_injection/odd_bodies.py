"""Answers of status 200 that are odd: those that tell nothing, and those that still tell a job."""

import json
import re
from collections.abc import Callable
from typing import Any, Final

JobObject = dict[str, Any]
Body = Callable[[JobObject], bytes]
"""Write the body of an answer about a job."""

DEEP: Final = 200_000
LONG: Final = 1_000_000


def written(job: Any) -> bytes:
    """Write an answer as the API does."""
    return json.dumps({"job": job}).encode()


def given(**fields: Any) -> Body:
    """Change fields of the job."""
    return lambda job: written(job | fields)


def without(name: str) -> Body:
    """Leave a field out."""
    return lambda job: written({key: value for key, value in job.items() if key != name})


def literal(name: str, text: str) -> Body:
    """Give a field a value that `json.dumps` would not write."""
    return lambda job: written(job | {name: "@"}).replace(b'"@"', text.encode())


def moments(change: Callable[[str], Any]) -> Body:
    """Write each moment that the job has in another way."""

    def write(job: JobObject) -> bytes:
        told = {key: it for key, it in job.items() if key.startswith("datetime_") and it}
        return written(job | {key: change(it) for key, it in told.items()})

    return write


def nested(depth: int) -> Any:
    """Give an object in objects, so many deep."""
    tree: Any = "deep"
    for _ in range(depth):
        tree = {"in": tree}
    return tree


LOST: Final[dict[str, Body]] = {
    "empty 200": lambda _job: b"",
    "HTML 200": lambda job: b"<html>" + written(job) + b"</html>",
    "cut JSON": lambda job: written(job)[:-2],
    "two answers": lambda job: written(job) * 2,
    "UTF-16": lambda job: written(job).decode().encode("utf-16"),
    "NUL before": lambda job: b"\0" + written(job),
    "raw NUL in a text": lambda job: written(job | {"name": "@"}).replace(b"@", b"\0"),
    "root is a number": lambda _job: b"1",
    "root is a text": lambda job: json.dumps(written(job).decode()).encode(),
    "root is an array": lambda job: b"[" + written(job) + b"]",
    "root is null": lambda _job: b"null",
    "no job": lambda _job: b"{}",
    "job beside job": lambda job: json.dumps(job).encode(),
    "job is null": lambda _job: b'{"job": null}',
    "job is a list": lambda job: written([job]),
    "job under jobs": lambda job: json.dumps({"jobs": [job]}).encode(),
    "another job's id": given(job_id="a-healthy"),
    "id of another case": lambda job: written(job | {"job_id": job["job_id"].upper()}),
    "id with a blank": lambda job: written(job | {"job_id": job["job_id"] + " "}),
    "id is a number": given(job_id=12_345),
    "id is null": given(job_id=None),
    "no id": without("job_id"),
    "no status": without("status"),
    "status null": given(status=None),
    "status a number": given(status=9),
    "status a list": given(status=["CANCELLED"]),
    "status true": given(status=True),
    "status empty": given(status=""),
    "status blank": given(status=" \t\n"),
    "status unknown": given(status="EXPLODED"),
    "status in a sentence": given(status="was CANCELLED"),
    "status of 1 MB": given(status="CANCELLED" * (LONG // 9)),
    "nested brackets": lambda job: written(job | {"x": "@"}).replace(
        b'"@"', b"[" * DEEP + b"]" * DEEP
    ),
    "nested objects": lambda job: written(job | {"x": "@"}).replace(
        b'"@"', b'{"x":' * DEEP + b"1" + b"}" * DEEP
    ),
    "brackets that never close": lambda _job: b'{"job": ' + b"[" * DEEP,
    "countless values": lambda job: written(job | {"x": [[]] * 200_000}),
}
"""Bodies that tell nothing of the job, whatever end they seem to claim."""

TOLD: Final[dict[str, Body]] = {
    "BOM": lambda job: b"\xef\xbb\xbf" + written(job),
    "white space": lambda job: b" \r\n\t" + written(job) + b"\n ",
    "invalid UTF-8": lambda job: written(job | {"name": "@"}).replace(b"@", b"\xff\xc0\xaf"),
    "lone surrogate": given(name="half \ud800 a pair"),
    "NUL in a text": given(name="a\0b", description="\x1b[2J"),
    "status in mixed case": lambda job: written(job | {"status": job["status"].title()}),
    "status in blanks": lambda job: written(job | {"status": f" {job['status']}\n"}),
    "status with control characters": lambda job: written(
        job | {"status": f"\x07{job['status']}\0"}
    ),
    "duplicate keys": lambda job: written(job).replace(
        b'{"job": {', b'{"job": {"status": "CANCELLED", "job_id": "job-0", '
    ),
    "an integer of 5,000 digits": literal("input_tokens", "9" * 5_000),
    "NaN": literal("job_cost", "NaN"),
    "Infinity": literal("job_cost", "-Infinity"),
    "1e999": literal("job_cost", "1e999"),
    "negative cost": given(job_cost=-0.01, cost_estimate=-1),
    "cost as text": given(job_cost="0.0234", cost_estimate="$1"),
    "cost true": given(job_cost=True),
    "tokens a float": given(input_tokens=15_420.0),
    "tokens negative": given(input_tokens=-1, output_tokens=-(2**63)),
    "tokens as text": given(output_tokens="8230"),
    "tokens true": given(input_tokens=True, num_rows=False),
    "no zone": moments(lambda text: text.removesuffix("Z")),
    "an offset": moments(lambda text: text.removesuffix("Z") + "+05:30"),
    "a space for the T": moments(lambda text: text.replace("T", " ")),
    "epoch numbers": moments(lambda _text: 1_705_314_735),
    "year 0": moments(lambda text: re.sub("^....", "0000", text)),
    "year 1 east of Greenwich": moments(lambda _text: "0001-01-01T00:00:00+14:00"),
    "month 13": moments(lambda text: re.sub("-..-", "-13-", text)),
    "second 60": moments(lambda text: text[:17] + "60Z"),
    "nanoseconds": moments(lambda text: text[:19] + ".123456789Z"),
    "completed before created": lambda job: written(
        job
        | {
            "datetime_created": job["datetime_completed"] or job["datetime_created"],
            "datetime_completed": job["datetime_completed"] and job["datetime_created"],
        }
    ),
    "future": moments(lambda text: re.sub("^....", "9999", text)),
    "reason a text": given(failure_reason="out of memory"),
    "reason a list": given(failure_reason=["out of memory"]),
    "reason of 1 MB": given(failure_reason={"message": "x" * LONG, "more": "\u20ac" * 1_000}),
    "reason deep": given(failure_reason=nested(500)),
    "reason of control characters": given(failure_reason={"\x00": "\x1b\u2028\ud800"}),
    "60,000 extra keys": lambda job: written(job | {f"key_{it}": it for it in range(60_000)}),
    "no completion time": given(datetime_completed=None),
    "running, yet completed": lambda job: written(
        job | {"datetime_completed": job["datetime_completed"] or job["datetime_created"]}
    ),
    "succeeded, yet a reason": given(failure_reason={"message": "none at all"}),
    "every optional field a list": lambda job: written(
        {key: value if key in ("job_id", "status") else [None] for key, value in job.items()}
    ),
    "nothing but id and status": lambda job: written(
        {"job_id": job["job_id"], "status": job["status"]}
    ),
}
"""Bodies that tell the job's status all the same: what is odd of the rest is null."""

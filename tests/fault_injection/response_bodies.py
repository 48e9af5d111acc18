"""Odd bodies of status 200: unusable ones, and those that still show a job."""

import json
import re
from collections.abc import Callable
from typing import Any, Final

JobObject = dict[str, Any]
Body = Callable[[JobObject], bytes]
"""Writes the body of a response about a job."""

DEPTH: Final = 200_000
MEGABYTE: Final = 1_000_000


def job_body(job: Any) -> bytes:
    """Return a body as the API writes it."""
    return json.dumps({"job": job}).encode()


def changed(**fields: Any) -> Body:
    """Change fields of the job."""
    return lambda job: job_body(job | fields)


def without(name: str) -> Body:
    """Leave a field out."""
    return lambda job: job_body({key: value for key, value in job.items() if key != name})


def literal(name: str, text: str) -> Body:
    """Set a field to a value that `json.dumps` cannot write."""
    return lambda job: job_body(job | {name: "@"}).replace(b'"@"', text.encode())


def with_timestamps(change: Callable[[str], Any]) -> Body:
    """Write every timestamp of the job in another way."""

    def write(job: JobObject) -> bytes:
        timestamps = {
            key: text for key, text in job.items() if key.startswith("datetime_") and text
        }
        return job_body(job | {key: change(text) for key, text in timestamps.items()})

    return write


def nested(depth: int) -> Any:
    """Return objects nested to a depth."""
    tree: Any = "deep"
    for _ in range(depth):
        tree = {"in": tree}
    return tree


UNUSABLE_BODIES: Final[dict[str, Body]] = {
    "empty 200": lambda _job: b"",
    "HTML 200": lambda job: b"<html>" + job_body(job) + b"</html>",
    "cut JSON": lambda job: job_body(job)[:-2],
    "two answers": lambda job: job_body(job) * 2,
    "UTF-16": lambda job: job_body(job).decode().encode("utf-16"),
    "NUL before": lambda job: b"\0" + job_body(job),
    "raw NUL in a text": lambda job: job_body(job | {"name": "@"}).replace(b"@", b"\0"),
    "root is a number": lambda _job: b"1",
    "root is a text": lambda job: json.dumps(job_body(job).decode()).encode(),
    "root is an array": lambda job: b"[" + job_body(job) + b"]",
    "root is null": lambda _job: b"null",
    "no job": lambda _job: b"{}",
    "job beside job": lambda job: json.dumps(job).encode(),
    "job is null": lambda _job: b'{"job": null}',
    "job is a list": lambda job: job_body([job]),
    "job under jobs": lambda job: json.dumps({"jobs": [job]}).encode(),
    "another job's id": changed(job_id="a-healthy"),
    "id of another case": lambda job: job_body(job | {"job_id": job["job_id"].upper()}),
    "id with a blank": lambda job: job_body(job | {"job_id": job["job_id"] + " "}),
    "id is a number": changed(job_id=12_345),
    "id is null": changed(job_id=None),
    "no id": without("job_id"),
    "no status": without("status"),
    "status null": changed(status=None),
    "status a number": changed(status=9),
    "status a list": changed(status=["CANCELLED"]),
    "status true": changed(status=True),
    "status empty": changed(status=""),
    "status blank": changed(status=" \t\n"),
    "status unknown": changed(status="EXPLODED"),
    "status in a sentence": changed(status="was CANCELLED"),
    "status of 1 MB": changed(status="CANCELLED" * (MEGABYTE // 9)),
    "nested brackets": lambda job: job_body(job | {"x": "@"}).replace(
        b'"@"', b"[" * DEPTH + b"]" * DEPTH
    ),
    "nested objects": lambda job: job_body(job | {"x": "@"}).replace(
        b'"@"', b'{"x":' * DEPTH + b"1" + b"}" * DEPTH
    ),
    "brackets that never close": lambda _job: b'{"job": ' + b"[" * DEPTH,
    "countless values": lambda job: job_body(job | {"failure_reason": [[]] * 200_000}),
}
"""Bodies that are no observation of the job, whatever end they claim."""

USABLE_BODIES: Final[dict[str, Body]] = {
    "BOM": lambda job: b"\xef\xbb\xbf" + job_body(job),
    "white space": lambda job: b" \r\n\t" + job_body(job) + b"\n ",
    "invalid UTF-8": lambda job: job_body(job | {"name": "@"}).replace(b"@", b"\xff\xc0\xaf"),
    "lone surrogate": changed(name="half \ud800 a pair"),
    "NUL in a text": changed(name="a\0b", description="\x1b[2J"),
    "status in mixed case": lambda job: job_body(job | {"status": job["status"].title()}),
    "status in blanks": lambda job: job_body(job | {"status": f" {job['status']}\n"}),
    "status with control characters": lambda job: job_body(
        job | {"status": f"\x07{job['status']}\0"}
    ),
    "duplicate keys": lambda job: job_body(job).replace(
        b'{"job": {', b'{"job": {"status": "CANCELLED", "job_id": "job-0", '
    ),
    "an integer of 5,000 digits": literal("input_tokens", "9" * 5_000),
    "NaN": literal("job_cost", "NaN"),
    "Infinity": literal("job_cost", "-Infinity"),
    "1e999": literal("job_cost", "1e999"),
    "negative cost": changed(job_cost=-0.01, cost_estimate=-1),
    "cost as text": changed(job_cost="0.0234", cost_estimate="$1"),
    "cost true": changed(job_cost=True),
    "tokens a float": changed(input_tokens=15_420.0),
    "tokens negative": changed(input_tokens=-1, output_tokens=-(2**63)),
    "tokens as text": changed(output_tokens="8230"),
    "tokens true": changed(input_tokens=True, num_rows=False),
    "no zone": with_timestamps(lambda text: text.removesuffix("Z")),
    "an offset": with_timestamps(lambda text: text.removesuffix("Z") + "+05:30"),
    "a space for the T": with_timestamps(lambda text: text.replace("T", " ")),
    "epoch numbers": with_timestamps(lambda _text: 1_705_314_735),
    "year 0": with_timestamps(lambda text: re.sub("^....", "0000", text)),
    "year 1 east of Greenwich": with_timestamps(lambda _text: "0001-01-01T00:00:00+14:00"),
    "month 13": with_timestamps(lambda text: re.sub("-..-", "-13-", text)),
    "second 60": with_timestamps(lambda text: text[:17] + "60Z"),
    "nanoseconds": with_timestamps(lambda text: text[:19] + ".123456789Z"),
    "completed before created": lambda job: job_body(
        job
        | {
            "datetime_created": job["datetime_completed"] or job["datetime_created"],
            "datetime_completed": job["datetime_completed"] and job["datetime_created"],
        }
    ),
    "future": with_timestamps(lambda text: re.sub("^....", "9999", text)),
    "reason a text": changed(failure_reason="out of memory"),
    "reason a list": changed(failure_reason=["out of memory"]),
    "reason of 1 MB": changed(failure_reason={"message": "x" * MEGABYTE, "more": "\u20ac" * 1_000}),
    "reason deep": changed(failure_reason=nested(500)),
    "reason of control characters": changed(failure_reason={"\x00": "\x1b\u2028\ud800"}),
    "200,000 values that are not read": lambda job: job_body(job | {"x": [[]] * 200_000}),
    "60,000 extra keys": lambda job: job_body(
        job | {f"key_{number}": number for number in range(60_000)}
    ),
    "no completion time": changed(datetime_completed=None),
    "running, yet completed": lambda job: job_body(
        job | {"datetime_completed": job["datetime_completed"] or job["datetime_created"]}
    ),
    "succeeded, yet a reason": changed(failure_reason={"message": "none at all"}),
    "every optional field a list": lambda job: job_body(
        {key: value if key in ("job_id", "status") else [None] for key, value in job.items()}
    ),
    "nothing but id and status": lambda job: job_body(
        {"job_id": job["job_id"], "status": job["status"]}
    ),
}
"""Bodies that still show the status of the job; other odd fields are null."""

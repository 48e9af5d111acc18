"""The bodies of 200s: which of them show a job, and what a connection may do to them."""

import json
import tracemalloc
import zlib
from traceback import format_exception
from typing import Final

import anyio
import pytest

from poller.core.errors import (
    MalformedResponse,
    NotFound,
    PollError,
    Rejected,
    ResponseTooLarge,
    Transient,
    WrongEndpoint,
)
from poller.core.job_status import JobStatus
from poller.core.jobs import Job
from poller.sutro import client as client_module
from poller.sutro.client import JOB_BYTES_CAP
from tests.support.builders import EXAMPLE
from tests.support.client_polls import JOB, UNKNOWN, body, client, poll, poll_error
from tests.support.http_peers import BREAKING, STALLING, peer, responds, sends

# Bodies.


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b"\xef\xbb\xbf" + body(name="n"), "n"),
        (body(name="n").replace(b'"n"', b'"\xff"'), "\N{REPLACEMENT CHARACTER}"),
        (b" \n" + body(name="n") + b"\n ", "n"),
        (body(name="\N{GRINNING FACE}"), "\N{GRINNING FACE}"),
        (body(name="old").replace(b'"name": "old"', b'"name": "old", "name": "new"'), "new"),
    ],
)
async def test_odd_text_is_decoded(text: bytes, name: str):
    """A BOM, white space, invalid UTF-8 and repeated keys do not cost the response."""
    assert (await poll(responds(200, text))).name == name


@pytest.mark.parametrize("kind", ["text/plain", "text/html; charset=latin-1", "junk"])
async def test_content_type_does_not_matter(kind: str):
    """JSON is JSON under any content type."""
    assert (await poll(responds(200, body(), content_type=kind))).job_id == JOB


@pytest.mark.parametrize(
    "number", ["9" * 5_000, "-" + "9" * 5_000, "NaN", "Infinity", "-Infinity", "1e999", "-1"]
)
async def test_invalid_number_is_null(number: str):
    """A number that no job can have is null, is named, and costs nothing else."""
    text = body(input_tokens=1, job_cost=2).decode()
    text = text.replace('"input_tokens": 1', f'"input_tokens": {number}')
    text = text.replace('"job_cost": 2', f'"job_cost": {number}')

    job = await poll(responds(200, text.encode()))

    assert (job.status, job.input_tokens, job.job_cost) == (JobStatus.SUCCEEDED, None, None)


DEEP: Final = 60_000


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"<html>It works</html>",
        body()[:-10],
        body() + b"{}",
        body().decode().encode("utf-16"),
        b"\0" + body(),
        b"null",
        b"1",
        b'"job"',
        b"[]",
        b"[" + body() + b"]",
        b"{}",
        b'{"job": null}',
        b'{"job": []}',
        b'{"job": {}}',
        b'{"jobs": [' + body() + b"]}",
        json.dumps(EXAMPLE).encode(),
        body(job_id="job-1234"),
        body(job_id="JOB-12345"),
        body(job_id=12345),
        body(job_id="../job-12345"),
        body(status=None),
        body(status=""),
        b'{"job": ' + b"[" * DEEP + b"]" * DEEP + b"}",
        b'{"job":' * DEEP + b"1" + b"}" * DEEP,
    ],
)
async def test_200_without_a_job_is_malformed(text: bytes):
    """A 200 that is not a JSON object with the requested job is no observation."""
    assert type(await poll_error(responds(200, text))) is MalformedResponse


def raw_deflate(text: bytes) -> bytes:
    """Compress a text as some servers do under the name of deflate."""
    return zlib.compress(text, wbits=-zlib.MAX_WBITS)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (zlib.compress(body(), wbits=31), "gzip"),
        (zlib.compress(body(), wbits=31), " GZip "),
        (zlib.compress(body(), wbits=31), "x-gzip"),
        (zlib.compress(body(), wbits=31), "identity, gzip"),
        (zlib.compress(body()), "deflate"),
        (raw_deflate(body()), "deflate"),
    ],
)
async def test_unrequested_compression_is_undone(text: bytes, encoding: str):
    """A body that a proxy has compressed, although plain was requested, is read."""
    assert (await poll(responds(200, text, content_encoding=encoding))).job_id == JOB


async def test_compressed_404_is_the_apis_own():
    """The API's own 404 is recognized when a proxy compresses it."""
    error = await poll_error(responds(404, zlib.compress(UNKNOWN), content_encoding="deflate"))

    assert type(error) is NotFound


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (b"\x1f\x8b junk", "gzip"),
        (body(), "gzip"),
        (zlib.compress(zlib.compress(body())), "deflate, deflate"),
        (b"\x28\xb5\x2f\xfd" + bytes(1_000), "zstd"),
        (bytes(1_000), "br"),
        (body(), "x-unknown"),
    ],
)
async def test_unknown_encoding_is_rejected(text: bytes, encoding: str):
    """A body in another encoding, or not in the one that it names, is no observation."""
    error = await poll_error(responds(200, text, content_encoding=encoding))

    assert str(error) == "the response has an encoding that was not requested"


async def test_compression_bomb_stays_small():
    """A compressed body is read up to the cap and no further."""
    bomb = zlib.compress(bytes(50 * JOB_BYTES_CAP), wbits=31)
    tracemalloc.start()
    error = await poll_error(responds(200, bomb, content_encoding="gzip"))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert type(error) is ResponseTooLarge
    assert peak < 4 * JOB_BYTES_CAP


@pytest.mark.parametrize("encoding", ["identity", " Identity ", ""])
async def test_identity_encoding_is_read(encoding: str):
    """A body that says that it is not encoded is read."""
    assert (await poll(responds(200, body(), content_encoding=encoding))).job_id == JOB


async def test_body_over_the_cap_is_too_large():
    """A job object over the cap is distinct: its status can still be requested."""
    assert type(await poll_error(responds(200, b" " * (JOB_BYTES_CAP + 1)))) is ResponseTooLarge


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'{"":1}', b'"label"'])
async def test_field_that_is_not_read_counts_for_nothing(value: bytes):
    """A job with a schema of a hundred thousand values is read like any other."""
    schema = b'"json_schema": [' + (value + b",") * 100_000 + b"1]"
    text = body().replace(b'"job_id"', schema + b', "job_id"')

    assert await poll(responds(200, text)) == await poll(responds(200, body()))


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'{"":1}'])
@pytest.mark.parametrize("beginning", [b'{"job": [', b'{"job": {"failure_reason": ['])
async def test_body_of_a_million_values_is_too_large(beginning: bytes, value: bytes):
    """Tiny values, which take a hundred times their size in memory, are not decoded."""
    text = beginning + (value + b",") * 100_000 + b"1]}"

    assert type(await poll_error(responds(200, text))) is ResponseTooLarge
    assert type(await poll_error(responds(404, text))) is WrongEndpoint


async def test_error_over_the_cap_keeps_its_meaning():
    """An error is what its status says, however long its body is."""
    assert type(await poll_error(responds(500, b" " * (JOB_BYTES_CAP + 1)))) is Transient


async def test_parser_bug_is_logged_with_its_traceback(monkeypatch, capsys):
    """A bug of ours that one odd job triggers is logged and concerns that job alone."""

    def raises(_raw: object) -> Job:
        raise ZeroDivisionError

    monkeypatch.setattr(client_module, "parse_job", raises)

    error = await poll_error(responds(200, body()))

    assert type(error) is Rejected
    assert "ZeroDivisionError" in capsys.readouterr().out


# Connections.


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("name", sorted(BREAKING | STALLING))
async def test_hostile_peer_is_transient(name: str):
    """Whatever keeps a response from arriving whole is transient, at the latest at the deadline."""
    error = await poll_error((BREAKING | STALLING)[name])

    assert isinstance(error, Transient)
    assert anyio.current_time() <= 31.0


ERRORS: Final = {
    "unauthorized": responds(401, b"canary"),
    "throttled": responds(429, b"canary", retry_after="canary"),
    "unknown": responds(404, b'{"message": "canary"}'),
    "foreign": responds(404, b"canary"),
    "redirect": responds(302, b"canary", location="http://canary.example/canary"),
    "rejected": responds(400, b"canary"),
    "trouble": responds(500, b"canary"),
    "no JSON": responds(200, b"canary"),
    "another job": responds(200, body(job_id="canary")),
    "too large": responds(200, b"canary" * JOB_BYTES_CAP),
    "reason": sends(b"HTTP/1.1 canary canary\r\n\r\n"),
    "header": sends(b"HTTP/1.1 200 OK\r\ncanary\r\n\r\n"),
} | BREAKING


@pytest.mark.virtual(limit=60.0)
@pytest.mark.parametrize("name", sorted(ERRORS))
async def test_errors_contain_no_secret(name: str):
    """No error's text, representation or traceback has the key, the path or the body in it."""
    job_id = "canary-1"
    async with peer(ERRORS[name]) as it, client(it.base + "/canary/v1") as api:
        with pytest.raises(PollError) as caught:
            await api.get_job(job_id)

    texts = [str(caught.value), repr(caught.value), *format_exception(caught.value)]
    assert "canary" not in "".join(texts)

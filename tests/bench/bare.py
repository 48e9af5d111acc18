"""A bare loop that polls jobs with aiohttp, tuned as well as we know: what a poll costs at least.

python tests/bench/bare.py VARIANT URL CA_FILE CONCURRENCY JOBS
"""

# ruff: noqa: D103
import asyncio
import json
import ssl
import sys
from itertools import cycle

import aiohttp
import uvloop
from yarl import URL


async def poll(session, url, variant):
    async with session.get(url, allow_redirects=False) as response:
        if variant == "chunks":
            return json.loads(b"".join([it async for it in response.content.iter_any()]))
        body = await response.read()
        return body if variant == "bytes" else json.loads(body)["job"]["status"]


async def work(session, urls, variant):
    for url in urls:
        await poll(session, url, variant)


async def main(variant, base, ca_file, concurrency, jobs):
    tls = ssl.create_default_context(cafile=ca_file)
    connector = aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=330, ssl=tls)
    headers = {"Authorization": "Key k", "Accept-Encoding": "identity"}
    options = {"headers": headers, "cookie_jar": aiohttp.DummyCookieJar(), "auto_decompress": False}
    urls = cycle([URL(f"{base}/v1/jobs/job-{number}") for number in range(jobs)])
    async with aiohttp.ClientSession(connector=connector, **options) as session:
        await asyncio.gather(*(work(session, urls, variant) for _ in range(concurrency)))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:4], *map(int, sys.argv[4:])))

"""A bare loop that polls jobs with aiohttp, tuned as well as possible: the least cost of a poll.

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
from pydantic_core import from_json
from yarl import URL

READ = {
    "status": lambda body: from_json(body)["job"]["status"],
    "json": lambda body: json.loads(body)["job"]["status"],
    "bytes": lambda body: body,
}


async def work(session, urls, read):
    for url in urls:
        async with session.get(url, allow_redirects=False) as response:
            read(await response.read())


async def main(variant, base, ca_file, concurrency, jobs):
    tls = ssl.create_default_context(cafile=ca_file)
    connector = aiohttp.TCPConnector(limit=concurrency, keepalive_timeout=330, ssl=tls)
    headers = {"Authorization": "Key k", "Accept-Encoding": "identity"}
    options = {"headers": headers, "cookie_jar": aiohttp.DummyCookieJar(), "auto_decompress": False}
    urls = cycle([URL(f"{base}/v1/jobs/job-{number}") for number in range(jobs)])
    async with aiohttp.ClientSession(connector=connector, **options) as session:
        await asyncio.gather(*(work(session, urls, READ[variant]) for _ in range(concurrency)))


if __name__ == "__main__":
    uvloop.run(main(*sys.argv[1:4], *map(int, sys.argv[4:])))

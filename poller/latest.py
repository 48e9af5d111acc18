"""The newest job of the account, however long the API takes to name it."""

import itertools
import random

import anyio

from poller.errors import NotFound, PollError, Throttled, Transient
from poller.schedule import Backoff
from poller.sutro.client import Page, SutroClient
from poller.waiter import Onlooker, Terms, unreachable


async def find_latest(client: SutroClient, onlooker: Onlooker, terms: Terms) -> str:
    """Name the newest job of the account. Raises PollError, NotFound when it has none."""
    backoff = Backoff()
    trouble: PollError | None = None
    with anyio.move_on_after(terms.unreachable_after):
        for failures in itertools.count(1):
            try:
                return _newest(await client.list_jobs(limit=1))
            except (Transient, Throttled) as error:
                trouble, pause = error, getattr(error, "retry_after", None)
            onlooker.tell(f"{trouble}; asking again")
            await anyio.sleep(pause or backoff.delay(failures, random.random))
    raise unreachable(trouble, terms.unreachable_after)


def _newest(page: Page) -> str:
    if not page.jobs:
        raise NotFound("the account has no job yet: submit one first")
    return page.jobs[0].job_id

"""The polling side of a daemon without sockets: watcher, source, pages, rate limiter, discovery."""

from random import Random

from anyio.lowlevel import checkpoint

from poller.core.pacing import PollPolicy
from poller.polling.discovery import Discovery, DiscoveryFilter
from poller.polling.watcher import Watcher
from poller.store import Store
from poller.sutro.list_planner import ListPlanner
from poller.sutro.rate_limit import RateLimiter
from poller.sutro.source import SutroSource
from tests.fault_injection.unreliable_api import Site
from tests.support.fakes import a_watcher
from tests.support.virtual_time import virtual_clock

SCAN_INTERVAL = 30.0


def build_daemon(
    site: Site,
    store: Store,
    random: Random,
    *,
    policy: PollPolicy,
    per_minute: float,
    has_pages: bool,
) -> tuple[Watcher, Discovery]:
    """Return the parts that watch the jobs of a site in virtual time; all of them are real."""
    clock = virtual_clock()
    source = SutroSource(
        site.api,  # type: ignore[arg-type]
        RateLimiter(per_minute=per_minute, now=clock.steady, random=random.random),
        planner=ListPlanner(clock.steady, is_on=has_pages),
        now=clock.steady,
        renew_key=checkpoint,
    )
    watcher = a_watcher(source, store, clock, policy=policy, origin=site.origin)
    discovery = Discovery(
        source,
        store,
        deployment=site.name,
        job_filter=DiscoveryFilter(),
        interval=SCAN_INTERVAL,
        clock=clock,
        random=random.random,
    )
    return watcher, discovery

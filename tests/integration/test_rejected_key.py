"""A rejected API key stops the polls, and is announced once, as is its recovery."""

from functools import partial

import anyio
import pytest

from poller.core.auth_notice import AUTH_FLAG, AuthNotice
from poller.core.counters import Counters
from poller.core.errors import (
    NotFound,
    RateLimited,
    Rejected,
    Transient,
    Unauthorized,
    WrongEndpoint,
)
from poller.core.events import EventOrigin
from poller.core.pacing import PollPolicy
from poller.core.state import Signal
from poller.sutro.port import Observation
from poller.sutro.source import UNLIKELY_ID
from tests.support.fakes import (
    FailingStore,
    FakeApi,
    a_store,
    ended,
    recorded,
    recorded_types,
    running,
    settled,
    watching,
)

pytestmark = pytest.mark.virtual(limit=90_000.0)
FIXED = PollPolicy(minimum=10.0, maximum=10.0)
REJECTED = Unauthorized("API key rejected (401)", status=401)
FORBIDDEN = Unauthorized("API key rejected (403)", status=403)


def an_api(jobs: int) -> tuple[FakeApi, list[str]]:
    """Return an API with so many running jobs, and their ids."""
    ids = [f"job-{number}" for number in range(jobs)]
    api = FakeApi()
    api.answers = {job_id: running(job_id) for job_id in ids}
    return api, ids


def poller_types(store) -> list[str]:
    """Return the types of the recorded events about the daemon."""
    return [kind for kind in recorded_types(store) if kind.startswith("poller.")]


async def test_single_401_is_not_announced():
    """A single 401 that a later response contradicts is announced to nobody."""
    (api, ids), store = an_api(3), a_store()

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(60.0)
        api.trouble = REJECTED
        await anyio.sleep(10.0)
        api.trouble = None
        await anyio.sleep(600.0)

    assert poller_types(store) == []


async def test_accepted_key_is_announced_once():
    """The first response after a rejected key is announced, and every job goes on at once."""
    (api, ids), store = an_api(20), a_store()

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(60.0)
        api.trouble = FORBIDDEN
        await anyio.sleep(3_600.0)
        api.trouble, healed_at = None, anyio.current_time()
        await anyio.sleep(960.0)

    assert poller_types(store) == ["poller.auth_failed", "poller.auth_recovered"]
    back = min(at for at, _ in api.asked if at > healed_at)
    for job_id in ids:
        assert min(at for at in api.times(job_id) if at >= back) <= back + 11.0


@pytest.mark.parametrize(
    "trouble", [NotFound("404"), Transient("500"), RateLimited("429", retry_after=None)]
)
async def test_failed_probe_is_followed_by_one_with_another_job(trouble):
    """A job that keeps failing as a probe keeps the gate shut for no other."""
    (api, ids), store = an_api(3), a_store()
    first: list[str] = []

    def answer(job_id):
        first.append(job_id)
        return trouble if job_id == first[0] else running(job_id)

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(60.0)
        api.trouble = REJECTED
        await anyio.sleep(7_200.0)
        api.answers, api.trouble = {name: partial(answer, name) for name in ids}, None
        await anyio.sleep(2_000.0)

    assert poller_types(store) == ["poller.auth_failed", "poller.auth_recovered"]


async def test_key_of_another_account_makes_no_job_missing():
    """A rejected key is replaced by one that knows none of the jobs: none of them is missing."""
    (api, ids), store = an_api(20), a_store()
    known = dict(api.answers)

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(60.0)
        api.trouble = REJECTED
        await anyio.sleep(36_000.0)
        api.answers, api.trouble = {}, None
        await anyio.sleep(36_000.0)
        api.answers = known
        await anyio.sleep(2_000.0)

    assert "job.missing" not in recorded_types(store)
    assert poller_types(store) == ["poller.auth_failed", "poller.auth_recovered"]


async def test_auth_events_have_the_right_reason():
    """An event about the key states what is true, whichever response it came with."""
    (api, ids), store = an_api(2), a_store()

    async with watching(api, store, *ids, policy=FIXED) as watcher:
        await settled()
        watcher._source._rate_limiter.gate.is_rejected = True
        await watcher.ingest([Observation("job-0", watcher._now(), Signal.TIMER)])
        watcher._source._rate_limiter.gate.open()
        await anyio.sleep(20.0)

    events = [event for event in recorded(store) if event.type.startswith("poller.")]
    assert [event.data["reason"] for event in events] == [
        "API key rejected",
        "API key accepted",
    ]


async def test_rejected_key_is_announced_once_over_a_restart():
    """A process whose key is still rejected announces nothing; the one that recovers, once."""
    (api, ids), store = an_api(3), a_store()
    api.trouble = REJECTED
    for _ in range(2):
        async with watching(api, store, *ids, policy=FIXED):
            await anyio.sleep(3_600.0)
    assert poller_types(store) == ["poller.auth_failed"]
    api.trouble = None

    for _ in range(2):
        async with watching(api, store, *ids, policy=FIXED):
            await anyio.sleep(3_600.0)

    assert poller_types(store) == ["poller.auth_failed", "poller.auth_recovered"]


async def test_each_rejection_has_its_own_event_id():
    """A key that is rejected a second time is announced a second time."""
    (api, ids), store = an_api(3), a_store()

    async with watching(api, store, *ids, policy=FIXED):
        for trouble in (None, REJECTED) * 2:
            api.trouble = trouble
            await anyio.sleep(3_600.0)

    assert poller_types(store) == [
        "poller.auth_failed",
        "poller.auth_recovered",
        "poller.auth_failed",
    ]
    assert len({event.id for event in recorded(store)}) == len(recorded(store))


async def test_rejected_key_belongs_to_one_deployment():
    """A rejection at another deployment is none here: neither its recovery nor ours is hidden."""
    (api, ids), store = an_api(3), a_store()
    notices = []
    for deployment, trouble in (("a", REJECTED), ("b", None), ("b", REJECTED), ("a", None)):
        api.trouble = trouble
        origin = EventOrigin(deployment=deployment)
        async with watching(api, store, *ids, policy=FIXED, origin=origin):
            await anyio.sleep(600.0)
        notices.append(AuthNotice.parse((await store.get_flags()).get(AUTH_FLAG)).is_rejected)

    assert notices == [True, False, True, False]
    assert poller_types(store) == ["poller.auth_failed"] * 2
    assert len({event.id for event in recorded(store)}) == len(recorded(store))


@pytest.mark.parametrize("way", ["fails", "lies"])
async def test_rejected_key_is_announced_once_after_a_store_failure(way):
    """A rejected key that cannot be recorded is announced, and counted, once when it can be."""
    (api, ids), store, counters = an_api(3), FailingStore(a_store()), Counters()

    async with watching(api, store, *ids, policy=FIXED, counts=counters):
        await anyio.sleep(60.0)
        setattr(store, way, {"write"})
        api.trouble = REJECTED
        await anyio.sleep(60.0)
        setattr(store, way, set())
        await anyio.sleep(3_600.0)

    assert poller_types(store) == ["poller.auth_failed"]
    assert counters.events["poller.auth_failed"] == 1


async def test_unreadable_flags_are_read_later():
    """A store that fails when its flags are first read delays observations, and loses nothing."""
    (api, ids), store = an_api(1), FailingStore(a_store())
    store.fails = {"get_flags"}

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(60.0)
        assert recorded_types(store) == []
        store.fails = set()
        await anyio.sleep(30.0)

    assert recorded_types(store) == ["job.started"]


async def test_forbidden_job_is_deferred_alone():
    """A 403 for one job, while others respond, is polled every 15 minutes and not announced."""
    (api, ids), store = an_api(5), a_store()
    api.answers["job-0"] = FORBIDDEN

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(3_600.0)

    waits = [b - a for a, b in zip(api.times("job-0"), api.times("job-0")[1:], strict=False)]
    assert all(wait >= 890.0 for wait in waits)
    assert len(waits) >= 3
    assert all(len(api.times(job_id)) > 300 for job_id in ids[1:])
    assert poller_types(store) == []


async def test_forbidden_jobs_are_not_taken_for_a_rejected_key_in_an_outage():
    """Jobs that were forbidden alone before prove nothing while no other job has a response."""
    (api, ids), store = an_api(6), a_store()

    async with watching(api, store, *ids, policy=FIXED):
        for job_id in ids[:2]:
            await anyio.sleep(1_800.0)
            api.answers[job_id] = FORBIDDEN
        await anyio.sleep(1_800.0)
        api.answers |= dict.fromkeys(ids[2:], Transient("503"))
        await anyio.sleep(14_400.0)

    assert poller_types(store) == []


async def test_forbidden_jobs_are_no_rejected_key_while_the_api_is_not_there():
    """While all others lead to another server, jobs that are forbidden one by one prove nothing."""
    (api, ids), store = an_api(6), a_store()

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(1_800.0)
        api.answers |= dict.fromkeys([*ids, UNLIKELY_ID], WrongEndpoint("404"))
        api.answers |= dict.fromkeys(ids[:3], FORBIDDEN)
        await anyio.sleep(14_400.0)
        api.answers |= {job_id: ended(job_id) for job_id in ids}
        await anyio.sleep(1_800.0)

    assert poller_types(store) == []
    assert recorded_types(store).count("job.succeeded") == len(ids)


@pytest.mark.parametrize(("forbidden", "others"), [(1, 0), (1, 3), (2, 0), (2, 3), (5, 1)])
async def test_forbidden_jobs_are_no_rejected_key_from_the_start(forbidden: int, others: int):
    """Jobs that are forbidden one by one prove nothing, when no other job has a response at all."""
    (api, ids), store = an_api(forbidden + others), a_store()
    api.answers |= dict.fromkeys(ids, Transient("503")) | dict.fromkeys(ids[:forbidden], FORBIDDEN)

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(14_400.0)

    assert poller_types(store) == []
    assert len(api.times("job-0")) >= 10


@pytest.mark.parametrize("jobs", [1, 3])
async def test_forbidden_job_costs_few_requests(jobs: int):
    """Jobs that are forbidden one by one are polled every 15 minutes, also where no other is."""
    (api, ids), store = an_api(jobs), a_store()
    api.answers |= dict.fromkeys(ids, FORBIDDEN)

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(120.0)

    assert len(api.asked) <= 2 * jobs + 2
    assert poller_types(store) == []


@pytest.mark.parametrize("unknown", [Rejected("422"), WrongEndpoint("404"), FORBIDDEN])
async def test_job_that_was_forbidden_is_polled_where_unknown_ids_are_rejected(unknown):
    """Where a made-up ID cannot show that the key is accepted, the job itself can."""
    (api, ids), store = an_api(1), a_store()
    api.answers[UNLIKELY_ID] = unknown

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(60.0)
        api.answers["job-0"] = FORBIDDEN
        await anyio.sleep(60.0)
        api.answers["job-0"] = ended("job-0")
        await anyio.sleep(1_800.0)

    assert "job.succeeded" in recorded_types(store)


async def test_key_rejected_beside_a_forbidden_job_is_announced():
    """A job that was forbidden alone before hides no rejection of the key."""
    (api, ids), store = an_api(2), a_store()
    api.answers["job-0"] = FORBIDDEN

    async with watching(api, store, *ids, policy=FIXED):
        await anyio.sleep(1_800.0)
        api.trouble = FORBIDDEN
        await anyio.sleep(3_600.0)
        api.trouble = None
        await anyio.sleep(2_000.0)

    assert poller_types(store) == ["poller.auth_failed", "poller.auth_recovered"]


async def test_key_file_is_read_before_each_probe():
    """A key that was replaced in its file is used by the next probe."""
    api, ids = an_api(2)
    api.trouble = REJECTED
    renewed: list[float] = []

    async def renew_key() -> None:
        renewed.append(anyio.current_time())

    async with watching(api, a_store(), *ids, renew_key=renew_key):
        await anyio.sleep(3_600.0)

    assert renewed == [at for at, _ in api.asked[1:]]

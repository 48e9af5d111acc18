"""Jobs that the API does not know: they go missing, but a wrong tenant makes none missing."""

from datetime import timedelta

import anyio
import pytest
from structlog.testing import capture_logs

from poller.core.errors import NotFound, Rejected, Transient, Unauthorized, WrongEndpoint
from poller.core.issues import Issue
from poller.core.pacing import PollPolicy
from poller.polling.missing_guard import GUARD_JOBS
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from tests.support.fakes import FakeApi, a_store, ended, recorded_types, running, settled, watching
from tests.support.running_app import KEY, Receiver, an_app, running_app, served
from tests.support.virtual_time import START, virtual_clock

pytestmark = pytest.mark.virtual(limit=2_000_000.0)
FIXED = PollPolicy(minimum=60.0, maximum=60.0)
ABSENT = NotFound("404")
LONG_AGO = (START - timedelta(days=2)).isoformat()
SELDOM = PollPolicy(maximum=900.0, factor=1.0)
DAY = 86_400.0


def old_and_young(number: int) -> tuple[FakeApi, list[str]]:
    """Return an API with so many old jobs, which are polled seldom, and a young one."""
    old = [f"old-{index}" for index in range(number)]
    api = FakeApi()
    api.answers = {job_id: running(job_id, datetime_started=LONG_AGO) for job_id in old}
    api.answers["young"] = running("young", datetime_started=START.isoformat())
    return api, old


async def test_unseen_job_is_missing_after_the_grace():
    """A job that was never seen has ten minutes to appear."""
    store = a_store()

    async with watching(FakeApi(), store, "job-1", policy=FIXED):
        await anyio.sleep(590.0)
        assert recorded_types(store) == []
        await anyio.sleep(20.0)

        assert recorded_types(store) == ["job.missing"]


async def test_missing_job_is_found_again():
    """A missing job is polled every hour; once it shows, that and its status are announced."""
    api, store = FakeApi(), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(3_000.0)
        api.answers["job-1"] = ended()
        await anyio.sleep(3_700.0)

    assert recorded_types(store) == ["job.missing", "job.found", "job.succeeded"]


async def test_only_job_is_missing_after_the_whole_grace():
    """A job that was seen, with no other to confirm that it is gone, has ten minutes too."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(60.0)
        api.answers["job-1"] = ABSENT
        await anyio.sleep(590.0)
        assert recorded_types(store) == ["job.started"]
        await anyio.sleep(120.0)

    assert recorded_types(store) == ["job.started", "job.missing"]


async def test_job_that_goes_missing_twice_has_two_events():
    """Each time that a job goes missing has an event of its own."""
    api, store = FakeApi(job_1=running()), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        for response in (running(), ABSENT) * 2:
            api.answers["job-1"] = response
            await anyio.sleep(8_000.0)

    assert recorded_types(store) == ["job.started", *["job.missing", "job.found"] * 2][:-1]


@pytest.mark.slow
async def test_missing_job_is_polled_for_a_week():
    """A missing job is polled every hour, for a week."""
    api = FakeApi()

    async with watching(api, a_store(), "job-1", policy=FIXED):
        await anyio.sleep(9 * DAY)

    late = [at for at, _ in api.asked if at > 1_000.0]
    assert 7 * 24 - 20 <= len(late) <= 7 * 24 + 20
    assert late[-1] < 7.2 * DAY


@pytest.mark.slow
@pytest.mark.parametrize("days", [0.1, 8.0])
async def test_missing_job_is_polled_at_once_by_the_next_process(days: float):
    """A process polls a job that is named once at its start, and has another week for it."""
    api, store = FakeApi(), a_store()
    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(days * DAY)
    api.asked.clear()
    started_at = anyio.current_time()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(9 * DAY)

    assert api.times("job-1")[0] - started_at < 1.0
    assert 7 * DAY - 3_700.0 <= api.times("job-1")[-1] - started_at <= 7 * DAY


@pytest.mark.slow
@pytest.mark.parametrize("days", [0.1, 8.0])
async def test_missing_job_that_is_named_again_is_polled_at_once(days: float):
    """A job that is named again while the daemon runs is polled at once, even if given up."""
    api, store = FakeApi(), a_store()
    async with watching(api, store, "job-1", policy=FIXED) as watcher:
        await anyio.sleep(days * DAY)
        api.answers["job-1"] = ended()
        await watcher.watch([], named_again=["job-1"])
        await anyio.sleep(2.0)

    assert recorded_types(store) == ["job.missing", "job.found", "job.succeeded"]


@pytest.mark.parametrize("result", [Rejected("422"), Unauthorized("403", status=403)])
async def test_rejected_job_that_is_named_again_is_polled_at_once(result):
    """A job that waits for a quarter of an hour is polled at once when it is named again."""
    api, store = FakeApi(job_1=result, job_2=running("job-2")), a_store()
    async with watching(api, store, "job-1", "job-2", policy=FIXED) as watcher:
        await anyio.sleep(150.0)
        api.answers["job-1"] = ended()
        await watcher.watch([], named_again=["job-1"])
        await anyio.sleep(2.0)

    assert "job.succeeded" in recorded_types(store)


async def test_jobs_unknown_all_at_once_are_not_missing():
    """When nearly all jobs are unknown the URL is wrong: that is logged once, no job is missing."""
    ids = [f"job-{number}" for number in range(10)]
    api, store = FakeApi(), a_store()

    with capture_logs() as lines:
        async with watching(api, store, *ids, policy=FIXED):
            await anyio.sleep(7_200.0)
            assert recorded_types(store) == []
            api.answers = {job_id: running(job_id) for job_id in ids}
            await anyio.sleep(120.0)

    assert recorded_types(store) == ["job.started"] * 10
    logged = [line["event"] for line in lines if line["event"].startswith("sutro.")]
    assert logged == ["sutro.wrong_endpoint", "sutro.recovered"]


@pytest.mark.parametrize(("others", "missing"), [(1, 3), (0, 0)])
async def test_unknown_new_jobs_are_missing_if_the_list_shows_others(others: int, missing: int):
    """Three mistyped ids are missing if a page shows the account; else the URL may be wrong."""
    simulator = Simulator(now=virtual_clock().steady, key=KEY)
    for number in range(others):
        simulator.add(JobScript(job_id=f"other-{number}"))
    receiver = Receiver()
    async with serve(simulator) as url, served(receiver.take) as hook:
        app = an_app(url, hook, POLLER_JOB_IDS="typo-1,typo-2,typo-3")
        async with running_app(app):
            await anyio.sleep(300.0)
            issues = app.status.issues
            await anyio.sleep(400.0)

    assert receiver.types == ["job.missing"] * missing
    assert (Issue.WRONG_ENDPOINT in issues) is (missing == 0)
    assert simulator.requests["list-jobs"] <= 12


async def test_seen_jobs_are_not_missing_if_the_list_shows_another_account():
    """With the key of another account all jobs are unknown, and its list shows other jobs."""
    simulator = Simulator(now=virtual_clock().steady, key=KEY)
    for number in range(4):
        simulator.add(JobScript(job_id=f"job-{number}", queue_seconds=0.0, run_seconds=9_000.0))
    receiver = Receiver()
    async with serve(simulator) as url, served(receiver.take) as hook:
        app = an_app(url, hook, POLLER_JOB_IDS="job-0,job-1,job-2,job-3")
        async with running_app(app):
            await anyio.sleep(300.0)
            for number in range(4):
                simulator.remove(f"job-{number}")
                simulator.add(JobScript(job_id=f"other-{number}"))
            await anyio.sleep(3_600.0)

    assert receiver.types == []


async def test_few_unknown_jobs_are_missing():
    """Jobs that the API does not know while it knows enough others are missing."""
    api, store = FakeApi(), a_store()
    api.answers = {f"job-{number}": running(f"job-{number}") for number in range(4)}

    async with watching(api, store, *api.answers, "job-8", "job-9", policy=FIXED):
        await anyio.sleep(1_000.0)

    assert recorded_types(store).count("job.missing") == 2


async def test_missing_jobs_do_not_hide_the_next_missing_job():
    """Jobs that went missing before do not make the next one look like a wrong URL."""
    ids = [f"job-{number}" for number in range(4)]
    api, store = FakeApi(), a_store()
    api.answers = {job_id: running(job_id) for job_id in ids}

    async with watching(api, store, *ids, policy=FIXED):
        for job_id in ids:
            await anyio.sleep(9_000.0)
            api.answers[job_id] = ABSENT
        await anyio.sleep(9_000.0)

    assert recorded_types(store).count("job.missing") == 4


@pytest.mark.parametrize("old_ones", [2, 9])
async def test_missing_needs_a_recheck_of_other_jobs(old_ones):
    """No job is missing before others have been polled to learn whether the API knows any job."""
    (api, _old), store = old_and_young(old_ones), a_store()

    async with watching(api, store, *api.answers, policy=SELDOM):
        await anyio.sleep(1.0)
        api.answers = {}
        await anyio.sleep(3_000.0)

    assert "job.missing" not in recorded_types(store)


@pytest.mark.parametrize("old_ones", [2, 9])
async def test_missing_rechecks_other_jobs_repeatedly(old_ones):
    """Others are polled repeatedly before a job is missing: by then they can be unknown too."""
    (api, _old), store = old_and_young(old_ones), a_store()

    async with watching(api, store, *api.answers, policy=SELDOM):
        await anyio.sleep(1.0)
        del api.answers["young"]
        await anyio.sleep(20.0)
        api.answers = {}
        await anyio.sleep(3_000.0)

    assert "job.missing" not in recorded_types(store)


async def test_seldom_polled_jobs_go_missing_together():
    """Several lost jobs that are polled at the same moments are announced in time."""
    (api, old), store = old_and_young(9), a_store()

    async with watching(api, store, *api.answers, policy=PollPolicy(minimum=300.0)):
        await anyio.sleep(1.0)
        for job_id in old[:4]:
            del api.answers[job_id]
        await anyio.sleep(4 * 300.0 + 60.0)

    assert recorded_types(store).count("job.missing") == 4


async def test_missing_is_not_confirmed_by_an_earlier_request():
    """Responses that were long under way do not show that the API knows jobs now."""
    (api, old), store = old_and_young(8), a_store()
    async with watching(api, store, *api.answers, policy=SELDOM):
        await anyio.sleep(1.0)
        ask = api.get_job

        async def ask_slowly(job_id, known):
            response = api.answers[job_id]
            if job_id in old and anyio.current_time() < 420.0:
                await anyio.sleep(50.0 * (1 + old.index(job_id)))
                return response
            return await ask(job_id, known)

        api.get_job = ask_slowly
        await anyio.sleep(419.0)
        api.answers = dict.fromkeys(api.answers, ABSENT)
        await anyio.sleep(3_000.0)

    assert "job.missing" not in recorded_types(store)


@pytest.mark.parametrize(("number", "extra"), [(1, 6), (50, 6 * (GUARD_JOBS - 1))])
async def test_missing_job_rechecks_few_others(number, extra):
    """One lost job is announced in time, and costs at most two polls of others a minute."""
    (api, old), store = old_and_young(number), a_store()

    async with watching(api, store, *api.answers, policy=SELDOM):
        await anyio.sleep(1.0)
        del api.answers["young"]
        await anyio.sleep(360.0)

    assert "job.missing" in recorded_types(store)
    assert len([job_id for _, job_id in api.asked if job_id in old]) <= number + extra


async def test_failing_jobs_are_not_rechecked():
    """A job whose polls fail keeps its backoff, and no job is missing meanwhile."""
    (api, old), store = old_and_young(2), a_store()

    async with watching(api, store, *api.answers, policy=FIXED):
        await anyio.sleep(1.0)
        api.answers = dict.fromkeys(old, Transient("503"))
        await anyio.sleep(3_600.0)

        assert "job.missing" not in recorded_types(store)
        assert len(api.times("old-0")) < 70


async def test_rejected_job_does_not_delay_a_missing_one():
    """A job that was seen once and is rejected since then is not waited for."""
    (api, old), store = old_and_young(2), a_store()

    async with watching(api, store, *api.answers, policy=FIXED):
        await anyio.sleep(1.0)
        api.answers = dict.fromkeys(old, Rejected("422"))
        await anyio.sleep(3_600.0)

    assert recorded_types(store).count("job.missing") == 1


async def test_foreign_404_makes_no_job_missing():
    """A 404 that is not the API's own never makes a job missing."""
    api, store = FakeApi(job_1=WrongEndpoint("a 404 that is not the API's")), a_store()

    async with watching(api, store, "job-1", policy=FIXED):
        await anyio.sleep(DAY)
        assert recorded_types(store) == []
        api.answers["job-1"] = running()
        await anyio.sleep(120.0)
        await settled()

    assert recorded_types(store) == ["job.started"]


async def test_first_404_of_a_named_job_is_logged_once():
    """A job ID that the API does not know is a warning at the first poll, and only then."""
    api, store = FakeApi(job_1=running()), a_store()

    with capture_logs() as lines:
        async with watching(api, store, "job-1", "job-99", policy=FIXED) as watcher:
            await anyio.sleep(1.0)
            assert [watcher.is_not_found(job_id) for job_id in ("job-1", "job-99")] == [False, True]
            await anyio.sleep(7_200.0)
            assert watcher.is_not_found("job-99")  # it is missing by now

    (line,) = (line for line in lines if line["event"] == "job.not_found")
    assert (line["job_id"], line["log_level"]) == ("job-99", "warning")


async def test_mass_404_does_not_warn_of_each_job():
    """When nearly all jobs are unknown, only those before that was known are warned of."""
    ids = [f"job-{number}" for number in range(100)]

    with capture_logs() as lines:
        async with watching(FakeApi(), a_store(), *ids, policy=FIXED):
            await anyio.sleep(7_200.0)

    warned = [line["job_id"] for line in lines if line["event"] == "job.not_found"]
    assert len(warned) < GUARD_JOBS

"""The daemon as a whole: how it starts, reloads and stops."""

import math
import signal
from itertools import pairwise

import anyio
import pytest
from aiohttp import web
from structlog.testing import capture_logs

from poller.cli.run import FLUSH_SECONDS, STOP_TIMEOUT, handle_signals
from poller.core.errors import StoreLocked, StoreUnavailable, StoreUnusable
from poller.core.issues import Issue
from poller.core.outbox import SinkBacklog
from poller.store.maintenance import log_backlog
from poller.store.memory import MemoryStore
from poller.store.sqlite import SqliteStore
from poller.sutro.simulator.script import JobScript
from poller.sutro.simulator.server import Simulator, serve
from poller.wiring import build_store
from tests.support.fakes import FailingStore
from tests.support.running_app import KEY, Receiver, an_app, in_memory, running_app, served
from tests.support.virtual_time import virtual_clock

pytestmark = pytest.mark.virtual(limit=10_000.0)


@pytest.fixture
async def api():
    """Serve a simulated API in virtual time, with one job of a minute."""
    simulator = Simulator(now=virtual_clock().steady, key=KEY)
    simulator.add(JobScript(job_id="job-1", run_seconds=55.0))
    async with serve(simulator) as url:
        yield simulator, url


@pytest.fixture
async def hook():
    """Serve a receiver of webhooks."""
    receiver = Receiver()
    async with served(receiver.take) as url:
        yield receiver, url


async def test_app_logs_what_may_be_wrong(api, hook):
    """A webhook without a secret is logged at the start, with the name of the variable."""
    with capture_logs() as lines:
        async with running_app(an_app(api[1], hook[1], POLLER_WEBHOOK_SECRET="")):
            await anyio.sleep(1.0)

    assert [line["advice"] for line in lines if line["event"] == "config.warning"] == [
        "POLLER_WEBHOOK_SECRET: is not set, so events are not signed"
    ]


async def test_app_delivers_the_end_of_a_job(api, hook):
    """A job that ends while the daemon runs is delivered as one verified webhook."""
    async with running_app(an_app(api[1], hook[1])):
        await anyio.sleep(100.0)

    assert hook[0].types == ["job.succeeded"]


async def test_stop_waits_for_deliveries_in_flight(api, hook):
    """A webhook in flight at the stop is received and acknowledged, and no other is sent."""
    hook[0].delay = 5.0
    app = an_app(api[1], hook[1])
    async with running_app(app):
        await hook[0].reached.wait()
        stopped_at = anyio.current_time()

    assert hook[0].types == ["job.succeeded"]
    assert anyio.current_time() - stopped_at <= 6.0


async def test_retry_schedule_is_configurable(api, hook):
    """Failed deliveries are retried after the delays of POLLER_RETRY_SCHEDULE."""
    hook[0].status = 503
    async with running_app(an_app(api[1], hook[1], POLLER_RETRY_SCHEDULE="10s,100s")):
        await anyio.sleep(400.0)
    times = [at for at, _ in hook[0].tried]

    waits = [after - before for before, after in pairwise(times)]
    assert waits[:3] == pytest.approx([10.0, 100.0, 100.0], rel=0.1)


class LockedStore(FailingStore):
    """A store whose calls in `locked` end only when they are interrupted, whatever cancels them."""

    def __init__(self, store):
        super().__init__(store)
        self.locked = set()
        self.until = math.inf

    async def __aenter__(self):
        """Open the store."""
        await self._wait_if_locked("open")
        return self

    async def __aexit__(self, *_error):
        """Close the store."""

    def interrupt_after(self, seconds):
        """End the call that runs then."""
        self.until = anyio.current_time() + seconds

    async def _call(self, verb, *values, **named):
        await self._wait_if_locked(verb)
        return await super()._call(verb, *values, **named)

    async def _wait_if_locked(self, verb):
        with anyio.CancelScope(shield=True):
            while verb in self.locked:
                if anyio.current_time() >= self.until:
                    raise StoreUnavailable("interrupted")
                await anyio.sleep(0.1)


@pytest.mark.parametrize(
    "verb", ["open", "write", "settle", "due_deliveries", "load_states", "backlogs"]
)
async def test_stop_interrupts_the_store(api, hook, verb):
    """Whatever the store waits for, a stop ends within 7.4 seconds."""
    stores = []

    def new_store(config, clock):
        stores.append(LockedStore(in_memory(config, clock)))
        stores[0].locked |= {"open"} & {verb}
        return stores[0]

    async with running_app(an_app(api[1], hook[1], new_store=new_store)):
        await anyio.sleep(30.0)
        stores[0].locked |= {verb}
        await anyio.sleep(70.0)  # the job ends meanwhile
        stopped_at = anyio.current_time()

    assert anyio.current_time() - stopped_at < STOP_TIMEOUT


async def test_stop_waits_six_seconds_at_most(api, hook):
    """A receiver that does not respond delays the stop by six seconds; the event stays."""
    hook[0].delay = 1_000.0
    kept = []

    def new_store(config, clock):
        kept.append(in_memory(config, clock))
        return kept[-1]

    async with running_app(an_app(api[1], hook[1], new_store=new_store)):
        await hook[0].reached.wait()
        stopped_at = anyio.current_time()

    assert 5.0 <= anyio.current_time() - stopped_at <= 8.0
    assert [sink.pending for sink in await kept[0].backlogs()] == [1]


@pytest.fixture
def exits(monkeypatch):
    """Replace the end of the process; return the exit codes, and restore the handlers."""
    codes = []
    monkeypatch.setattr("os._exit", codes.append)
    numbers = (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGALRM)
    before = {number: signal.getsignal(number) for number in numbers}
    timer = signal.getitimer(signal.ITIMER_REAL)
    yield codes
    signal.setitimer(signal.ITIMER_REAL, *timer)
    for number, handler in before.items():
        signal.signal(number, handler)


async def test_signals_reload_and_stop(api, hook, exits):
    """SIGHUP reloads; SIGTERM stops; a second signal does not wait for deliveries in flight."""
    hook[0].delay = 1_000.0
    app = an_app(api[1], hook[1])

    async def signals():
        await hook[0].reached.wait()
        for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT):
            assert not exits
            signal.raise_signal(number)
            await anyio.sleep(1.0)

    with capture_logs() as lines:
        async with anyio.create_task_group() as group:
            group.start_soon(signals)
            handle_signals(app)
            await app.run()

    assert exits == [0]
    logged = [line["event"] for line in lines if line["event"].startswith("poller.")]
    assert logged == ["poller.started", "poller.reloaded", "poller.stopping", "poller.stopped"]


async def test_second_signal_may_come_while_the_first_is_handled(api, hook, exits):
    """A signal that interrupts the handler of another one ends the daemon at once."""
    handle_signals(an_app(api[1], hook[1]))
    handler = signal.getsignal(signal.SIGTERM)

    handler()
    before = list(exits)
    handler()

    assert (before, exits) == ([], [0])


async def test_stop_has_a_time_limit(api, hook, exits):
    """The daemon exits within 8 s of a signal, whatever a thread or a plug-in is doing."""
    app = an_app(api[1], hook[1])
    handle_signals(app)

    signal.raise_signal(signal.SIGTERM)
    seconds, _ = signal.getitimer(signal.ITIMER_REAL)
    signal.raise_signal(signal.SIGALRM)

    assert 6.5 < seconds < 8.0 - FLUSH_SECONDS
    assert exits == [0]


async def test_reload_reads_the_jobs_file(api, hook, tmp_path):
    """A job ID that is added to the jobs file is watched."""
    ids = tmp_path / "jobs.txt"
    ids.write_text("# none yet")
    app = an_app(api[1], hook[1], POLLER_JOB_IDS="", POLLER_JOBS_FILE=str(ids))
    async with running_app(app):
        await anyio.sleep(1.0)
        ids.write_text("job-1  # the one")
        app.reload()
        await anyio.sleep(100.0)

    assert hook[0].types == ["job.succeeded"]


async def test_reloads_in_a_row_count_as_two(api, hook):
    """Of many signals in a row the first one is handled at once, and all others together."""
    app = an_app(api[1], hook[1])
    with capture_logs() as lines:
        async with running_app(app):
            for _ in range(10):
                app.reload()
                await anyio.sleep(0.05)
            early = [line["event"] for line in lines].count("poller.reloaded")
            await anyio.sleep(5.0)

    assert (early, [line["event"] for line in lines].count("poller.reloaded")) == (1, 2)


async def test_reload_reads_the_key(api, hook, tmp_path):
    """A key that is corrected in its file is used after a reload, without a restart."""
    file = tmp_path / "key"
    file.write_text("sk_wrong")
    app = an_app(api[1], hook[1], SUTRO_API_KEY="", SUTRO_API_KEY_FILE=str(file))
    async with running_app(app):
        await anyio.sleep(300.0)
        file.write_text(KEY)
        app.reload()
        await anyio.sleep(5.0)

    assert hook[0].types == ["job.succeeded"]


async def test_reload_of_a_key_file_that_hangs(api, hook, tmp_path, fake_disk):
    """While a secret file's disk does not respond, the old key is used, and status says so."""
    file = tmp_path / "key"
    file.write_text(KEY)
    app = an_app(api[1], hook[1], SUTRO_API_KEY="", SUTRO_API_KEY_FILE=str(file))
    async with running_app(app):
        fake_disk.is_hanging = True
        app.reload()
        await anyio.sleep(100.0)
        issues = app.status.issues
        fake_disk.respond()
        app.reload()
        await anyio.sleep(10.0)

    assert hook[0].types == ["job.succeeded"]
    assert issues == (Issue.FILE_UNREADABLE,)
    assert app.status.issues == ()


async def test_rejected_key_is_read_again_without_a_reload(api, hook, tmp_path):
    """A rejected key is read from its file again before each retry."""
    file = tmp_path / "key"
    file.write_text("sk_wrong")
    app = an_app(api[1], hook[1], SUTRO_API_KEY="", SUTRO_API_KEY_FILE=str(file))
    async with running_app(app):
        await anyio.sleep(300.0)
        file.write_text(KEY)
        await anyio.sleep(600.0)

    assert hook[0].types == ["job.succeeded"]


async def test_reload_that_fails_changes_nothing(api, hook, tmp_path):
    """If a secret file cannot be read, that is logged, and the old key stays in use."""
    file = tmp_path / "key"
    file.write_text(KEY)
    app = an_app(api[1], hook[1], SUTRO_API_KEY="", SUTRO_API_KEY_FILE=str(file))
    with capture_logs() as lines:
        async with running_app(app):
            file.unlink()
            app.reload()
            await anyio.sleep(100.0)

    assert hook[0].types == ["job.succeeded"]
    assert [line["event"] for line in lines].count("reload.failed") == 1


async def test_rejected_key_whose_file_is_gone_is_logged(api, hook, tmp_path):
    """A key file that is missing at a retry is logged, and read once it is back."""
    file = tmp_path / "key"
    file.write_text("sk_old")
    app = an_app(api[1], hook[1], SUTRO_API_KEY="", SUTRO_API_KEY_FILE=str(file))
    with capture_logs() as lines:
        async with running_app(app):
            file.unlink()
            await anyio.sleep(300.0)
            file.write_text(KEY)
            await anyio.sleep(600.0)

    assert hook[0].types == ["job.succeeded"]
    assert "reload.failed" in [line["event"] for line in lines]


async def test_app_waits_for_a_store_that_cannot_be_opened_yet(api, hook):
    """A full disk at the start only delays the start."""
    tries = []

    class Full(MemoryStore):
        async def __aenter__(self):
            tries.append(anyio.current_time())
            if len(tries) < 10:
                raise StoreUnavailable("the disk is full")
            return self

    def new_store(config, clock):
        return Full(routes=config.routes, deployment="test", now=clock.steady)

    async with running_app(an_app(api[1], hook[1], new_store=new_store)):
        await anyio.sleep(120.0)

    assert len(tries) == 10
    assert hook[0].types == ["job.succeeded"]


async def test_stop_while_the_store_cannot_be_opened(api, hook):
    """A daemon that waits for its store can be stopped."""

    def new_store(config, clock):
        raise StoreUnavailable("the disk is full")

    async with running_app(an_app(api[1], hook[1], new_store=new_store)):
        await anyio.sleep(60.0)
        stopped_at = anyio.current_time()

    assert anyio.current_time() == stopped_at


async def test_app_does_not_wait_for_a_locked_store(api, hook, tmp_path):
    """A store that another process has open ends the run."""
    path = tmp_path / "state.db"
    app = an_app(api[1], hook[1], POLLER_STORE=str(path), new_store=sqlite_inline)

    async with sqlite_inline(app.config, app.clock):
        with pytest.raises(ExceptionGroup) as caught:
            await app.serve()

    assert caught.group_contains(StoreLocked)


def sqlite_inline(config, clock):
    """Build the configured store as the daemon does, but without threads."""
    store = build_store(config, clock)
    store._in_thread = False
    return store


async def test_store_is_built_as_configured(tmp_path, hook):
    """A path is a SQLite file; `memory:` is logged."""
    with capture_logs() as lines:
        kinds = [
            type(build_store(app.config, app.clock))
            for app in (
                an_app("https://api.example", hook[1], POLLER_STORE=str(tmp_path / "state.db")),
                an_app("https://api.example", hook[1]),
            )
        ]

    assert kinds == [SqliteStore, MemoryStore]
    assert [line["event"] for line in lines] == ["store.not_persistent"]


async def test_store_creates_only_the_default_folder(tmp_path, hook):
    """The default folder is created for its user only; a mistyped path is an error."""
    home = {"XDG_STATE_HOME": str(tmp_path / "state"), "POLLER_STORE": ""}
    usual = an_app("https://api.example", hook[1], **home)
    odd = an_app("https://api.example", hook[1], POLLER_STORE=str(tmp_path / "typo" / "x.db"))

    build_store(usual.config, usual.clock)
    with pytest.raises(StoreUnusable, match=r"typo/x\.db: No such file"):
        build_store(odd.config, odd.clock)._database.open()

    assert (tmp_path / "state" / "sutro-poller").stat().st_mode & 0o777 == 0o700


async def test_restart_sends_what_is_left(api, hook, tmp_path):
    """An event that one process recorded but did not send is sent by the next, with the same ID."""
    hook[0].status = 503
    variables = {"POLLER_STORE": str(tmp_path / "state.db"), "new_store": sqlite_inline}
    async with running_app(an_app(api[1], hook[1], **variables)):
        await anyio.sleep(100.0)
    hook[0].status = 200
    requested = sum(api[0].requests.values())

    async with running_app(an_app(api[1], hook[1], **variables)):
        await anyio.sleep(400.0)

    assert hook[0].types == ["job.succeeded"]
    assert len({message_id for _, message_id in hook[0].tried}) == 1
    assert sum(api[0].requests.values()) == requested


async def test_retention_survives_a_store_that_fails(api, hook):
    """The hourly pruning runs again after the store has failed."""
    kept = []

    class Failing(FailingStore):
        async def __aenter__(self):
            return self

        async def __aexit__(self, *_):
            """Close nothing."""

    def new_store(config, clock):
        kept.append(Failing(in_memory(config, clock)))
        kept[-1].fails = {"backlogs"}
        return kept[-1]

    async with running_app(an_app(api[1], hook[1], new_store=new_store)):
        await anyio.sleep(3_000.0)
        assert kept[0].calls["prune"] == []
        kept[0].fails = set()
        await anyio.sleep(7_000.0)

    assert len(kept[0].calls["prune"]) == 2


@pytest.mark.parametrize(
    ("backlog", "logged"),
    [
        (SinkBacklog(name="s"), []),
        (SinkBacklog(name="s", pending=1), ["sink.backlog"]),
        (SinkBacklog(name="s", dead=1), ["sink.backlog"]),
        (SinkBacklog(name="s", dead=1, is_disabled=True), ["sink.disabled"]),
        (SinkBacklog(name="s", pending=1, is_configured=False), ["sink.unconfigured"]),
    ],
)
async def test_backlog_is_logged_by_its_kind(backlog, logged):
    """An empty backlog is not logged."""
    with capture_logs() as lines:
        log_backlog(backlog)

    assert [line["event"] for line in lines] == logged


async def test_foreign_response_never_ends_a_job(hook):
    """No response except the API's own JSON ends a job."""
    pages = [
        web.Response(text="<html>succeeded</html>"),
        web.Response(text='{"job": {"job_id": "job-1", "status": "SUCC'),
        web.json_response({"job": {"job_id": "job-2", "status": "SUCCEEDED", "job_cost": 1}}),
        web.json_response(["SUCCEEDED"]),
        web.Response(status=302, headers={"Location": "/elsewhere"}),
        web.Response(status=404, text="nothing here"),
    ]

    async def odd(request):
        page = pages[0]
        pages.append(pages.pop(0))
        return web.Response(status=page.status, body=page.body, headers=page.headers)

    async with served(odd) as url, running_app(an_app(url, hook[1])):
        await anyio.sleep(3_600.0)

    assert hook[0].tried == []

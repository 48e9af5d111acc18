"""Virtual time itself: it costs nothing, I/O keeps its order, and it cannot run away."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count

import aiohttp
import anyio
import pytest
from aiohttp import web

from tests.support.virtual_time import START, DeadlineExceeded, VirtualLoop, virtual_clock

DAY = 86_400.0


@asynccontextmanager
async def served(handler) -> AsyncIterator[str]:
    """Serve one handler on loopback."""
    app = web.Application()
    app.router.add_route("*", "/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        listener = socket.create_server(("127.0.0.1", 0))
        await web.SockSite(runner, listener).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
    finally:
        await runner.cleanup()


@pytest.mark.virtual(limit=2 * DAY)
async def test_a_day_of_sleep_takes_no_real_time():
    """Sleeping a virtual day moves the loop's clock by a day and the real one hardly."""
    real, began = time.monotonic(), anyio.current_time()

    await anyio.sleep(DAY)

    assert anyio.current_time() - began == DAY
    assert time.monotonic() - real < 60.0


@pytest.mark.virtual(limit=2 * DAY)
async def test_the_clock_follows_the_loop():
    """Both faces of the virtual clock show the start plus what has passed in the loop."""
    clock = virtual_clock()

    await anyio.sleep(DAY)

    assert clock.now() == START + timedelta(days=1)
    assert clock.steady() == START.timestamp() + DAY


@pytest.mark.virtual
async def test_timers_fire_in_their_order():
    """Sleepers wake in the order of their due times, each at its own time."""
    woken: list[tuple[float, float]] = []

    async def sleeper(seconds: float) -> None:
        await anyio.sleep(seconds)
        woken.append((seconds, anyio.current_time()))

    async with anyio.create_task_group() as group:
        for seconds in (30.0, 0.5, 600.0, 0.001):
            group.start_soon(sleeper, seconds)

    assert woken == [(it, pytest.approx(it)) for it in (0.001, 0.5, 30.0, 600.0)]


@pytest.mark.virtual(limit=2 * DAY)
async def test_a_round_trip_takes_no_virtual_time():
    """New and kept connections answer before a timeout of a virtual millisecond can strike."""

    async def handler(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    timeout = aiohttp.ClientTimeout(total=0.001)
    async with served(handler) as url, aiohttp.ClientSession(timeout=timeout) as session:
        began = anyio.current_time()
        for _ in range(300):
            async with session.post(url, data=b"x" * 200_000) as answer:
                assert len(await answer.read()) == 200_000

        assert anyio.current_time() == began


@pytest.mark.virtual(limit=2 * DAY)
async def test_io_and_the_clock_keep_their_order():
    """A day of requests five minutes apart takes a day, whatever else ticks meanwhile."""

    async def slow(_request: web.Request) -> web.Response:
        await anyio.sleep(10.0)
        return web.Response(text="late")

    async def ticking() -> None:
        for _ in count():
            await anyio.sleep(7.0)

    async with (
        served(slow) as url,
        aiohttp.ClientSession() as session,
        anyio.create_task_group() as group,
    ):
        group.start_soon(ticking)
        began = anyio.current_time()
        for _ in range(288):
            async with session.get(url) as answer:
                assert await answer.text() == "late"
            await anyio.sleep(290.0)
        group.cancel_scope.cancel()

    assert anyio.current_time() - began == pytest.approx(DAY)


@pytest.mark.virtual
async def test_a_timeout_strikes_in_virtual_time():
    """A client's own timeout ends a request to a peer that never answers."""

    async def mute(_request: web.Request) -> web.Response:
        await anyio.sleep(1_000.0)
        return web.Response()

    timeout = aiohttp.ClientTimeout(total=15.0)
    async with served(mute) as url, aiohttp.ClientSession(timeout=timeout) as session:
        began = anyio.current_time()
        with pytest.raises(TimeoutError):
            await session.get(url)

        assert 15.0 <= anyio.current_time() - began <= 16.0


def test_a_test_that_needs_too_long_fails():
    """Needing more virtual time than the limit ends the run, and tasks can still clean up."""
    tidied: list[float] = []

    async def endless() -> None:
        try:
            for _ in count():
                await anyio.sleep(60.0)
        finally:
            with anyio.CancelScope(shield=True):
                await anyio.sleep(5.0)
            tidied.append(anyio.current_time())

    with (
        pytest.raises(DeadlineExceeded, match="600"),
        asyncio.Runner(loop_factory=lambda: VirtualLoop(limit=600.0)) as runner,
    ):
        runner.run(endless())

    assert tidied == [605.0]


def test_waiting_for_nothing_fails(monkeypatch):
    """A loop in which nothing can ever happen says so instead of hanging."""
    monkeypatch.setattr("tests.support.virtual_time.THREAD_TIMEOUT", 0.01)

    async def never() -> None:
        await anyio.Event().wait()

    with (
        pytest.raises(DeadlineExceeded, match="nothing is scheduled"),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        runner.run(never())


def test_a_failure_in_a_callback_ends_the_run():
    """A failure that a callback raises, as the time limit of a test does, is not only logged."""

    async def never() -> None:
        asyncio.get_running_loop().call_soon(pytest.fail, "the time limit of the test")
        await anyio.sleep(60.0)

    with (
        pytest.raises(pytest.fail.Exception, match="time limit"),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        runner.run(never())


@pytest.mark.virtual
async def test_closing_waits_for_threads_in_real_time():
    """The loop waits for the threads of its executor, however much virtual time passes."""
    loop, release = asyncio.get_running_loop(), threading.Event()
    thread = loop.run_in_executor(None, release.wait)

    async with anyio.create_task_group() as group:
        group.start_soon(loop.shutdown_default_executor, 300.0)
        await anyio.sleep(400.0)
        release.set()

    assert await thread

"""A root file system that is read-only except for the folder of the database."""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import anyio
import pytest

from poller.core.outbox import DeliveryStatus, WriteBatch
from poller.store import pagination
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter
from poller.store.sqlite import SqliteStore
from tests.fault_injection.harness import tally
from tests.support.store_builders import (
    DAY,
    HOOK,
    LOG,
    ManualClock,
    a_state,
    a_store,
    an_event,
    dead,
    deferred,
    due,
)

ROWS = 3_000
"""More than SQLite changes or sorts without a temporary file."""

SUITES: Final = ("tests/store", "tests/api", "tests/cli/test_store_commands.py")
"""The tests of all that changes the store; those of the API have hundreds of rows of each kind."""

READ_ONLY_ROOT = """
mount --make-rprivate /
mount --bind "$1" "$1"
mount --bind "$PWD" "$PWD"
for place in / "$PWD" /tmp /var/tmp /usr/tmp /dev/shm; do
    if mountpoint -q "$place"; then mount -o remount,bind,ro "$place"; fi
done
cd "$PWD"
for place in . /tmp /var/tmp /usr/tmp; do test ! -w "$place"; done
shift
exec "$@"
"""
"""Make the root read-only, but not a folder: SQLite finds no place for a temporary file."""

RUN_TESTS: Final = """
import sys, tempfile, pytest
tempfile.tempdir = sys.argv[1]
sys.exit(pytest.main(sys.argv[2:]))
"""
"""Run pytest with the folder for Python's own temporary files; a variable is also SQLite's."""

PROMISE: Final = "a writable folder for the database is enough: no temporary file is needed"

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("unshare"),
    reason="needs root and unshare, to make the root file system read-only",
)


async def use_every_verb(path: Path) -> None:
    """Run every verb of the store and its admin on thousands of rows."""
    now = ManualClock()
    async with a_store(path, now) as store:
        await _fill(store)
        admin = StoreAdmin(path, now)
        await _settle_all(store, now)
        assert admin.status().sinks == admin.sinks()
        assert not admin.costs("model")
        assert len([*admin.jobs(EventFilter())]) == ROWS
        assert len([*admin.events(EventFilter())]) == ROWS
        assert admin.event("evt_1-")["deliveries"]
        assert pagination.jobs_page(admin, EventFilter(limit=10), after=None)
        assert pagination.events_page(admin, EventFilter(limit=10), after=None)
        assert len([*admin.replay(EventFilter(sink=LOG))]) == ROWS
        await store.disable_sink(HOOK, "HTTP 410")
        assert len([*admin.deliveries(EventFilter(sink=HOOK, state=DeliveryStatus.DEAD))]) == ROWS
        assert len([*(admin.enable_sink(HOOK) or ())]) == ROWS
        await store.expedite(HOOK, now.advance(1))
        await store.settle([dead(each) for each in await due(store, now.now, limit=ROWS)])
        assert len([*admin.delete_dead_letters(EventFilter(sink=HOOK))]) == ROWS
        assert (await store.prune(now.advance(500 * DAY), ())).jobs == ROWS
        await store.remove_ids([f"job-{number}" for number in range(ROWS)])
        assert not await store.added_ids()


async def _fill(store: SqliteStore) -> None:
    ids = [f"job-{number}" for number in range(ROWS)]
    await store.add_ids(ids)
    events = [an_event(f"{n}-", ids[n], type="job.failed") for n in range(ROWS)]
    await store.write(WriteBatch(states=[a_state(job_id) for job_id in ids], events=events))
    assert len(await store.load_states(ids)) == ROWS
    assert len(await store.unfinished_ids()) == ROWS


async def _settle_all(store: SqliteStore, now: ManualClock) -> None:
    for sink in (HOOK, LOG):
        found = await due(store, now.now, sink, limit=ROWS)
        assert len(found) == ROWS
        await store.settle([deferred(each, now.now + DAY) for each in found])
        assert await due(store, now.now, sink, early=True, limit=ROWS)
    assert await store.backlogs()


def run_in_read_only_root(folder: Path, *arguments: str) -> list[str]:
    """Run Python with only one writable folder, and return what went wrong."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    shell = ["unshare", "--mount", "sh", "-euc", READ_ONLY_ROOT, "sh", str(folder), sys.executable]
    ended = subprocess.run(
        [*shell, *arguments], env=environment, capture_output=True, text=True, check=False
    )
    return [ended.stdout[-2_000:] + ended.stderr] if ended.returncode else []


@pytest.fixture
def folder() -> Iterator[Path]:
    """Yield a folder with a path that is short enough for sockets in it."""
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def test_store_needs_no_temporary_file(folder: Path) -> None:
    """Every verb works on thousands of rows where no temporary file can be made."""
    violations = run_in_read_only_root(folder, "-m", __name__, str(folder / "state.db"))

    tally(PROMISE, cases=1, violations=violations)


@pytest.mark.parametrize("suite", SUITES)
def test_suites_need_no_temporary_file(folder: Path, suite: str) -> None:
    """The tests of the store, the API and the commands pass where no temporary file can be made."""
    options = ("-q", "-p", "no:cacheprovider", "-m", "not slow", f"--basetemp={folder}/tests")

    violations = run_in_read_only_root(folder, "-c", RUN_TESTS, str(folder), *options, suite)

    tally(PROMISE, cases=1, violations=violations)


if __name__ == "__main__":
    anyio.run(use_every_verb, Path(sys.argv[1]))

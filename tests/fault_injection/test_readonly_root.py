"""A root file system that is read-only except for the folder of the database."""

import os
import shutil
import sys
from pathlib import Path

import anyio
import pytest

from poller.core.outbox import DeliveryStatus, WriteBatch
from poller.store import pagination
from poller.store.admin import StoreAdmin
from poller.store.filters import EventFilter
from poller.store.sqlite import SqliteStore
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

READ_ONLY_ROOT = """
mount --make-rprivate /
mount --bind "$1" "$1"
mount -o remount,bind,ro /
for place in /tmp /var/tmp /usr/tmp /dev/shm; do
    if mountpoint -q "$place"; then mount -o remount,bind,ro "$place"; fi
done
shift
exec "$@"
"""

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
        assert not admin.ended_jobs()
        assert len(admin.jobs(EventFilter())) == ROWS
        assert len(admin.events(EventFilter())) == ROWS
        assert admin.event("evt_1-")["deliveries"]
        assert pagination.jobs_page(admin, EventFilter(limit=10), after=None)
        assert pagination.events_page(admin, EventFilter(limit=10), after=None)
        assert len(admin.replay(EventFilter(sink=LOG))) == ROWS
        await store.disable_sink(HOOK, "HTTP 410")
        assert len(admin.deliveries(EventFilter(sink=HOOK, state=DeliveryStatus.DEAD))) == ROWS
        assert len(admin.enable_sink(HOOK) or ()) == ROWS
        await store.expedite(HOOK, now.advance(1))
        await store.settle([dead(each) for each in await due(store, now.now, limit=ROWS)])
        assert len(admin.delete_dead_letters(EventFilter(sink=HOOK))) == ROWS
        assert await store.prune(now.advance(500 * DAY), ())
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


def test_store_needs_no_temporary_file(tmp_path: Path) -> None:
    """Every verb works on thousands of rows where no temporary file can be made."""
    folder = tmp_path / "state"
    folder.mkdir()
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd())}
    arguments = [sys.executable, "-m", __name__, str(folder / "state.db")]
    shell = ["unshare", "--mount", "sh", "-euc", READ_ONLY_ROOT, "sh", str(folder)]
    code = os.spawnve(os.P_WAIT, shutil.which("unshare") or "", shell + arguments, environment)
    assert code == 0


if __name__ == "__main__":
    anyio.run(use_every_verb, Path(sys.argv[1]))

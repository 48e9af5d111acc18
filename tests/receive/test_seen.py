"""`poller.receive.SeenEvents`: which events were handled already."""

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from poller.receive import SeenEvents
from tests.support.store_builders import ManualClock


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a file that is not there yet."""
    return tmp_path / "seen.db"


def test_an_id_is_seen_once_it_is_added(path: Path):
    """An ID is seen after it is added, and no other is; adding it again changes nothing."""
    seen = SeenEvents(path)

    assert "evt_1" not in seen

    seen.add("evt_1")
    seen.add("evt_1")

    assert "evt_1" in seen
    assert "evt_2" not in seen


def test_ids_outlive_the_process(path: Path):
    """Another object of the same file, as after a restart, knows the IDs."""
    SeenEvents(path).add("evt_1")

    assert "evt_1" in SeenEvents(path)


def test_threads_can_share_it(path: Path):
    """Threads of a web server add IDs at the same time, and none is lost."""
    seen, ids = SeenEvents(path), [f"evt_{number}" for number in range(16)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(seen.add, ids))

    assert all(event_id in seen for event_id in ids)


def test_old_ids_are_forgotten(path: Path):
    """An ID is forgotten after the time to keep, and the file does not grow."""
    now = ManualClock()
    seen = SeenEvents(path, keep_seconds=100.0, now=now)
    seen.add("evt_1")
    now.advance(60.0)
    seen.add("evt_2")
    now.advance(60.0)

    assert "evt_1" not in seen
    assert "evt_2" in seen

    seen.add("evt_3")

    assert _count(path) == 2


def test_ids_are_kept_longer_than_the_daemon_keeps_events(path: Path):
    """An event that is retried for 7 days and replayed after 30 more is still known."""
    now = ManualClock()
    seen = SeenEvents(path, now=now)
    seen.add("evt_1")
    now.advance(37 * 86_400.0)

    assert "evt_1" in seen


def _count(path: Path) -> int:
    with sqlite3.connect(path) as connection:
        (count,) = connection.execute("SELECT count(*) FROM seen").fetchone()
    connection.close()
    return count

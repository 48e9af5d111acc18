"""`kill -9` around the daily report: it is neither lost nor made under a second id."""

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any, Final

import anyio
import pytest

from poller.core.events import checksum
from tests.fault_injection.harness import SCALE
from tests.support.installed_wheel import PROJECT
from tests.support.waiting import until

pytestmark = pytest.mark.anyio

PROGRAM: Final = Path(__file__).with_name("report_daemon.py")
KILLS: Final = SCALE.cases(4, 60)
NOON: Final = 12


def zone_of_noon() -> str:
    """Return a time zone in which it is noon: no test in it runs over midnight."""
    return f"NOON{datetime.now(UTC).hour - NOON:+d}"


@contextmanager
def a_daemon(folder: Path, number: int, zone: str) -> Iterator[Path]:
    """Run the daemon, with an API that is down, and kill it; yield the file of its log.

    Midnight in a zone is the time of the report.
    """
    environment = {
        "HOME": str(folder),
        "PYTHONPATH": str(PROJECT),
        "TZ": zone,
        "SUTRO_API_KEY": "sk_test",
        "SUTRO_API_URL": "http://127.0.0.1:9",
        "POLLER_JOB_IDS": "job-1",
        "POLLER_SINKS": "file",
        "POLLER_FILE_PATH": str(folder / "events.jsonl"),
        "POLLER_FILE_EVENTS": "report.daily",
        "POLLER_DAILY_REPORT": "00:00",
        "POLLER_STORE": str(folder / "state.db"),
        "POLLER_LISTEN": "off",
    }
    log = folder / f"log-{number}"
    with log.open("wb") as output:
        daemon = subprocess.Popen(
            [sys.executable, str(PROGRAM)], env=environment, stdout=output, stderr=output
        )
        try:
            yield log
        finally:
            daemon.kill()
            daemon.wait()


def received(folder: Path) -> list[dict[str, Any]]:
    """Return the events that the sink has written."""
    file = folder / "events.jsonl"
    lines = file.read_text("utf-8").split("\n")[:-1] if file.exists() else []
    return [json.loads(line) for line in lines if line]


async def test_kills_lose_no_report_and_make_no_second_id(tmp_path: Path):
    """Whenever the daemon is killed, the report of the day arrives, each time as the same event."""
    random, zone = Random(SCALE.seed), zone_of_noon()
    for number in range(KILLS):
        with a_daemon(tmp_path, number, zone) as log:
            await until(lambda log=log: "poller.started" in log.read_text("utf-8"))
            await anyio.sleep(random.uniform(0.0, 0.05))
    with a_daemon(tmp_path, KILLS, zone):
        await until(lambda: received(tmp_path))

    with closing(sqlite3.connect(tmp_path / "state.db")) as db:
        ((event_id, body, digest),) = db.execute("SELECT id, body, digest FROM events").fetchall()
    assert {event["id"] for event in received(tmp_path)} == {event_id}
    assert all(event | json.loads(body) == event for event in received(tmp_path))
    assert checksum(body) == digest

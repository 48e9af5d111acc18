"""Ways to lose a database: removed in part or whole, or replaced by an older one."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

from tests.fault_injection.fake_servers import FakeServers

WATCHED_AGAIN: Final = 4
"""Number of reported jobs that stay watched: a daemon without its database reports them again."""

PROMISE: Final = "with a lost or outdated database nothing is lost or gets a second id"
Loss = Callable[[Path, Path, Random], None]
"""Damages the database of the first path; there are copies of it in folders below the second."""


def database_files(store: Path) -> list[Path]:
    """Return the files of a database."""
    files = store.parent.glob(f"{store.name}*")
    return [path for path in files if path.suffix not in {".lock", ".key"}]


def keep_copy(store: Path, copies: Path) -> None:
    """Copy a database that is not open, with the -wal that a kill may have left."""
    folder = copies / str(len([*copies.iterdir()]))
    folder.mkdir()
    for part in database_files(store):
        shutil.copy(part, folder)


def lose_all(store: Path, _copies: Path, _random: Random) -> None:
    """Remove the database with all of its files."""
    for part in database_files(store):
        part.unlink()


def lose_file(store: Path, _copies: Path, _random: Random) -> None:
    """Remove the database file alone."""
    store.unlink()


def lose_wal(store: Path, _copies: Path, _random: Random) -> None:
    """Remove the -wal, and with it what is not in the database file yet."""
    store.with_name("state.db-wal").unlink(missing_ok=True)


def lose_lock(store: Path, _copies: Path, _random: Random) -> None:
    """Remove the lock file, which another daemon would then create anew."""
    store.with_name("state.db.lock").unlink()


def roll_back(store: Path, copies: Path, random: Random) -> None:
    """Replace the database by an older copy."""
    lose_all(store, copies, random)
    for part in random.choice([*copies.iterdir()]).iterdir():
        shutil.copy(part, store.parent)


def replace(store: Path, copies: Path, random: Random) -> None:
    """Replace a file that a daemon has open by an older copy."""
    fresh = store.with_name("fresh")
    shutil.copy(random.choice([*copies.glob("*/state.db")]), fresh)
    fresh.replace(store)


BETWEEN_RUNS: Final[tuple[Loss, ...]] = (lose_all, lose_file, lose_wal, roll_back, roll_back)
DURING_A_RUN: Final[tuple[Loss, ...]] = (lose_all, lose_file, lose_wal, lose_lock, replace)


def watched(servers: FakeServers) -> str:
    """Return the jobs that are not reported yet, and the last ones that are."""
    reported = [job.job_id for job in servers.jobs.values() if job.is_reported][-WATCHED_AGAIN:]
    return ",".join(reported + [job.job_id for job in servers.jobs.values() if not job.is_reported])


def quarantined(store: Path) -> list[str]:
    """Return the databases that were found damaged: to lose one is no damage."""
    return [f"set aside: {path.name}" for path in store.parent.glob(f"{store.name}.corrupt-*")]


def is_all_sent(store: Path, *, watched: str, url: str) -> bool:
    """Return whether a database has the ends of the jobs watched at a URL, and nothing pending."""
    statement = "SELECT job_id FROM jobs WHERE phase = 'done' AND deployment = ?"
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        ended = {job_id for (job_id,) in db.execute(statement, [urlsplit(url).netloc])}
        statement = "SELECT count(*) FROM deliveries WHERE status = 'pending'"
        return ended.issuperset(watched.split(",")) and db.execute(statement).fetchone() == (0,)

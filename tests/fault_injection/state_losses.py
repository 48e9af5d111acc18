"""Ways to lose what a daemon remembers: a database removed, in part or whole, or an older one."""

import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from random import Random
from typing import Final
from urllib.parse import urlsplit

from tests.fault_injection.world import World

SEEN_AGAIN: Final = 4
"""So many jobs that were told already stay watched: a daemon that has lost all tells them anew."""

PROMISE: Final = "with a lost or outdated database nothing is lost or gets a second id"
Loss = Callable[[Path, Path, Random], None]
"""Robs the database of the first path; there are copies of it in folders below the second."""


def parts(store: Path) -> list[Path]:
    """Give what there is of a database."""
    return [it for it in store.parent.glob(f"{store.name}*") if it.suffix != ".lock"]


def keep_copy(store: Path, copies: Path) -> None:
    """Copy a database that nobody has open, with the -wal that a kill may have left."""
    folder = copies / str(len([*copies.iterdir()]))
    folder.mkdir()
    for part in parts(store):
        shutil.copy(part, folder)


def lose_all(store: Path, _copies: Path, _random: Random) -> None:
    """Remove the database and what belongs to it."""
    for part in parts(store):
        part.unlink()


def lose_file(store: Path, _copies: Path, _random: Random) -> None:
    """Remove the database alone."""
    store.unlink()


def lose_wal(store: Path, _copies: Path, _random: Random) -> None:
    """Remove what is not in the database itself yet."""
    store.with_name("state.db-wal").unlink(missing_ok=True)


def roll_back(store: Path, copies: Path, random: Random) -> None:
    """Put an older copy in its place."""
    lose_all(store, copies, random)
    for part in random.choice([*copies.iterdir()]).iterdir():
        shutil.copy(part, store.parent)


def replace(store: Path, copies: Path, random: Random) -> None:
    """Put an older copy in the place of a file that a daemon has open."""
    fresh = store.with_name("fresh")
    shutil.copy(random.choice([*copies.glob("*/state.db")]), fresh)
    fresh.replace(store)


BETWEEN_LIVES: Final[tuple[Loss, ...]] = (lose_all, lose_file, lose_wal, roll_back, roll_back)
IN_A_LIFE: Final[tuple[Loss, ...]] = (lose_all, lose_file, replace)


def watched(world: World) -> str:
    """Name the jobs that are not told yet, and the last ones that are."""
    told = [it.job_id for it in world.jobs.values() if it.is_told][-SEEN_AGAIN:]
    return ",".join(told + [it.job_id for it in world.jobs.values() if not it.is_told])


def set_aside(store: Path) -> list[str]:
    """Name each database that was found damaged: losing one is no damage."""
    return [f"set aside: {it.name}" for it in store.parent.glob(f"{store.name}.corrupt-*")]


def is_all_sent(store: Path, *, watched: str, url: str) -> bool:
    """Tell whether a database has the end of each job watched at a URL, and nothing in it waits."""
    statement = "SELECT job_id FROM jobs WHERE phase = 'done' AND deployment = ?"
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        ended = {job_id for (job_id,) in db.execute(statement, [urlsplit(url).netloc])}
        statement = "SELECT count(*) FROM deliveries WHERE status = 'pending'"
        return ended.issuperset(watched.split(",")) and db.execute(statement).fetchone() == (0,)

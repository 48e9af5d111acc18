"""Run the command line in this process, on a database that a daemon has left."""

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
import rich  # noqa: F401 - commands other than `wait` hide it if it is not imported yet
import structlog

from poller.cli import main
from poller.core.outbox import WriteBatch
from tests.support.store_builders import ManualClock, a_store, dead


@dataclass(frozen=True)
class CommandResult:
    """The output of a command, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        """The lines of stdout, each split into words."""
        return [line.split() for line in self.out.splitlines()]


RunCli = Callable[..., CommandResult]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of a database."""
    return tmp_path / "state.db"


@pytest.fixture
def now() -> ManualClock:
    """Return a clock that stands at noon."""
    return ManualClock()


@pytest.fixture
def run_cli(
    path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> RunCli:
    """Return a function that runs a command on the database; variables can be added."""

    def run(*argv: str, **variables: str) -> CommandResult:
        with monkeypatch.context() as patch:
            for name, text in ({"POLLER_STORE": str(path)} | variables).items():
                patch.setenv(name, text)
            with pytest.raises(SystemExit) as ended:
                main(argv)
        return CommandResult(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def _new_sqlite(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check` warns of the SQLite of some machines."""
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 51, 3))


@pytest.fixture(autouse=True)
def _log_as_it_was():
    yield
    structlog.reset_defaults()


@pytest.fixture
def seed_store(path: Path, now: ManualClock) -> Callable[..., None]:
    """Return a function that records a batch, then dead letters or a disabled sink."""

    def record(*, bury: str | None = None, disable: str | None = None, **batch) -> None:
        async def work() -> None:
            async with a_store(path, now) as store:
                await store.write(WriteBatch(**batch))
                if bury:
                    result = await store.due_deliveries(bury, now(), limit=99)
                    await store.settle([dead(delivery) for delivery in result])
                if disable:
                    await store.disable_sink(disable, "410 Gone")

        anyio.run(work)

    return record

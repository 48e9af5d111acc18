"""A command line in this process, beside a database that a daemon has left."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import anyio
import pytest
import structlog

from poller.cli import main
from poller.core.outbox import WriteBatch
from tests.support.store_builders import ManualClock, a_store, dead


@dataclass(frozen=True)
class Told:
    """What a verb printed, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[list[str]]:
        """The lines of stdout, each in its words."""
        return [line.split() for line in self.out.splitlines()]


Ask = Callable[..., Told]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a place for a database."""
    return tmp_path / "state.db"


@pytest.fixture
def now() -> ManualClock:
    """Give a clock that stands at noon."""
    return ManualClock()


@pytest.fixture
def ask(path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Give a way to run a verb on the database; variables can be added."""

    def run(*argv: str, **variables: str) -> Told:
        with monkeypatch.context() as patch:
            for name, text in ({"POLLER_STORE": str(path)} | variables).items():
                patch.setenv(name, text)
            with pytest.raises(SystemExit) as ended:
                main(argv)
        return Told(ended.value.code, *capsys.readouterr())

    return run


@pytest.fixture(autouse=True)
def _log_as_it_was():
    yield
    structlog.reset_defaults()


@pytest.fixture
def keep(path: Path, now: ManualClock) -> Callable[..., None]:
    """Give a way to record states, events and marks, then to bury or disable."""

    def record(*, bury: str | None = None, disable: str | None = None, **batch) -> None:
        async def work() -> None:
            async with a_store(path, now) as store:
                await store.write(WriteBatch(**batch))
                if bury:
                    found = await store.due_deliveries(bury, now(), limit=99)
                    await store.settle([dead(it) for it in found])
                if disable:
                    await store.disable_sink(disable, "410 Gone")

        anyio.run(work)

    return record

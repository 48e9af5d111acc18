"""Fixtures of the tests of deploy/: an engine, the image that it builds, an API and a receiver."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from anyio.from_thread import start_blocking_portal

from tests.deploy.engine import USER, Engine, an_engine, build
from tests.deploy.programs import need
from tests.support.daemon_process import Place, a_place
from tests.support.secret_canaries import KEY, SECRET


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """Yield a Docker engine."""
    need("dockerd", "mmdebstrap")
    with an_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def image(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the name of the image, built from this tree."""
    return build(engine, tmp_path_factory.mktemp("image"))


@pytest.fixture
def secrets(tmp_path: Path) -> Path:
    """Return a folder of secrets that only the user of the image can read."""
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o500)
    for name, text in {"SUTRO_API_KEY": KEY, "POLLER_WEBHOOK_SECRET": SECRET}.items():
        (folder / name).write_text(text, "utf-8")
        (folder / name).chmod(0o400)
    for path in (folder, *folder.iterdir()):
        os.chown(path, USER, USER)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """Yield an API and a receiver on loopback, which run beside the test."""
    with (
        start_blocking_portal() as portal,
        portal.wrap_async_context_manager(a_place(Path(), tmp_path / "place")) as opened,
    ):
        yield opened

"""What the tests of the loops have: a silent log, since virtual weeks fill it."""

from collections.abc import Iterator
from typing import NoReturn

import pytest
import structlog


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    """Drop every log line; `capture_logs` still gets them."""
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent

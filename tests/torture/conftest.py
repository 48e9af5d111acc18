"""What the cruel tests share beside their rig."""

from collections.abc import Iterator
from typing import NoReturn

import pytest
import structlog


@pytest.fixture
def quiet() -> Iterator[None]:
    """Drop every log line of this process: virtual days fill it."""
    structlog.configure(processors=[_drop])
    yield
    structlog.reset_defaults()


def _drop(*_: object) -> NoReturn:
    raise structlog.DropEvent

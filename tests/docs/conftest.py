"""What tests of the documentation share: the installed product, with plug-ins for some pages."""

from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.installed_wheel import install_example

PLUGINS: Final = frozenset({"docs/writing-a-sink.md"})
"""The pages that need the example of a sink to be installed."""


@pytest.fixture
def program(command: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Return what finds the `sutro-poller` of a page."""
    return lambda page: install_example(command, tmp_path) if page in PLUGINS else command

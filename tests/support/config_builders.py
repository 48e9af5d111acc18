"""A valid configuration that tests change."""

from pathlib import Path
from typing import Final

import pytest

from poller.config import Config, load
from poller.core.errors import ConfigError

KEY: Final = "sk_canary_5up3r"
URL: Final = "https://hooks.example.com/services/T0/c4n4ry"
SECRET: Final = "whsec_" + "Y2FuYXJ5LWNhbmFyeS1jYW5hcnktY2FuYXJ5"
CANARIES: Final = (KEY, URL, SECRET, "c4n4ry", "5up3r")

GOOD: Final = {"SUTRO_API_KEY": KEY, "POLLER_JOB_IDS": "job-1", "HOME": "/home/us"}
WEBHOOK: Final = {"POLLER_WEBHOOK_URL": URL, "POLLER_WEBHOOK_SECRET": SECRET}


def load_with(*, env_file: Path | None = None, **changes: str) -> Config:
    """Load a valid environment with some variables changed."""
    return load(GOOD | changes, env_file)


def load_errors(*, env_file: Path | None = None, **changes: str) -> tuple[str, ...]:
    """Return the errors of a valid environment with some variables changed."""
    with pytest.raises(ConfigError) as caught:
        load_with(env_file=env_file, **changes)
    return caught.value.problems


def write_file(path: Path, text: str) -> str:
    """Write a file, and return its path as text."""
    path.write_text(text, encoding="utf-8")
    return str(path)

"""Settings for display, with secrets masked."""

from collections.abc import Mapping
from typing import NamedTuple

from poller.runtime.http import redact_url
from poller.runtime.redaction import MASK
from poller.settings.sources import SourcedValue


class SettingRow(NamedTuple):
    """One setting for display."""

    variable: str
    value: str
    origin: str


def describe(sourced: Mapping[str, SourcedValue]) -> list[SettingRow]:
    """Return every setting with its value, secrets masked, and its origin."""
    return [SettingRow(name, _display(value), value.origin) for name, value in sourced.items()]


def _display(value: SourcedValue) -> str:
    if not value.is_secret or not value.text:
        return value.text
    return redact_url(value.text) if "://" in value.text else MASK

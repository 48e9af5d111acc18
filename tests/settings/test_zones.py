"""The time zone of the daily report, which the system may not know."""

from pathlib import Path

import pytest

from poller.advice import warnings
from tests.support.config_builders import load_with


@pytest.fixture(autouse=True)
def _zones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the system know one zone."""
    (tmp_path / "America").mkdir()
    (tmp_path / "America" / "New_York").touch()
    monkeypatch.setattr("zoneinfo.TZPATH", ("/nowhere", str(tmp_path)))


@pytest.mark.parametrize("zone", ["America/NewYork", ":America/Nowhere"])
def test_unknown_zone_is_a_warning(zone: str):
    """A system takes UTC for a zone that it does not know, and says nothing."""
    config = load_with(TZ=zone, POLLER_DAILY_REPORT="08:00")

    assert list(warnings(config)) == [
        f"TZ: the system has no time zone {zone!r}, and uses UTC instead"
    ]


@pytest.mark.parametrize(
    "zone", ["", "UTC", "America/New_York", ":America/New_York", "EST5EDT,M3.2.0,M11.1.0"]
)
def test_known_zone_is_no_warning(zone: str):
    """A zone that there is, or rules as POSIX writes them, need no advice."""
    assert list(warnings(load_with(TZ=zone, POLLER_DAILY_REPORT="08:00"))) == []


def test_zone_matters_only_to_the_daily_report():
    """Without a daily report nothing depends on the zone."""
    assert list(warnings(load_with(TZ="America/NewYork"))) == []

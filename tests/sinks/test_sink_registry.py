"""The registry of sinks: built-in ones and those of installed packages."""

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from poller import sinks
from poller.core.errors import ConfigError
from poller.settings.base import DigestSettings, SinkSettings, setting
from poller.sinks import SinkKind, load_kind
from poller.sinks.log import KIND as LOG
from poller.sinks.webhook import KIND as WEBHOOK


@pytest.mark.parametrize(
    ("name", "kind"), [("log", LOG), ("webhook", WEBHOOK), ("webhook.audit", WEBHOOK)]
)
def test_load_kind_returns_a_built_in_kind(name: str, kind: object):
    """A built-in kind is loaded by its name, also for a second instance."""
    assert load_kind(name) is kind


@pytest.fixture
def install(monkeypatch) -> Callable[[str], None]:
    """Return a function that installs a package with the sink `pager`."""

    def install(value: str) -> None:
        entry = EntryPoint("pager", value, sinks.ENTRY_POINT_GROUP)

        def entry_points(*, group: str, name: str = "pager") -> list[EntryPoint]:
            return [entry] if (group, name) == (entry.group, entry.name) else []

        monkeypatch.setattr(sinks, "entry_points", entry_points)

    return install


def test_load_kind_returns_the_kind_of_a_package(install):
    """An installed package can add a kind."""
    install("poller.sinks.webhook:KIND")

    assert load_kind("pager.night") is WEBHOOK


@pytest.mark.parametrize("value", ["no_such_module:KIND", "poller.sinks.webhook:NONE"])
def test_load_kind_reports_a_package_that_cannot_be_imported(install, value):
    """A package that cannot be imported is reported in one line, with how to find the cause."""
    install(value)

    with pytest.raises(ConfigError) as caught:
        load_kind("pager")

    (line,) = caught.value.problems
    assert line.startswith(f"POLLER_SINKS: sink 'pager' cannot be loaded from {value} (")
    assert line.endswith(f"for details run python -c 'import {value.partition(':')[0]}'")


def test_load_kind_reports_a_package_with_a_wrong_entry_point(install):
    """An entry point that names something else is reported with what it must name."""
    install("poller.sinks.webhook:open_sink")

    with pytest.raises(ConfigError, match=r"webhook:open_sink must be a poller.sinks.SinkKind"):
        load_kind("pager")


class WriterSettings(SinkSettings):
    """Settings that use the name of a filter for something else."""

    model: str = setting("gpt", "The model that writes the text")


WRITER = SinkKind(WriterSettings, WEBHOOK.open)


class SummarySettings(DigestSettings):
    """Settings that use the name of the window of digests for something else."""

    digest: str = setting("sha256", "The checksum that is added to a summary")


SUMMARY = SinkKind(SummarySettings, WEBHOOK.open)


@pytest.mark.parametrize(("name", "field"), [("WRITER", "model"), ("SUMMARY", "digest")])
def test_load_kind_reports_settings_that_hide_those_of_all(install, name: str, field: str):
    """A package whose settings have the name of a filter, and another type, is not loaded."""
    install(f"{__name__}:{name}")

    with pytest.raises(ConfigError, match=f"its setting {field} has another type than that of"):
        load_kind("pager")


def test_load_kind_reports_an_unknown_name():
    """An unknown name is an error that lists the sinks, and where the others are."""
    words = r"unknown sink 'tracker' \(installed: log, webhook.*\); install a package with such a"
    with pytest.raises(ConfigError, match=words):
        load_kind("tracker")


def test_load_kind_suggests_the_kind_of_a_package(install):
    """A misspelt name of an installed sink is an error that suggests it."""
    install("poller.sinks.webhook:KIND")

    with pytest.raises(ConfigError, match=r"'pagr' .* did you mean pager\?$"):
        load_kind("pagr")

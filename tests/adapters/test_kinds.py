"""Which sinks there are."""

from collections.abc import Callable
from importlib.metadata import EntryPoint

import pytest

from poller import sinks
from poller.core.errors import ConfigError
from poller.sinks import load_kind
from poller.sinks.log import KIND as LOG
from poller.sinks.webhook import KIND as WEBHOOK


@pytest.mark.parametrize(
    ("name", "kind"), [("log", LOG), ("webhook", WEBHOOK), ("webhook.audit", WEBHOOK)]
)
def test_built_in_kind(name: str, kind: object):
    """A built-in kind is found by its name, also for a second instance."""
    assert load_kind(name) is kind


@pytest.fixture
def install(monkeypatch) -> Callable[[str], None]:
    """Give a way to install a package whose sink `pager` is what an entry point names."""

    def install(value: str) -> None:
        entry = EntryPoint("pager", value, sinks.ENTRY_POINTS)
        monkeypatch.setattr(sinks, "entry_points", lambda **_where: [entry])

    return install


def test_kind_of_another_package(install):
    """A package that is installed can add a kind."""
    install("poller.sinks.webhook:KIND")

    assert load_kind("pager.night") is WEBHOOK


@pytest.mark.parametrize("value", ["no_such_module:KIND", "poller.sinks.webhook:NONE"])
def test_kind_that_cannot_be_loaded(install, value):
    """A package that cannot be imported is one line that says how to find out why."""
    install(value)

    with pytest.raises(ConfigError) as caught:
        load_kind("pager")

    (line,) = caught.value.problems
    assert line.startswith(f"POLLER_SINKS: the sink 'pager' cannot be loaded from {value} (")
    assert line.endswith(f"python -c 'import {value.partition(':')[0]}' says more")


def test_kind_that_is_none(install):
    """An entry point that names something else is one line that says what it must name."""
    install("poller.sinks.webhook:open_sink")

    with pytest.raises(ConfigError, match=r"webhook:open_sink must be a poller.sinks.SinkKind"):
        load_kind("pager")


def test_unknown_kind():
    """A name that nobody has is an error that says which there are."""
    with pytest.raises(ConfigError, match=r"no sink is called 'pager' \(built in: log, webhook\)"):
        load_kind("pager")

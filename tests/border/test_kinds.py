"""Which sinks there are."""

from types import SimpleNamespace

import pytest

from poller import sinks
from poller.errors import ConfigError
from poller.sinks import find_kind
from poller.sinks.log import KIND as LOG
from poller.sinks.webhook import KIND as WEBHOOK


@pytest.mark.parametrize(
    ("name", "kind"), [("log", LOG), ("webhook", WEBHOOK), ("webhook.audit", WEBHOOK)]
)
def test_built_in_kind(name: str, kind: object):
    """A built-in kind is found by its name, also for a second instance."""
    assert find_kind(name) is kind


def test_kind_of_another_package(monkeypatch):
    """A package that is installed can add a kind."""
    entry = SimpleNamespace(name="pager", load=lambda: WEBHOOK)
    monkeypatch.setattr(sinks, "entry_points", lambda **_where: [entry])

    assert find_kind("pager.night") is WEBHOOK


def test_unknown_kind():
    """A name that nobody has is an error that says which there are."""
    with pytest.raises(ConfigError, match=r"no sink is called 'pager' \(built in: log, webhook\)"):
        find_kind("pager")

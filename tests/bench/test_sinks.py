"""The chapter about sinks."""

from poller.sinks import BUILT_IN
from tests.bench.sinks import KINDS


def test_every_built_in_kind_is_measured():
    """A new kind is not left out of the figures."""
    assert KINDS.keys() == BUILT_IN.keys()

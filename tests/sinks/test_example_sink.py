"""The example of a sink, tested as its author would: through `poller.sinks.testing`."""

from pathlib import Path

import pytest

from poller.core.errors import ConfigError
from poller.sinks import DeliveryError
from poller.sinks.testing import open_sink, sample_delivery
from tests.example_sink.file_sink import KIND


async def test_example_sink_appends_the_body_of_each_event(tmp_path: Path):
    """Each event is one line of the file."""
    deliveries = [sample_delivery("job.started"), sample_delivery("job.succeeded")]

    async with open_sink(KIND, path=str(tmp_path / "events")) as sink:
        for delivery in deliveries:
            await sink.send(delivery)

    lines = (tmp_path / "events").read_bytes().splitlines()
    assert lines == [delivery.event.body for delivery in deliveries]


async def test_example_sink_reports_a_file_that_cannot_be_written(tmp_path: Path):
    """A failure names the setting and the reason."""
    async with open_sink(KIND, path=str(tmp_path)) as sink:
        with pytest.raises(DeliveryError, match="POLLER_FILE_PATH: Is a directory"):
            await sink.send(sample_delivery())


async def test_example_sink_needs_a_path():
    """A setting without a default is required."""
    with pytest.raises(ConfigError, match="POLLER_TEST_PATH: is required"):
        async with open_sink(KIND):
            pass

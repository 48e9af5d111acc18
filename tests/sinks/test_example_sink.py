"""The example of a sink, tested as its author would: through `poller.sinks.testing`."""

from pathlib import Path

import pytest

from poller.core.errors import ConfigError
from poller.sinks import DeliveryError
from poller.sinks.testing import open_sink, sample_delivery
from tests.example_sink.board_sink import KIND as BOARD
from tests.example_sink.spool_sink import KIND


def contents(folder: Path) -> dict[str, bytes]:
    """Return the content of each file in a folder by its name."""
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_example_sink_writes_the_body_of_each_event(tmp_path: Path):
    """Each event is one file, which a repetition replaces."""
    deliveries = [sample_delivery("job.started"), sample_delivery("job.succeeded")]

    async with open_sink(KIND, folder=str(tmp_path)) as sink:
        for delivery in [*deliveries, deliveries[0]]:
            await sink.send(delivery)

    assert contents(tmp_path) == {f"{sent.event.id}.json": sent.event.body for sent in deliveries}


async def test_example_sink_reports_a_folder_that_cannot_be_written(tmp_path: Path):
    """A failure names the setting and the reason."""
    async with open_sink(KIND, folder=str(tmp_path / "none")) as sink:
        with pytest.raises(DeliveryError, match="POLLER_SPOOL_FOLDER: No such file or directory"):
            await sink.send(sample_delivery())


async def test_example_sink_needs_a_folder():
    """A setting without a default is required."""
    with pytest.raises(ConfigError, match="POLLER_TEST_FOLDER: is required"):
        async with open_sink(KIND):
            pass


async def test_example_for_people_appends_each_message(tmp_path: Path):
    """A message is text that is followed by an empty line."""
    board = tmp_path / "board.txt"
    async with open_sink(BOARD, file=str(board), digest="5m") as sink:
        await sink.send(sample_delivery("job.failed"))
        await sink.send(sample_delivery("job.cancelled"))

    first, second, end = board.read_text("utf-8").split("\n\n")
    assert first.startswith("❌ Product review sentiment (job-12345) failed")
    assert second.startswith("⚠️ Product review sentiment (job-12345) was cancelled")
    assert end == ""


async def test_example_for_people_reports_a_file_that_cannot_be_written(tmp_path: Path):
    """A failure names the setting and the reason."""
    async with open_sink(BOARD, file=str(tmp_path / "none" / "board.txt")) as sink:
        with pytest.raises(DeliveryError, match="POLLER_BOARD_FILE: No such file or directory"):
            await sink.send(sample_delivery())

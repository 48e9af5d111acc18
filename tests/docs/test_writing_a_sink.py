"""The page on writing a sink shows the example that other tests install and run."""

import pytest

from tests.docs.markdown import ROOT, blocks


@pytest.mark.parametrize(
    ("language", "file"),
    [("python", "spool_sink.py"), ("toml", "pyproject.toml"), ("python", "board_sink.py")],
)
def test_the_page_shows_the_example_whole(language, file):
    """A block of the language is the file of the example, character by character."""
    shown = [block.text for block in blocks("docs/writing-a-sink.md") if block.language == language]

    assert (ROOT / "tests" / "example_sink" / file).read_text("utf-8") in shown

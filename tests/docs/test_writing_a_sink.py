"""The page on writing a sink shows the example that other tests install and run."""

import pytest

from tests.docs.markdown import ROOT, blocks


@pytest.mark.parametrize(
    ("language", "file"), [("python", "spool_sink.py"), ("toml", "pyproject.toml")]
)
def test_the_page_shows_the_example_whole(language, file):
    """The first block of a language is the file of the example, character by character."""
    shown = next(it for it in blocks("docs/writing-a-sink.md") if it.language == language)

    assert shown.text == (ROOT / "tests" / "example_sink" / file).read_text("utf-8")

"""What README and the pages of docs/ show of commands is what happens."""

from typing import Final

import pytest

from tests.docs.markdown import PAGES, blocks
from tests.docs.session import PROGRAMS, RUN, play
from tests.docs.transcript import commands, is_like
from tests.docs.unrun import UNRUN, reason_not_to_run
from tests.docs.worlds import WORLDS, a_world, alone

BLOCKS: Final = [block for page in PAGES for block in blocks(page)]


@pytest.mark.parametrize("page", sorted({it.page for it in BLOCKS if it.language in RUN}))
async def test_commands_print_what_the_page_shows(page, program, tmp_path):
    """Each command of a page, run in the page's order, prints what the page shows."""
    setting, command = WORLDS.get(page, alone), program(page)
    async with a_world(command, tmp_path / "home", setting) as world:
        mismatches = await play([it for it in BLOCKS if it.page == page], world)

    assert not mismatches, "\n\n".join(map(str, mismatches))


def test_what_is_not_run_is_there():
    """Each reason not to run something is needed by some page."""
    texts = [it.text for it in BLOCKS if it.language in PROGRAMS]
    texts += [each.text for it in BLOCKS if it.language == "console" for each in commands(it)]
    left = [text for text in texts if reason_not_to_run(text)]

    assert not [it for it in UNRUN if not any(text.lstrip().startswith(it) for text in left)]


def test_a_transcript_leaves_out_only_what_it_says():
    """Times and ports may differ, `...` stands for anything, and all else has to be the same."""
    printed = "a 2024-01-15T10:30:00Z\nb   3.5 s\nc http://127.0.0.1:4711/x\nend\n"

    assert is_like("a 2026-01-01T00:00:00.5Z\n...\nend\n", printed)
    assert is_like("a 2026-01-01T00:00:00Z\nb  7 s\nc http://...\nend\n", printed)
    assert is_like("...\nb  7 s\n", printed, is_begun=True)
    assert not is_like("a 2026-01-01T00:00:00Z\n", printed)
    assert not is_like("a 2026-01-01T00:00:00Z\nb  7 s\nend\n", printed)
    assert not is_like("...\nEnd\n", printed)

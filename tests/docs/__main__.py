"""Write what commands print into the pages that show something else: `python -m tests.docs PAGE`.

Look at the difference before you commit it: a page that shows a bug is still wrong.
"""

import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from tests.docs.markdown import ROOT, blocks, read
from tests.docs.session import Mismatch, play
from tests.docs.worlds import WORLDS, a_world, alone


async def rewrite(page: str) -> None:
    """Run a page, and put what was printed in place of what the page shows."""
    command = Path(sys.executable).with_name("sutro-poller")
    with TemporaryDirectory() as folder:
        async with a_world(command, Path(folder) / "home", WORLDS.get(page, alone)) as world:
            mismatches = await play([*blocks(page)], world)
    lines = read(page).split("\n")
    for mismatch in reversed(mismatches):
        _replace(lines, mismatch)
        print(mismatch, "\n")  # noqa: T201 - for a person
    (ROOT / page).write_text("\n".join(lines), "utf-8")


def _replace(lines: list[str], mismatch: Mismatch) -> None:
    start = mismatch.command.line - 1 + len(mismatch.command.text.split("\n"))
    end = start + len(mismatch.command.output.splitlines())
    lines[start:end] = mismatch.printed.rstrip("\n").split("\n") if mismatch.printed else []


if __name__ == "__main__":
    for name in sys.argv[1:]:
        anyio.run(rewrite, name)

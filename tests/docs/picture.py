"""Draw docs/images/demo.svg: the output of a run of `sutro-poller demo` in a terminal."""

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.terminal_theme import MONOKAI
from rich.text import Text

PICTURE: Final = Path(__file__).parents[2] / "docs" / "images" / "demo.svg"
COLUMNS: Final = 108
FONTS: Final = re.compile(r"@font-face \{.*?\}\s*", re.DOTALL)
"""Fonts of another host, which the picture does without."""


def draw(output: str) -> str:
    """Return a terminal as SVG that shows `make demo` and its output."""
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text.assemble(("$ ", "green"), ("make demo", "bold")))
    console.print(Text(output.rstrip("\n")))
    svg = console.export_svg(title="sutro-poller", theme=MONOKAI, unique_id="demo")
    return FONTS.sub("", svg)


def main() -> None:
    """Run the demo and draw it."""
    command = [Path(sys.executable).with_name("sutro-poller"), "demo"]
    run = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    PICTURE.write_text(draw(run.stdout), "utf-8")


if __name__ == "__main__":
    main()

"""What a page shows of its commands, and how that is held against what they print."""

import re
from dataclasses import dataclass
from typing import Final

from tests.docs.markdown import Block

ANY: Final = "..."
"""What a page leaves out: part of a line, or, alone on a line, any number of lines."""

VOLATILE: Final = (
    (r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)", "<time>"),
    (r"\d{4}-\d\d-\d\d", "<date>"),
    (r"(127\.0\.0\.1|localhost):\d+", r"\1:<port>"),
    (r"process \d+", "process <pid>"),
    (r"\b\d+(\.\d+)? MB", "<size>"),
    (r"\b\d+[dhm]\d+[hms]\b", "<duration>"),
    (r"\b\d+(\.\d+)? ?(ms|s|min|h|d)\b", "<duration>"),
    (r"<duration>( <duration>)+", "<duration>"),
    (r'(_seconds": )-?\d+(\.\d+)?', r"\1<duration>"),
    (r"\b(job-\d+)-[0-9a-f]{4}\b", r"\1-<run>"),
    (r"^POLLER_WEBHOOK_SECRET=.*", "POLLER_WEBHOOK_SECRET=<secret>"),
    (r"\bevt_([a-z2-7]{16,}|\.\.\.)", "<event>"),
    (r"\bran +", "ran "),
    (r"\b\d+(?= tokens out)", "<count>"),
    (r"\$\d+\.\d+", "$<cost>"),
    (r"(?<=\S) {2,}", "  "),
    (r" +$", ""),
)
"""What differs from run to run, and what stands for it when two outputs are compared."""


@dataclass(frozen=True, slots=True)
class Command:
    """One command of a `console` block, and what the page shows of its output."""

    line: int
    text: str
    output: str


def commands(block: Block) -> list[Command]:
    """Split a `console` block at its prompts. A backslash at the end continues a command."""
    found: list[Command] = []
    is_open = False
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            found.append(Command(number, line[2:], ""))
        elif not found:
            raise ValueError(f"{block.place}: a console block begins with a command: $ ...")
        elif is_open:
            found[-1] = Command(found[-1].line, f"{found[-1].text}\n{line}", "")
        else:
            found[-1] = Command(found[-1].line, found[-1].text, f"{found[-1].output}{line}\n")
        is_open = line.endswith("\\") and (is_open or line.startswith("$ "))
    return found


def is_like(shown: str, printed: str, *, is_begun: bool = False) -> bool:
    """Return whether an output is what a page shows of it; with `is_begun`, so far."""
    pattern = "".join(map(_line_pattern, _plain(shown).rstrip("\n").split("\n")))
    return bool(re.compile(pattern + ("" if is_begun else r"\n*\Z")).match(_plain(printed) + "\n"))


def _line_pattern(line: str) -> str:
    if line == ANY:
        return r"(?:.*\n)*?"
    return r".*?".join(map(re.escape, line.split(ANY))) + r"\n"


def _plain(text: str) -> str:
    for pattern, stand_in in VOLATILE:
        text = re.sub(pattern, stand_in, text, flags=re.MULTILINE)
    return text.strip("\n")

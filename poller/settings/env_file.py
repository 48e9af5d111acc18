"""The file of `--env-file`: its variables, and lines that other programs read differently."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Final, Self

from dotenv.parser import Binding, parse_stream

from poller.core.errors import ConfigError

ASSIGNMENT: Final = re.compile(
    r"(?P<export>export\s+)?[^=]*?(?P<space>\s*)=\s*(?P<text>.*)", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class EnvFile:
    """The values of a file by variable; `warnings` are about lines that are not portable."""

    values: dict[str, str] = field(default_factory=dict, repr=False)
    warnings: tuple[str, ...] = ()

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file. Raises OSError, ValueError, and ConfigError for lines without a value."""
        text = path.read_text(encoding="utf-8")
        lines = list(parse_stream(StringIO(text)))
        bad = [line for line in lines if line.error or (line.key and line.value is None)]
        if bad:
            raise ConfigError(*(f"{_place(path, line)}: must be NAME=value" for line in bad))
        assigned = [line for line in lines if line.key]
        warnings = [f"{_place(path, line)}: {text}" for line in assigned for text in _misread(line)]
        values = {str(line.key): line.value for line in assigned if line.value}
        return cls(values, tuple(warnings))


def _place(path: Path, line: Binding) -> str:
    """Name a line. The parser counts the empty lines before it as part of it."""
    text = line.original.string
    number = line.original.line + text[: -len(text.lstrip()) or None].count("\n")
    return f"--env-file: {path}, line {number}"


def _misread(line: Binding) -> Iterator[str]:
    """Yield how docker and systemd read a line differently, and what to do."""
    parts = ASSIGNMENT.fullmatch(line.original.string.strip())
    if parts is None:
        return
    if parts["export"]:
        yield "docker rejects `export`, and systemd ignores the line: leave it out"
    elif parts["space"]:
        yield "docker rejects the space before `=`: leave it out"
    if parts["text"].startswith(('"', "'")):
        yield "docker keeps the quotes as part of the value: leave them out"
    elif parts["text"].startswith("#") or parts["text"] != line.value:
        yield "docker and systemd read the comment as part of the value: give it its own line"

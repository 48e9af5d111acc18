"""The results as rows, and the file that shows them."""

import os
import platform
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Final

from tests.bench import venvs
from tests.bench.processes import ALLOCATOR

RESULTS: Final = Path(__file__).with_name("RESULTS.md")
HEAD: Final = ("| what | figure | to reach | reached |", "|---|---|---|---|")
NOT_REACHED: Final = "**no**"
MISSED: Final = "Missed"
"""The title of the part with all figures that are not what they should be."""
LIBRARIES: Final = ("aiohttp", "anyio", "uvloop", "pydantic", "structlog")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure. `is_reached` is None where there is no target."""

    what: str
    figure: str
    to_reach: str = ""
    is_reached: bool | None = None

    def __str__(self) -> str:
        """Return it as a row of a table."""
        applied = {True: "yes", False: NOT_REACHED, None: ""}[self.is_reached]
        return f"| {self.what} | {self.figure} | {self.to_reach} | {applied} |"


@dataclass(frozen=True, slots=True)
class Chapter:
    """The results of one module, its method, and a remark."""

    title: str
    how: str
    rows: Sequence[Row]
    more: str = ""

    def __str__(self) -> str:
        """Return it as Markdown."""
        table = "\n".join((*HEAD, *map(str, self.rows)))
        parts = (f"## {self.title}", self.how, table, self.more)
        return "\n\n".join(part for part in parts if part) + "\n"


def start(command: str) -> None:
    """Begin RESULTS.md anew: no chapter is left of an earlier run."""
    RESULTS.write_text(_preface(command), "utf-8")


def write(chapter: Chapter) -> None:
    """Write a chapter into RESULTS.md, in the place of the one with the same title, if any."""
    head, *parts = re.split("^(?=## )", RESULTS.read_text("utf-8"), flags=re.MULTILINE)
    sections = {part.partition("\n")[0].removeprefix("## "): part.strip() + "\n" for part in parts}
    sections[chapter.title] = f"{chapter}\n{_stamp()}\n"
    sections.pop(MISSED, None)
    missed = "\n".join((f"## {MISSED}\n", *HEAD, *_missed(sections)))
    RESULTS.write_text("\n".join((head.strip() + "\n", f"{missed}\n", *sections.values())), "utf-8")


def _missed(sections: Mapping[str, str]) -> Iterator[str]:
    """Return the rows of all chapters whose figure is not what it should be."""
    for title, text in sections.items():
        for line in text.splitlines():
            if line.endswith(f"| {NOT_REACHED} |"):
                yield f"| {title}: {line.removeprefix('| ')}"


def _stamp() -> str:
    """Return when and where a chapter was measured."""
    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}"
    return f"Measured on {datetime.now(UTC):%Y-%m-%d}: {machine}."


def _preface(command: str) -> str:
    libraries = ", ".join(f"{library} {version(library)}" for library in LIBRARIES)
    peers = ", ".join(package.replace("==", " ") for package in (*venvs.SDK, *venvs.AIRFLOW))
    settings = ", ".join(f"`{name}={value}`" for name, value in ALLOCATOR.items())
    return f"""\
# What the benchmark measured

Written by `{command}` on {datetime.now(UTC):%Y-%m-%d}. The line below each
chapter has its own date, as a chapter can be measured again. A figure is a median, and in brackets
from where to where it went; CPU seconds are user and system time of all threads of the client's
process.

| | |
|---|---|
| machine | {os.cpu_count()} cores, {platform.system()} {platform.release()}, {platform.machine()} |
| Python | {platform.python_version()}, SQLite {sqlite3.sqlite_version} |
| libraries | {libraries} |
| measured against | {peers} |
| loop | uvloop, but for Airflow (asyncio, as in its triggerer) and the SDK (threads) |
| allocator | {settings}, for every program |
"""

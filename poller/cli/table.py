"""Rows as an aligned table that fits the terminal, with colors where it has them."""

import shutil
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from unicodedata import east_asian_width

from poller.core.formatting import (
    WORD_COLORS,
    colored,
    failure_message,
    format_cost,
    format_duration,
)
from poller.runtime.console import has_color

COLUMN_WIDTHS: Final = {"id": 16, "event_id": 16, "name": 30, "model": 30}
"""Where a table cuts a column. 16 characters of an event ID are still enough to select it."""
NARROWED: Final = ("reason", "name", "model", "deliveries", "result", "type", "job_id")
"""The columns that are cut when a table is wider than its terminal, the first of them first."""
MIN_CUT_WIDTH: Final = 8
MIN_ID_WIDTH: Final = 16
FORMATS: Final[Mapping[str, Callable[[Any], str]]] = {
    "job_cost": format_cost,
    "cost_estimate": format_cost,
    "cost_usd": format_cost,
    "estimate_usd": format_cost,
    "run_seconds": format_duration,
}
HEADS: Final = {
    "cost_usd": "COST",
    "estimate_usd": "ESTIMATE",
    "job_cost": "COST",
    "run_seconds": "RAN",
}


def as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return aligned columns under their names, numbers to the right."""
    values = [[row[name] for row in rows] for name in columns]
    cells = [
        [HEADS.get(name) or _head(name), *(_cell(name, value) for value in column)]
        for name, column in zip(columns, values, strict=True)
    ]
    widths = _fit(columns, [max(map(_width, set(texts))) for texts in cells])
    aligned = map(_align, cells, widths, values)
    return "\n".join("  ".join(line).rstrip() for line in zip(*aligned, strict=True))


def _align(texts: Sequence[str], width: int, values: Iterable[object]) -> list[str]:
    """Return the texts of a column in one width, to the right if any value is a number."""
    is_right = any(isinstance(value, int | float | Decimal) for value in values)
    padded = {text: _pad(_cut(text, width), width, is_right=is_right) for text in set(texts)}
    return [padded[text] for text in texts]


def _head(name: str) -> str:
    return name.removesuffix("_at").replace("_", " ").upper()


def _fit(columns: Sequence[str], widths: list[int]) -> list[int]:
    """Return the widths with columns cut to fit the terminal; a pipe gets everything."""
    if not sys.stdout.isatty():
        return widths
    excess = sum(widths) + 2 * (len(widths) - 1) - shutil.get_terminal_size().columns
    for name in NARROWED:
        if name in columns and excess > 0:
            place = columns.index(name)
            least = MIN_ID_WIDTH if name == "job_id" else MIN_CUT_WIDTH
            cut = min(excess, max(widths[place] - least, 0))
            widths[place] -= cut
            excess -= cut
    return widths


def as_text(name: str, value: object) -> str:
    """Return a value as people read it, in one line; a dash for None."""
    if value is None:
        return "-"
    if not isinstance(value, str):
        if name in FORMATS and isinstance(value, int | float | Decimal):
            return FORMATS[name](value)
        if isinstance(value, Mapping):
            return failure_message(value)
    # A name may hold line breaks, which would tear the table.
    return " ".join(str(value).split())


def _cell(name: str, value: object) -> str:
    text = as_text(name, value)
    width = COLUMN_WIDTHS.get(name)
    if width is None:
        return text
    return text[:width] if name.endswith("id") else _cut(text, width)


def _cut(text: str, width: int) -> str:
    """Return a text in at most so many columns of a terminal, with an ellipsis where it is cut."""
    if _width(text) <= width:
        return text
    while text and _width(text) >= width:
        text = text[:-1]
    return f"{text}…"


def _pad(text: str, width: int, *, is_right: bool) -> str:
    space = " " * (width - _width(text))
    color = WORD_COLORS.get(text)
    if color and has_color(sys.stdout):
        text = colored(text, color)
    return space + text if is_right else text + space


def _width(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)

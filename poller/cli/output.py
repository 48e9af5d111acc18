"""Print rows as an aligned table, as JSON, or as CSV."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any, Final
from unicodedata import east_asian_width

from poller.cli import exit_codes as codes
from poller.cli import print_error, print_output
from poller.store.admin import Row, StoreAdmin

COLUMN_WIDTHS: Final = {"id": 16, "event_id": 16, "name": 30, "model": 30}
"""Where a table cuts a column. 16 characters of an event ID are still enough to select it."""


def print_rows(
    rows: Sequence[Mapping[str, Any]], columns: Sequence[str], style: str, *, empty: str
) -> None:
    """Print the columns of rows as a table or CSV, or all of the rows as JSON."""
    if style == "json":
        print_output(as_json(rows))
    elif style == "csv":
        print_output(as_csv(rows, columns))
    else:
        print_output(as_table(rows, columns) if rows else empty)


def as_json(value: object) -> str:
    """Return indented JSON; a decimal becomes a string, which keeps every digit."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=str)


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return the columns as CSV, with a header."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().rstrip("\n")


def as_table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return aligned columns under their names, numbers to the right."""
    heads = [name.removesuffix("_at").replace("_", " ").upper() for name in columns]
    cells = [heads, *([_cell(name, row[name]) for name in columns] for row in rows)]
    widths = [max(map(_width, column)) for column in zip(*cells, strict=True)]
    rights = [any(isinstance(row[name], int | float | Decimal) for row in rows) for name in columns]
    return "\n".join("  ".join(map(_pad, line, widths, rights)).rstrip() for line in cells)


def _cell(name: str, value: object) -> str:
    # A name may hold line breaks, which would tear the table.
    text = "-" if value is None else " ".join(str(value).split())
    width = COLUMN_WIDTHS.get(name, len(text))
    if len(text) <= width:
        return text
    return text[:width] if name.endswith("id") else text[: width - 1] + "…"


def _pad(text: str, width: int, is_right: bool) -> str:
    space = " " * (width - _width(text))
    return space + text if is_right else text + space


def _width(text: str) -> int:
    """Return how many columns a text takes on a terminal."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


REPLAY_COLUMNS: Final = ("event_id", "type", "job_id", "sink", "result")
REPLAYED: Final = "will be sent again"


def print_replayed(admin: StoreAdmin, rows: Sequence[Row], style: str, *, empty: str) -> int:
    """Print whether each delivery is replayed; return 1 unless all are."""
    results = [row | {"result": row["skipped_reason"] or REPLAYED} for row in rows]
    skipped = sum(row["skipped_reason"] is not None for row in rows)
    print_rows(results, REPLAY_COLUMNS, style, empty=empty)
    if skipped < len(rows):
        print_error(f"{len(rows) - skipped} of {len(rows)} will be sent again{when_sent(admin)}")
    return codes.FAILURE if skipped or not rows else codes.OK


def when_sent(admin: StoreAdmin) -> str:
    """Return when pending deliveries are sent, as the end of a sentence."""
    is_running = admin.status().is_running
    return (
        "; the running daemon starts within 5 s"
        if is_running
        else " when `sutro-poller run` is started"
    )

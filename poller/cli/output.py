"""Print rows as an aligned table, as JSON, or as CSV."""

import csv
import io
import json
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import count, islice
from textwrap import indent
from typing import Any, Final

from poller.cli import exit_codes as codes
from poller.cli import print_error, print_output
from poller.cli.table import as_table
from poller.core.formatting import format_duration
from poller.store.admin import StoreAdmin
from poller.store.filters import Row

ROWS_AT_ONCE: Final = 1_000
FORMULA_STARTS: Final = ("=", "+", "-", "@", "\t", "\n", "＝", "＋", "－", "＠")  # noqa: RUF001
"""What a formula may begin with in a spreadsheet, also in a Japanese one."""


def print_rows(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], style: str, *, empty: str
) -> None:
    """Print the columns of rows as a table or CSV, or all of the rows as JSON.

    At most ROWS_AT_ONCE rows are in memory. No more are read once the reader of stdout has gone.
    """
    iterator = iter(rows)
    batches = iter(lambda: [*islice(iterator, ROWS_AT_ONCE)], [])
    texts = _json_texts(batches) if style == "json" else _texts(batches, columns, style, empty)
    for text in texts:
        if not print_output(text):
            return


def print_all(
    rows: Iterable[Mapping[str, Any]], columns: Sequence[str], style: str, *, empty: str
) -> int:
    """Print the rows of changes while they are made, and return how many there are.

    All changes are made, even if the reader of stdout has gone.
    """
    numbers = count()
    printed = (row for row, _ in zip(rows, numbers, strict=False))
    print_rows(printed, columns, style, empty=empty)
    deque(printed, maxlen=0)
    return next(numbers)


def _json_texts(batches: Iterable[Sequence[Mapping[str, Any]]]) -> Iterator[str]:
    """Yield the lines of a JSON array."""
    text = "["
    for batch in batches:
        if text != "[":
            yield f"{text},"
        rows = ",\n".join(indent(as_json(row), "  ") for row in batch)
        text = f"[\n{rows}" if text == "[" else rows
    yield "[]" if text == "[" else f"{text}\n]"


def _texts(
    batches: Iterable[Sequence[Mapping[str, Any]]], columns: Sequence[str], style: str, empty: str
) -> Iterator[str]:
    """Yield the lines of a table or CSV; the columns of a long table are aligned in portions."""
    write = as_csv if style == "csv" else as_table
    is_empty = True
    for batch in batches:
        text = write(batch, columns)
        yield text if is_empty else text.partition("\n")[2]
        is_empty = False
    if is_empty:
        yield as_csv([], columns) if style == "csv" else empty


def as_json(value: object) -> str:
    """Return indented JSON; a decimal becomes a string, which keeps every digit."""
    return json.dumps(value, indent=2, ensure_ascii=False, default=_plain)


def as_csv(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> str:
    """Return the columns as CSV, with a header, which a spreadsheet does not compute."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: _csv_cell(row[name]) for name in columns} for row in rows)
    return text.getvalue().rstrip("\n")


def _csv_cell(value: object) -> object:
    """Return a text that is no formula: an apostrophe shows that. Numbers stay as they are."""
    if isinstance(value, str):
        text = value.replace("\r", "\n")  # which is quoted
        return f"'{text}" if text.startswith(FORMULA_STARTS) else text
    return "" if value is None else _plain(value)


def _plain(value: object) -> str:
    """Return a value as text; a tiny decimal without an exponent."""
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


def format_age(moment: str | None) -> str | None:
    """Return how long ago an RFC 3339 time was."""
    if moment is None:
        return None
    return format_duration(max(int(time.time() - datetime.fromisoformat(moment).timestamp()), 0))


REPLAY_COLUMNS: Final = ("event_id", "type", "job_id", "sink", "result")
REPLAYED: Final = "will be sent again"


def print_replayed(admin: StoreAdmin, rows: Iterable[Row], style: str, *, empty: str) -> int:
    """Print whether each delivery is replayed; return 1 unless all are."""
    skipped = 0

    def results() -> Iterator[Row]:
        nonlocal skipped
        for row in rows:
            skipped += row["skipped_reason"] is not None
            yield row | {"result": row["skipped_reason"] or REPLAYED}

    total = print_all(results(), REPLAY_COLUMNS, style, empty=empty)
    if skipped < total:
        print_error(f"{total - skipped} of {total} will be sent again{when_sent(admin)}")
    return codes.FAILURE if skipped or not total else codes.OK


def when_sent(admin: StoreAdmin) -> str:
    """Return when pending deliveries are sent, as the end of a sentence."""
    is_running = admin.status().is_running
    return (
        "; the running daemon starts within 5 s"
        if is_running
        else " when `sutro-poller run` is started"
    )

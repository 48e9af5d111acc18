"""Write the results of `make test-faults`: results.json and the table of docs/reliability.md.

Usage: python tests/fault_injection/report.py ROWS SEED
"""

import json
import platform
import sqlite3
import sys
from datetime import UTC, datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

HERE: Final = Path(__file__).parent
PAGE: Final = HERE.parents[1] / "docs" / "reliability.md"
RESULTS: Final = HERE / "results.json"
BEGIN, END = "<!-- faults -->", "<!-- /faults -->"

UNTESTED: Final = {
    "a disk or hypervisor that reports a write as synced and loses it": "no such disk here",
    "kernel crashes on other file systems": "images of the file are built instead",
}
"""Faults that cannot be tested on a plain machine, and the reason."""

Row = dict[str, Any]


def summed(rows: list[Row]) -> list[Row]:
    """Add up the rows of each promise."""
    by = sorted(rows, key=lambda row: (row["suite"], row["promise"]))
    return [_sum(list(group)) for _, group in groupby(by, lambda row: row["promise"])]


def _sum(rows: list[Row]) -> Row:
    hits = [row["hits"] for row in rows if row["hits"] is not None]
    totals = {name: sum(row[name] for row in rows) for name in ("cases", "violations")}
    return rows[0] | totals | {"hits": sum(hits) if hits else None}


def table(rows: list[Row], *, seed: int, day: str) -> str:
    """Return the table of the page."""
    lines = [
        f"`make test-faults SEED={seed}` on {day}:",
        "",
        "| promise | cases | of these at a critical moment | violations |",
        "|---|---|---|---|",
    ]
    for row in rows:
        hits = "" if row["hits"] is None else f"{row['hits']:,}"
        lines.append(f"| {row['promise']} | {row['cases']:,} | {hits} | {row['violations']} |")
    lines += [f"| {what} | not tested: {why} | | |" for what, why in UNTESTED.items()]
    return "\n".join(lines)


def write(rows: list[Row], seed: str) -> None:
    """Write both files."""
    now = datetime.now(UTC)
    result = {
        "at": f"{now:%Y-%m-%dT%H:%M:%SZ}",
        "seed": int(seed),
        "python": platform.python_version(),
        "sqlite": sqlite3.sqlite_version,
        "rows": rows,
    }
    RESULTS.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    PAGE.write_text(page(), "utf-8")


def page() -> str:
    """Return the text of the page with the table of the last results."""
    results = json.loads(RESULTS.read_text("utf-8"))
    drawn = table(results["rows"], seed=results["seed"], day=results["at"][:10])
    before, _, rest = PAGE.read_text("utf-8").partition(BEGIN)
    return f"{before}{BEGIN}\n{drawn}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    lines = Path(sys.argv[1]).read_text("utf-8").splitlines()
    write(summed([json.loads(line) for line in lines]), sys.argv[2])

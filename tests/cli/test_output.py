"""How rows are printed."""

import csv
import io
import json
import re
import sys
from collections.abc import Iterable
from decimal import Decimal
from io import StringIO
from unicodedata import east_asian_width

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.cli import output
from poller.cli.output import as_csv, as_json
from poller.cli.table import as_table


class Terminal(StringIO):
    """A stream that claims to be a terminal."""

    def isatty(self) -> bool:
        """Return true."""
        return True


def columns_of(text: str) -> int:
    """Return how many columns of a terminal a text takes."""
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def test_table_aligns_columns():
    """Texts are aligned to the left, numbers to the right, and null is a dash."""
    rows = [{"name": "a", "jobs": 1, "cost": None}, {"name": "bcdefg", "jobs": 22, "cost": None}]

    assert as_table(rows, ("name", "jobs", "cost")).splitlines() == [
        "NAME    JOBS  COST",
        "a          1  -",
        "bcdefg    22  -",
    ]


def test_table_counts_wide_characters_as_two():
    """A character that takes two columns of a terminal is counted as two."""
    rows = [{"name": "要約", "n": 1}, {"name": "abcd", "n": 2}]

    assert as_table(rows, ("name", "n")).splitlines()[1:] == ["要約  1", "abcd  2"]


def test_table_cuts_long_names_and_ids():
    """Line breaks become spaces, and long names and ids are cut."""
    rows = [{"id": "evt_" + "a" * 52, "name": "one\ntwo " + "x" * 50}]

    line = as_table(rows, ("id", "name")).splitlines()[1]

    assert line == "evt_aaaaaaaaaaaa  one two xxxxxxxxxxxxxxxxxxxxx…"


@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "job_id": st.text(min_size=1, max_size=40),
                "state": st.sampled_from(["FAILED", "RUNNING"]),
                "name": st.none() | st.text(max_size=60),
                "reason": st.none() | st.text(max_size=300),
            }
        ),
        min_size=1,
        max_size=5,
    ),
    columns=st.integers(min_value=60, max_value=200),
)
def test_table_fits_a_terminal(rows, columns: int):
    """Whatever it holds, a table has a line for each row, none wider than the terminal."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        patch.setenv("TERM", "xterm")
        patch.setattr(sys, "stdout", Terminal())
        lines = as_table(rows, ("job_id", "state", "name", "reason")).split("\n")

    plain = [re.sub(r"\x1b\[(?:31|0)m", "", line) for line in lines]
    assert len(lines) == len(rows) + 1
    assert max(map(columns_of, plain)) <= columns


def test_table_colors_states(monkeypatch: pytest.MonkeyPatch):
    """On a terminal a failed job is red, and the columns stay aligned; in a pipe it is plain."""
    rows = [{"state": "FAILED", "n": 1}, {"state": "RUNNING", "n": 2}]
    piped = as_table(rows, ("state", "n"))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys, "stdout", Terminal())

    assert piped.splitlines()[1] == "FAILED   1"
    assert as_table(rows, ("state", "n")).splitlines()[1] == "\x1b[31mFAILED\x1b[0m   1"


def test_json_keeps_every_digit():
    """A decimal is a string in JSON, and characters are not escaped."""
    assert as_json([{"ä": Decimal("0.10")}]) == '[\n  {\n    "ä": "0.10"\n  }\n]'


def test_csv_quotes_and_leaves_null_empty():
    """CSV has a header, quotes where needed, and leaves null empty."""
    rows = [{"name": 'a,"b"', "cost": None, "other": 1}]

    assert as_csv(rows, ("name", "cost")) == 'name,cost\n"a,""b""",'


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "＝", "＠"])  # noqa: RUF001
def test_csv_has_no_formulas(start: str):
    """A text that a spreadsheet would compute is marked as text; a number is not."""
    rows = [{"name": f"{start}cmd|' /C calc'!A0", "n": -1, "cost": Decimal("-0.5")}]

    (row,) = csv.DictReader(io.StringIO(as_csv(rows, ("name", "n", "cost"))))

    assert row == {
        "name": f"'{start}cmd|' /C calc'!A0".replace("\r", "\n"),
        "n": "-1",
        "cost": "-0.5",
    }


def test_tiny_cost_has_no_exponent():
    """A cost of a fraction of a cent is written with all its digits, in JSON and CSV."""
    rows = [{"cost": Decimal("1E-7")}]

    assert json.loads(as_json(rows)) == [{"cost": "0.0000001"}]
    assert as_csv(rows, ("cost",)) == "cost\n0.0000001"


def printed(
    rows: Iterable[dict[str, int]],
    style: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> str:
    """Return what is printed of rows of which two are in memory at once."""
    monkeypatch.setattr(output, "ROWS_AT_ONCE", 2)
    output.print_rows(rows, ("number",), style, empty="None.")
    return capsys.readouterr().out


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_long_list_is_printed_in_portions(
    count: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A list that is printed in portions is one document, whatever its length."""
    rows = [{"number": number} for number in range(count)]
    lines = [str(number) for number in range(count)]

    texts = {
        style: printed(iter(rows), style, capsys, monkeypatch) for style in ("json", "csv", "table")
    }

    assert texts["json"] == as_json(rows) + "\n"
    assert texts["csv"].split() == ["number", *lines]
    assert texts["table"].split() == (["NUMBER", *lines] if rows else ["None."])


def test_list_ends_when_its_reader_has_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    """No further rows of a list are read once its reader has gone; a change is finished."""
    monkeypatch.setattr(output, "ROWS_AT_ONCE", 2)
    monkeypatch.setattr(output, "print_output", lambda _text: False)
    rows = iter([{"number": number} for number in range(9)])

    output.print_rows(rows, ("number",), "csv", empty="")

    assert len([*rows]) == 7
    changes = iter([{"number": number} for number in range(9)])
    assert output.print_all(changes, ("number",), "csv", empty="") == 9

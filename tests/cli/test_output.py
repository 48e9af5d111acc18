"""How rows are printed."""

from decimal import Decimal

from poller.cli.output import as_csv, as_json, as_table


def test_columns_are_aligned():
    """Texts stand to the left, numbers to the right, and nothing is a dash."""
    rows = [{"name": "a", "jobs": 1, "cost": None}, {"name": "bcdefg", "jobs": 22, "cost": None}]

    assert as_table(rows, ("name", "jobs", "cost")).splitlines() == [
        "NAME    JOBS  COST",
        "a          1  -",
        "bcdefg    22  -",
    ]


def test_wide_characters_are_counted_as_such():
    """A character that takes two columns of a terminal is counted as two."""
    rows = [{"name": "要約", "n": 1}, {"name": "abcd", "n": 2}]

    assert as_table(rows, ("name", "n")).splitlines()[1:] == ["要約  1", "abcd  2"]


def test_a_name_cannot_tear_the_table():
    """Line breaks become spaces, a long name is cut, and an id is cut to a usable beginning."""
    rows = [{"id": "evt_" + "a" * 52, "name": "one\ntwo " + "x" * 50}]

    line = as_table(rows, ("id", "name")).splitlines()[1]

    assert line == "evt_aaaaaaaaaaaa  one two xxxxxxxxxxxxxxxxxxxxx…"


def test_json_keeps_every_digit():
    """A decimal is a text in JSON, and letters stay as they are."""
    assert as_json([{"ä": Decimal("0.10")}]) == '[\n  {\n    "ä": "0.10"\n  }\n]'


def test_csv_quotes_and_leaves_null_empty():
    """CSV has a line of names, quotes what needs it, and leaves null empty."""
    rows = [{"name": 'a,"b"', "cost": None, "other": 1}]

    assert as_csv(rows, ("name", "cost")) == 'name,cost\n"a,""b""",'

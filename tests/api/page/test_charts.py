"""The charts: what is drawn of any figures, and that it is safe and readable."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from importlib.resources import files
from typing import Any, Final
from xml.etree.ElementTree import Element, fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.api.page.chart_parts import INTERVALS, MIN_BAR, PLOT, TOP, name_label, nice_ticks
from poller.api.page.charts import MODELS, charts_section
from poller.api.page.markup import Markup, element
from poller.store.figures import DAYS, Figures

TODAY: Final = date(2026, 11, 29)
HOSTILE: Final = (
    "<script>alert(1)</script>",
    "x" * 10_000,
    "</svg>\"'&amp;",
    "\u202eevil\u202c\ud800\x00",
    "",
    " \n\t ",
    "模型" * 500,
    "مرحبا",
    *(f"model-{number}" for number in range(4)),
)
STYLES_AND_SCRIPTS: Final = re.compile("style|on.*|href|src|xlink:.*")


def some_figures(**values: Any) -> Figures:
    """Return figures, empty but for the given ones."""
    empty = {
        "days": [TODAY - timedelta(days=age) for age in reversed(range(DAYS))],
        "has_ends": True,
        "ends": dict.fromkeys(("SUCCEEDED", "FAILED", "CANCELLED"), today(0)),
        "costs": {},
        "unknown_costs": 0,
        "run_times": {},
        "lags": [],
    }
    return Figures(**(empty | values))


def today(value: float) -> Sequence[Any]:
    """Return the values of days of which only the last one has any."""
    return [*[0] * (DAYS - 1), value]


ONE_COST: Final = {
    "ends": {"SUCCEEDED": today(1), "FAILED": today(0), "CANCELLED": today(0)},
    "costs": {"m": today(2.0)},
}


@pytest.mark.parametrize(("budget", "height"), [(4.0, 0.0), (1.0, 0.5)])
def test_budget_is_a_line(budget: float, height: float) -> None:
    """The budget of a day is a line across the costs, also above all of them."""
    drawn = charts_section(some_figures(**ONE_COST, daily_budget=budget))
    (line,) = fromstring(drawn).iterfind(".//line[@class='limit']")

    assert float(line.attrib["y1"]) == pytest.approx(TOP + PLOT * height, abs=0.1)
    assert f"Dashed: the budget of ${budget:.2f} a day." in drawn


def test_no_budget_is_no_line() -> None:
    """Without a budget the costs have no line."""
    drawn = charts_section(some_figures(**ONE_COST))

    assert "limit" not in drawn


ABSURD: Final = some_figures(
    ends={"SUCCEEDED": [10**9] * DAYS, "FAILED": [1] * DAYS, "CANCELLED": today(3)},
    costs={
        name: [(1e9 if (day + row) % 7 == 0 else 1e-9) for day in range(DAYS)]
        for row, name in enumerate(HOSTILE)
    },
    unknown_costs=12_345,
    run_times={name: [0.0, 0.001, 10.0**row, 1e12] for row, name in enumerate(HOSTILE)},
    lags=[0.0, 0.001, 1e12],
)
ONE: Final = some_figures(
    ends=some_figures().ends | {"FAILED": today(1)},
    costs={"m": today(0.25)},
    run_times={"m": [42.0]},
    lags=[3.0],
)


def drawn(figures: Figures) -> Element:
    """Return the section, which must be well-formed."""
    return fromstring(charts_section(figures))


def chart(section: Element, title: str) -> Element:
    """Return the chart with this title."""
    (found,) = (figure for figure in section.iter("figure") if figure.findtext(".//h3") == title)
    return found


def rects(chart: Element, style: str) -> list[Element]:
    """Return the rectangles of a class."""
    return [rect for rect in chart.iter("rect") if rect.get("class") == style]


def words(element: Element) -> str:
    """Return the text of an element."""
    return " ".join(element.itertext())


def rows(chart: Element) -> list[list[str]]:
    """Return the cells of the table of a chart."""
    return [["".join(cell.itertext()) for cell in row] for row in chart.iter("tr")]


@pytest.mark.parametrize("figures", [ABSURD, ONE], ids=["absurd", "one"])
def test_charts_need_no_inline_style_or_script(figures: Figures) -> None:
    """Hostile names stay text, and no attribute has style, script or an address."""
    section = drawn(figures)

    tags = {part.tag for part in section.iter()}
    assert not tags & {"script", "style", "a", "image", "use", "foreignObject"}
    names = {name for part in section.iter() for name in part.attrib}
    assert not [*filter(STYLES_AND_SCRIPTS.fullmatch, names)]
    assert not {"\u202e", "\ud800", "\x00"} & {*words(section)}


def test_hostile_names_are_shown() -> None:
    """A name shows as it is, cut when it is long; without one a model has a plain label."""
    shown = {row[0] for row in rows(chart(drawn(ABSURD), "Run time by model"))}

    assert {"<script>alert(1)</script>", "</svg>\"'&amp;", "evil", "no model"} <= shown
    assert f"{'x' * 35}…" in shown


def test_classes_are_those_of_the_style_sheets() -> None:
    """Every class has a rule."""
    folder = files("poller.api.page").joinpath("static")
    css = "".join(file.read_text() for file in folder.iterdir() if file.name.endswith(".css"))
    known = {*re.findall(r"\.([a-z][\w-]*)", css), "unseen", "detail", "empty"}

    found = {name for part in drawn(ABSURD).iter() for name in part.get("class", "").split()}
    assert found <= known


@pytest.mark.parametrize("figures", [ABSURD, ONE], ids=["absurd", "one"])
def test_each_drawing_is_described(figures: Figures) -> None:
    """A drawing is an image with a title and a description, and has a table beside it."""
    section = drawn(figures)
    ids = Counter(part.get("id") for part in section.iter() if part.get("id"))

    assert set(ids.values()) == {1}
    drawings = [*section.iter("svg")]
    assert len(drawings) == len([*section.iter("table")]) == 4
    for drawing in drawings:
        title, description = drawing[0], drawing[1]
        assert (title.tag, description.tag) == ("title", "desc")
        assert drawing.get("role") == "img"
        assert drawing.get("aria-labelledby") == title.get("id")
        assert drawing.get("aria-describedby") == description.get("id")
        assert words(title)
        assert words(description)


def test_empty_charts_say_so() -> None:
    """Without ends there is one sentence; a chart that has nothing to draw has one of its own."""
    assert "No job has ended yet." in words(drawn(some_figures(has_ends=False)))
    assert "No job has ended in the last 30 days." in words(drawn(some_figures()))
    text = words(drawn(some_figures(lags=[1.0])))
    assert "No job has ended in these days." in text
    assert "No cost is known yet." in text
    assert "No run time is known yet." in text
    ends = some_figures(ends=ONE.ends, unknown_costs=1)
    assert "No detection lag is known yet." in words(drawn(ends))
    assert "Not included: 1 job of unknown cost." in words(drawn(ends))


def test_ends_are_stacked_by_status() -> None:
    """A column has its failures at the bottom, each end as high as the others."""
    ends = {"SUCCEEDED": today(6), "FAILED": today(1), "CANCELLED": today(1)}

    found = chart(drawn(some_figures(ends=ends)), "Jobs ended per day")

    bars = [rects(found, style) for style in ("failed", "cancelled", "succeeded")]
    assert [[float(rect.get("height", "")) for rect in group] for group in bars] == [
        [PLOT / 8],
        [PLOT / 8],
        [PLOT * 6 / 8],
    ]
    assert [float(group[0].get("y", "")) for group in bars] == [
        TOP + PLOT * 7 / 8,
        TOP + PLOT * 6 / 8,
        TOP,
    ]
    assert "29 Nov: failed 1, cancelled 1, succeeded 6" in words(found)
    assert rows(found) == [["Day", "failed", "cancelled", "succeeded"], ["29 Nov", "1", "1", "6"]]


def test_one_failure_shows_among_many_ends() -> None:
    """The smallest bar can be seen."""
    found = chart(drawn(ABSURD), "Jobs ended per day")

    assert {float(rect.get("height", "")) for rect in rects(found, "failed")} == {MIN_BAR}


def test_tables_begin_with_today() -> None:
    """The rows of a table go back in time, without days that have nothing."""
    ends = ONE.ends | {"SUCCEEDED": [5, *[0] * (DAYS - 2), 7]}

    found = rows(chart(drawn(some_figures(ends=ends)), "Jobs ended per day"))

    assert found[1:] == [["29 Nov", "1", "0", "7"], ["31 Oct", "0", "0", "5"]]


def test_many_models_are_summed() -> None:
    """Of many models the cheapest share one color, and their costs are summed."""
    costs = {f"m{number}": today(2.0**-number) for number in range(12)}

    found = chart(drawn(some_figures(lags=[1.0], costs=costs)), "Cost per day by model")

    head, row = rows(found)
    assert head == ["Day", *(f"m{number}" for number in range(MODELS - 1)), "5 other models"]
    assert row[-1] == "$0.0151"
    assert row[1:3] == ["$1.00", "$0.50"]


@pytest.mark.parametrize(
    ("cost", "amount", "highest"),
    [
        (1e-9, "$1e-09", "$1e-09"),
        (0.0625, "$0.0625", "$0.08"),
        (12.5, "$12.50", "$15"),
        (987.65, "$987.65", "$1,000"),
        (3e9, "$3,000,000,000.00", "$3,000M"),
    ],
)
def test_costs_of_any_size_are_readable(cost: float, amount: str, highest: str) -> None:
    """The axis has round costs in few characters, and the legend all digits."""
    found = chart(drawn(some_figures(costs={"m": today(cost)}, lags=[1])), "Cost per day by model")

    ticks = [text.text for text in found.iter("text") if text.get("text-anchor") == "end"]
    assert ticks[0] == "$0"
    assert ticks[-1] == highest
    assert f"m {amount}" in " ".join(words(found).split())


def boxes(run_times: Mapping[str, Sequence[float]]) -> Element:
    """Return the chart of run times."""
    return chart(drawn(some_figures(run_times=run_times)), "Run time by model")


def test_run_times_are_on_a_logarithmic_scale() -> None:
    """Each tenfold time is as far to the right; the table has the exact times."""
    found = boxes({"m": [1.0, 10.0, 100.0, 1_000.0, 10_000.0]})

    (box,) = rects(found, "box")
    right = 21_600.0  # the next tick, 6h
    assert float(box.get("x", "")[:-1]) == pytest.approx(100 / math.log10(right), abs=0.01)
    assert float(box.get("width", "")[:-1]) == pytest.approx(200 / math.log10(right), abs=0.01)
    assert rows(found)[1] == ["m", "5", "1s", "10s", "1m40s", "16m40s", "2h46m"]


def test_run_times_beyond_the_scale_stay_inside() -> None:
    """No time and a thousand years are at the ends of the scale."""
    found = boxes({"m": [0.0, 0.0, 3e10]})

    (whisker,) = (line for line in found.iter("line") if line.get("class") == "whisker")
    assert (whisker.get("x1"), whisker.get("x2")) == ("0%", "100%")


@pytest.mark.parametrize("seconds", [0.0, 1.0, 42.0, 60.0, 3e7, 1e9])
def test_one_run_time_has_a_mark(seconds: float) -> None:
    """A single time is a mark between two labels."""
    found = boxes({"m": [seconds]})

    (median,) = (line for line in found.iter("line") if line.get("class") == "median")
    assert 0.0 <= float(median.get("x1", "")[:-1]) <= 100.0
    assert len([line for line in found.iter("line") if line.get("class") == "grid"]) == 2


def test_median_of_two_is_between_them() -> None:
    """Quarters between two times are interpolated."""
    assert rows(boxes({"m": [10.0, 20.0]}))[1][2:] == ["10s", "12.5s", "15s", "17.5s", "20s"]


def test_models_with_most_run_times_are_shown() -> None:
    """At most eight models have a row; the note says how many have none."""
    found = boxes({f"m{number}": [1.0] * (number + 1) for number in range(12)})

    assert [row[0] for row in rows(found)[1:]] == [f"m{number}" for number in range(11, 3, -1)]
    assert "Not shown: 4 models with fewer jobs." in words(found)


def test_lags_are_counted_in_ranges() -> None:
    """A lag on an edge belongs to the range that begins there; the last range has no end."""
    found = chart(drawn(some_figures(lags=[0.0, 0.999, 1.0, 30.0, 3_600.0, 1e12])), "Detection lag")

    counts = {name: count for name, count in rows(found)[1:] if count != "0"}
    assert counts == {"0 to 1s": "2", "1s to 2s": "1", "30s to 1m": "1", "1h or more": "2"}
    assert "median 15.5s" in words(found)


def test_charts_are_small() -> None:
    """The largest charts leave room on a page of 200 KiB."""
    assert len(charts_section(ABSURD).encode()) < 80 * 1024


@given(st.floats(1e-12, 1e15), st.sampled_from([0.0, 1.0]))
def test_ticks_are_few_and_reach_the_maximum(maximum: float, min_step: float) -> None:
    """Ticks begin at 0, are even, at most five, and the last two enclose the maximum."""
    ticks = nice_ticks(maximum, min_step)

    assert ticks[0] == 0.0
    assert 2 <= len(ticks) <= INTERVALS + 1
    assert ticks[-1] >= maximum * (1 - 1e-9)
    assert ticks[-2] < maximum
    assert ticks[1] >= min_step
    digits = f"{ticks[1]:e}"
    assert digits[0] in "125"
    assert float(digits[1:].partition("e")[0]) == 0.0


@given(st.text())
def test_any_name_is_one_short_line(name: str) -> None:
    """A label has no line break and at most 36 characters."""
    label = name_label(name)

    assert len(label) <= 36
    assert label == " ".join(label.split())


def test_elements_escape_text_and_attributes() -> None:
    """Only markup that was made here is not escaped, also where a template inserts it."""
    made = element("b", "<", element("i", "&"), class_='"')

    assert made == '<b class="&quot;">&lt;<i>&amp;</i></b>'
    assert isinstance(made, Markup)
    assert made.__html__() is made

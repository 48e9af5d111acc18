"""The parts of charts: scales, bars, axes, legends, and tables with the same figures.

Drawings have their width in percent and their height in pixels, so that text keeps its size.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final
from unicodedata import east_asian_width

from poller.api.page.markup import Markup, element
from poller.core.parsing import strip_unprintable

TOP: Final = 12
PLOT: Final = 140
"""The pixels above the bars, and of the highest bar."""
AXIS: Final = 24
"""The pixels for the labels below a drawing."""
MIN_BAR: Final = 1.5
"""Pixels of the smallest bar: one failure among thousands of jobs must show."""
GAP: Final = 0.2
"""The part of a column that is left free."""
INTERVALS: Final = 4
"""The intervals between horizontal lines, at most."""
NAME_CELLS: Final = 36
"""The width of a name, at most; a wide character takes two cells."""


@dataclass(frozen=True, slots=True)
class Series:
    """The values of one color; its style is a class of the style sheet."""

    label: str
    style: str
    values: Sequence[float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """How values are written: an amount in full, a tick of an axis in few characters.

    Ticks are at least `min_step` apart; `empty` says that there are no values.
    """

    amount: Callable[[float], str]
    tick: Callable[[float], str]
    min_step: float = 0.0
    empty: str


Label = tuple[float, str]
"""A text at a place, which is a percentage of the width."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Stacked bars; each column has a hint that shows with a mouse. A limit is a line."""

    series: Sequence[Series]
    hints: Sequence[str]
    labels: Sequence[Label]
    unit: Unit
    limit: float | None = None

    def draw(self) -> Iterator[Markup]:
        """Yield the lines, the columns and the labels."""
        totals = [sum(values) for values in zip(*(row.values for row in self.series), strict=True)]
        ticks = nice_ticks(max(*totals, self.limit or 0.0), self.unit.min_step)
        for tick in ticks:
            y = TOP + PLOT - PLOT * tick / ticks[-1]
            yield line(0, 100, y)
            yield text(-8, y + 4, self.unit.tick(tick), "end", unit="")
        width = 100 / len(totals)
        for number, (total, hint) in enumerate(zip(totals, self.hints, strict=True)):
            if total:
                bars = self._stack(number, width, PLOT / ticks[-1])
                yield element("g", element("title", hint), *bars)
        if self.limit is not None:
            yield line(0, 100, TOP + PLOT - PLOT * self.limit / ticks[-1], style="limit")
        yield from labels(self.labels, self.height)

    @property
    def height(self) -> int:
        """The height in pixels."""
        return TOP + PLOT + AXIS

    def _stack(self, number: int, width: float, scale: float) -> Iterator[Markup]:
        """Yield what the mouse finds of a column, and its bars, the first series at the bottom."""
        yield rect(number * width, width, TOP, PLOT, "column")
        y = float(TOP + PLOT)
        for row in self.series:
            if value := row.values[number]:
                height = max(value * scale, MIN_BAR)
                y -= height
                yield rect((number + GAP / 2) * width, width * (1 - GAP), y, height, row.style)


def nice_ticks(maximum: float, min_step: float = 0.0) -> Sequence[float]:
    """Return few round numbers from 0 to at least the maximum, which is above 0."""
    power = 10.0 ** math.floor(math.log10(maximum / INTERVALS))
    step = next(size for factor in (1, 2, 5, 10) if (size := factor * power) * INTERVALS >= maximum)
    step = max(step, min_step)
    return [step * number for number in range(math.ceil(maximum / step - 1e-9) + 1)]


def number(value: float) -> str:
    """Return a number for SVG."""
    return f"{value:.2f}".rstrip("0").rstrip(".")


def rect(x: float, width: float, y: float, height: float, style: str) -> Markup:
    """Return a rectangle; x and width are percentages."""
    place = {"x": f"{number(x)}%", "width": f"{number(width)}%"}
    return element("rect", class_=style, **place, y=number(y), height=number(height))


def line(x1: float, x2: float, y1: float, y2: float | None = None, style: str = "grid") -> Markup:
    """Return a line, which is horizontal without `y2`."""
    ends = {"x1": f"{number(x1)}%", "x2": f"{number(x2)}%"}
    return element("line", class_=style, **ends, y1=number(y1), y2=number(y1 if y2 is None else y2))


def text(x: float, y: float, content: str, anchor: str = "start", unit: str = "%") -> Markup:
    """Return a text."""
    return element("text", content, x=f"{number(x)}{unit}", y=number(y), text_anchor=anchor)


def labels(places: Sequence[Label], height: float) -> Iterator[Markup]:
    """Yield the labels below a drawing; those at its ends do not stand out."""
    for x, content in places:
        anchor = "start" if x <= 0 else "end" if x >= 100 else "middle"
        yield text(x, height - 6, content, anchor)


def name_label(name: str) -> str:
    """Return a name in one line of a limited width, without control characters."""
    name, width = " ".join(strip_unprintable(name).split()), 0
    for end, character in enumerate(name):
        width += 2 if east_asian_width(character) in "WF" else 1
        if width > NAME_CELLS:
            return f"{name[: end - 1]}…"
    return name


def legend(entries: Sequence[tuple[str, str, str]]) -> Markup:
    """Return a legend of styles, names and values."""
    return element(
        "ul",
        *(
            element("li", element("span", class_=f"swatch {style}"), element("bdi", name), amount)
            for style, name, amount in entries
        ),
        class_="legend",
    )


def table(title: str, head: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    """Return a closed table with the figures of a chart."""
    columns = [element("th", element("bdi", name), scope="col") for name in head]
    body = [
        element(
            "tr",
            element("th", element("bdi", row[0]), scope="row"),
            *(element("td", cell) for cell in row[1:]),
        )
        for row in rows
    ]
    made = element("table", element("thead", element("tr", *columns)), element("tbody", *body))
    summary = element("summary", "Table", element("span", f": {title}", class_="unseen"))
    region = {"class_": "scroll", "role": "region", "aria_label": title, "tabindex": 0}
    return element("details", summary, element("div", made, **region))


def figure(title: str, *children: Markup) -> Markup:
    """Return a chart with its title."""
    return element("figure", element("figcaption", element("h3", title)), *children, class_="chart")


def drawing(
    key: str,
    title: str,
    description: str,
    parts: Iterator[Markup],
    height: int,
    style: str = "plot",
) -> Markup:
    """Return a drawing; `key` makes its ids unique on the page."""
    return element(
        "svg",
        element("title", title, id=f"{key}-title"),
        element("desc", description, id=f"{key}-description"),
        *parts,
        role="img",
        aria_labelledby=f"{key}-title",
        aria_describedby=f"{key}-description",
        class_=style,
        width="100%",
        height=height,
    )

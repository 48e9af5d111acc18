"""The chart of docs/: requests per job against mean and p99 lag, both on log scales.

It has a background of its own, so that it is readable on any page.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from tests.bench.schedules import Figures

CHART: Final = Path(__file__).parents[2] / "docs" / "images" / "lag.svg"
LAGS: Final = {"mean": "mean lag, s", "p99": "p99 lag, s"}

PLOT_WIDTH, PLOT_HEIGHT = 370.0, 330.0
LEFT, TOP, GAP = 60.0, 44.0, 72.0
WIDTH: Final = LEFT + 2 * PLOT_WIDTH + GAP + 20.0
LEGEND_LINE: Final = 20.0
FONT_SIZE: Final = 12.0
CHARACTER_WIDTH: Final = 0.6 * FONT_SIZE
"""An upper bound of the mean width in usual fonts."""
RADIUS: Final = 4.0
TICKS: Final = (1, 2, 5)

INK, FAINT, PAPER = "#1f2328", "#d8dee4", "#ffffff"
STYLES: Final = (
    ("#0550ae", ""),
    ("#953800", ""),
    ("#8250df", ""),
    ("#1a7f37", ""),
    ("#0550ae", "5 4"),
)
"""The colour and the dashes of each line."""


@dataclass(frozen=True, slots=True)
class Line:
    """A rule, and its figures with a label each."""

    name: str
    points: Sequence[tuple[str, Figures]]


class Box(NamedTuple):
    """A rectangle of the chart."""

    left: float
    top: float
    right: float
    bottom: float

    def overlaps(self, other: "Box") -> bool:
        """Return whether two boxes have a point in common."""
        return (
            self.left < other.right
            and other.left < self.right
            and self.top < other.bottom
            and other.top < self.bottom
        )


@dataclass(frozen=True, slots=True)
class Axis:
    """A log scale from one figure to another, drawn between two places."""

    low: float
    high: float
    start: float
    end: float

    @classmethod
    def over(cls, values: Iterable[float], start: float, end: float) -> "Axis":
        """Return a scale that has all values, with some room on both sides."""
        values = list(values)
        return cls(min(values) / 1.5, max(values) * 1.8, start, end)

    def place(self, value: float) -> float:
        """Return where a value is."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> Iterator[float]:
        """The round values on the scale."""
        for power in range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high))):
            for tick in TICKS:
                if self.low <= tick * 10.0**power <= self.high:
                    yield tick * 10.0**power


@dataclass(slots=True)
class Panel:
    """One of the two plots. `occupied` are the boxes of its points, lines and labels."""

    lag: str
    horizontal: Axis
    vertical: Axis
    occupied: list[Box] = field(default_factory=list)

    def spot(self, figures: Figures) -> tuple[float, float]:
        """Return where a point is."""
        lag: float = getattr(figures, self.lag)
        return self.horizontal.place(figures.requests), self.vertical.place(lag)

    def frame(self) -> Iterator[str]:
        """Draw the axes and their ticks."""
        left, right = self.horizontal.start, self.horizontal.end
        bottom, top = self.vertical.start, self.vertical.end
        for tick in self.horizontal.ticks:
            at = self.horizontal.place(tick)
            yield _stroke([(at, bottom), (at, top)], FAINT)
            yield _text(at, bottom + 16, f"{tick:g}", anchor="middle")
        for tick in self.vertical.ticks:
            at = self.vertical.place(tick)
            yield _stroke([(left, at), (right, at)], FAINT)
            yield _text(left - 6, at + 4, f"{tick:g}", anchor="end")
        yield _stroke([(left, top), (left, bottom), (right, bottom)], INK)
        yield _text((left + right) / 2, bottom + 34, "requests per job", anchor="middle")
        yield _text(left, top - 12, LAGS[self.lag], weight="bold")

    def curve(self, line: Line, colour: str, dashes: str) -> Iterator[str]:
        """Draw a line and its points."""
        spots = [self.spot(figures) for _, figures in line.points]
        self.occupied += [dot_box(*spot, RADIUS) for spot in spots]
        if len(spots) > 1:
            yield _stroke(spots, colour, width=2.0, dashes=dashes)
            self.occupied += [
                dot_box(*spot, 1.0) for ends in pairwise(spots) for spot in _along(*ends)
            ]
        for across, down in spots:
            fill = PAPER if dashes else colour
            yield (
                f'<circle cx="{across:.1f}" cy="{down:.1f}" r="{RADIUS:g}"'
                f' fill="{fill}" stroke="{colour}" stroke-width="1.5"/>'
            )

    def labels(self, line: Line, colour: str) -> Iterator[str]:
        """Draw the label of each point where there is room for it, or else leave it out."""
        for text, figures in line.points:
            across, down = self.spot(figures)
            for left, baseline in _candidates(across, down, len(text) * CHARACTER_WIDTH):
                box = text_box(left, baseline, text)
                if self._is_inside(box) and not any(map(box.overlaps, self.occupied)):
                    self.occupied.append(box)
                    yield _text(left, baseline, text, colour=colour)
                    break

    def _is_inside(self, box: Box) -> bool:
        return (
            self.horizontal.start < box.left
            and box.right < self.horizontal.end
            and self.vertical.end < box.top
            and box.bottom < self.vertical.start
        )


def draw(lines: Sequence[Line]) -> str:
    """Return the chart as SVG."""
    height = TOP + PLOT_HEIGHT + 60.0 + LEGEND_LINE * math.ceil(len(lines) / 2)
    fonts = f'font-family="Helvetica, Arial, sans-serif" font-size="{FONT_SIZE:g}"'
    label = 'role="img" aria-label="Requests per job against mean and p99 lag"'
    size = f'viewBox="0 0 {WIDTH:g} {height:g}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {fonts} {label}>',
        f'<rect width="{WIDTH:g}" height="{height:g}" rx="6" fill="{PAPER}"/>',
    ]
    for number, lag in enumerate(LAGS):
        parts += _panel(lines, lag, LEFT + number * (PLOT_WIDTH + GAP))
    parts += _legend(lines, TOP + PLOT_HEIGHT + 62.0)
    return "\n".join([*parts, "</svg>", ""])


def write(lines: Sequence[Line]) -> None:
    """Draw the chart into docs/."""
    CHART.write_text(draw(lines), "utf-8")


def _panel(lines: Sequence[Line], lag: str, left: float) -> Iterator[str]:
    every = [figures for line in lines for _, figures in line.points]
    panel = Panel(
        lag,
        Axis.over((figures.requests for figures in every), left, left + PLOT_WIDTH),
        Axis.over((getattr(figures, lag) for figures in every), TOP + PLOT_HEIGHT, TOP),
    )
    yield from panel.frame()
    styled = list(zip(lines, STYLES, strict=True))
    for line, (colour, dashes) in styled:
        yield from panel.curve(line, colour, dashes)
    for line, (colour, _) in styled:
        yield from panel.labels(line, colour)


def _legend(lines: Sequence[Line], top: float) -> Iterator[str]:
    for number, (line, (colour, dashes)) in enumerate(zip(lines, STYLES, strict=True)):
        left = LEFT + (number % 2) * (PLOT_WIDTH + GAP)
        down = top + LEGEND_LINE * (number // 2)
        yield _stroke([(left, down), (left + 24, down)], colour, width=2.0, dashes=dashes)
        yield _text(left + 32, down + 4, line.name)


def dot_box(across: float, down: float, radius: float) -> Box:
    """Return the box of a dot."""
    return Box(across - radius, down - radius, across + radius, down + radius)


def text_box(left: float, baseline: float, text: str) -> Box:
    """Return the box of a text."""
    right = left + len(text) * CHARACTER_WIDTH
    return Box(left, baseline - 0.8 * FONT_SIZE, right, baseline + 0.25 * FONT_SIZE)


def _along(start: tuple[float, float], end: tuple[float, float]) -> Iterator[tuple[float, float]]:
    """Return places on a straight line, close to each other."""
    steps = math.ceil(math.dist(start, end) / 2.0)
    for step in range(1, steps):
        share = step / steps
        yield start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1])


def _candidates(across: float, down: float, width: float) -> Iterator[tuple[float, float]]:
    """Return where the label of a point may begin, the best place first."""
    for far in (RADIUS + 3, RADIUS + 12):
        yield across + far, down + 4
        yield across - width / 2, down - far
        yield across - width / 2, down + far + 8
        yield across - far - width, down + 4
        yield across + far, down - far
        yield across - far - width, down + far + 8


def _text(
    left: float,
    baseline: float,
    text: str,
    *,
    anchor: str = "start",
    weight: str = "normal",
    colour: str = INK,
) -> str:
    place = f'x="{left:.1f}" y="{baseline:.1f}" text-anchor="{anchor}"'
    return f'<text {place} font-weight="{weight}" fill="{colour}">{escape(text)}</text>'


def _stroke(
    spots: Sequence[tuple[float, float]], colour: str, *, width: float = 1.0, dashes: str = ""
) -> str:
    path = " ".join(f"{across:.1f},{down:.1f}" for across, down in spots)
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    return (
        f'<polyline points="{path}" fill="none" stroke="{colour}"'
        f' stroke-width="{width:g}"{dashed}/>'
    )

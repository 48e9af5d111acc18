"""The charts of the last days, as SVG: ends, costs, run times and detection lag."""

import math
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

from poller.api.page import chart_parts as parts
from poller.api.page.chart_parts import Columns, Label, Series, Unit
from poller.api.page.markup import Markup, element
from poller.core.formatting import format_cost, format_count, format_duration
from poller.core.job_status import JobStatus
from poller.store.figures import Figures

DAYS_PER_LABEL: Final = 7
MODELS: Final = 8
"""The models with a color or a row of their own, at most."""
STATUSES: Final = (JobStatus.FAILED, JobStatus.CANCELLED, JobStatus.SUCCEEDED)
"""From the bottom up: failures begin at the same height on each day."""
SMALLEST_COST: Final = 1e-4
"""US dollars below which a cost has an exponent."""
MILLION: Final = 1e6

TIME_TICKS: Final = (
    (1.0, "≤1s"),
    (10.0, "10s"),
    (60.0, "1m"),
    (600.0, "10m"),
    (3_600.0, "1h"),
    (21_600.0, "6h"),
    (86_400.0, "1d"),
    (604_800.0, "1w"),
    (2_592_000.0, "30d"),
    (31_536_000.0, "≥1y"),
)
"""Seconds on the logarithmic scale of run times."""
LAG_EDGES: Final = (
    (0.0, "0"),
    (1.0, "1s"),
    (2.0, "2s"),
    (5.0, "5s"),
    (10.0, "10s"),
    (30.0, "30s"),
    (60.0, "1m"),
    (300.0, "5m"),
    (3_600.0, "1h"),
)
"""Where each bar of the lags begins, in seconds."""
ROW: Final = 40
"""Pixels for the name and the box of a model."""


QUARTERS: Final = ("Shortest", "25 %", "Median", "75 %", "Longest")


@dataclass(frozen=True, slots=True)
class Box:
    """The run times of a model: how many, and the seconds of each of QUARTERS."""

    label: str
    jobs: int
    seconds: Sequence[float]

    @classmethod
    def of(cls, label: str, seconds: Sequence[float]) -> Self:
        """Return the box of these times, of which there is at least one."""
        ordered = sorted(seconds)
        return cls(label, len(ordered), [_quantile(ordered, quarter / 4) for quarter in range(5)])

    @property
    def cells(self) -> Sequence[str]:
        """The cells of a table."""
        return [self.label, f"{self.jobs:,}", *map(format_duration, self.seconds)]

    @property
    def in_words(self) -> str:
        """The times as a text."""
        times = zip(QUARTERS, map(format_duration, self.seconds), strict=True)
        words = ", ".join(f"{name.lower()} {time}" for name, time in times)
        return f"{self.label}: {format_count(self.jobs, 'job')}, {words}"


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of the values is, between two of them if need be."""
    place = share * (len(ordered) - 1)
    low, high = ordered[math.floor(place)], ordered[math.ceil(place)]
    return low + (high - low) * (place % 1)


def _cost(dollars: float) -> str:
    """Return a cost; one that is too small for its digits with an exponent."""
    return f"${dollars:.3g}" if dollars < SMALLEST_COST else format_cost(dollars)


def _short_cost(dollars: float) -> str:
    """Return a round cost in few characters."""
    value, unit = (dollars / MILLION, "M") if dollars >= MILLION else (dollars, "")
    return f"${value:,.0f}{unit}" if value >= 100 else f"${value:.3g}{unit}"


def _count(number: float) -> str:
    return f"{number:,.0f}"


COST: Final = Unit(amount=_cost, tick=_short_cost, empty="No cost is known yet.")
WHOLE: Final = Unit(
    amount=_count, tick=_count, min_step=1.0, empty="No job has ended in these days."
)


def charts_section(figures: Figures) -> Markup:
    """Return the section of all charts; page.css has its classes."""
    is_empty = not (any(map(any, figures.ends.values())) or figures.run_times or figures.lags)
    if is_empty:
        when = "in the last 30 days" if figures.has_ends else "yet"
        content = _empty(f"No job has ended {when}.")
    else:
        charts = (_ends(figures), _costs(figures), _run_times(figures), _lags(figures))
        content = element("div", *charts, class_="charts")
    heading = element("h2", "Last 30 days (UTC)", id="charts-title")
    return element("section", heading, content, id="charts", aria_labelledby="charts-title")


def _ends(figures: Figures) -> Markup:
    series = [Series(status.lower(), status.lower(), figures.ends[status]) for status in STATUSES]
    return _daily(figures, "ends", "Jobs ended per day", series, WHOLE)


def _costs(figures: Figures) -> Markup:
    unknown = format_count(figures.unknown_costs, "job")
    notes = [_note(f"Not included: {unknown} of unknown cost.")] if figures.unknown_costs else []
    if limit := figures.daily_budget:
        notes.append(_note(f"Dashed: the budget of {_cost(limit)} a day."))
    title = "Cost per day by model"
    return _daily(figures, "costs", title, _models(figures.costs), COST, notes, limit=limit)


def _daily(
    figures: Figures,
    key: str,
    title: str,
    series: Sequence[Series],
    unit: Unit,
    notes: Sequence[Markup] = (),
    *,
    limit: float | None = None,
) -> Markup:
    """Return a chart with a column for each day."""
    totals = [(row, sum(row.values)) for row in series]
    if not any(total for _, total in totals):
        return parts.figure(title, _empty(unit.empty), *notes)
    days = [f"{day.day} {day:%b}" for day in figures.days]
    columns = Columns(
        series=series,
        hints=[f"{day}: {_amounts(series, number, unit)}" for number, day in enumerate(days)],
        labels=_day_labels(days),
        unit=unit,
        limit=limit,
    )
    in_words = ", ".join(f"{row.label} {unit.amount(total)}" for row, total in totals if total)
    rows = [
        [day, *(unit.amount(row.values[number]) for row in series)]
        for number, day in reversed([*enumerate(days)])
        if any(row.values[number] for row in series)
    ]
    legend = [(row.style, row.label, unit.amount(total)) for row, total in totals]
    return parts.figure(
        title,
        parts.drawing(key, title, f"In all: {in_words}.", columns.draw(), columns.height),
        parts.legend(legend),
        *notes,
        parts.table(title, ["Day", *(row.label for row in series)], rows),
    )


def _run_times(figures: Figures) -> Markup:
    title = "Run time by model"
    if not figures.run_times:
        return parts.figure(title, _empty("No run time is known yet."))
    shown = sorted(figures.run_times.items(), key=lambda pair: -len(pair[1]))[:MODELS]
    boxes = [Box.of(_model_label(model), seconds) for model, seconds in shown]
    ticks = _time_ticks(boxes)
    height = ROW * len(boxes) + parts.AXIS
    in_words = "; ".join(box.in_words for box in boxes)
    notes = ["Line: shortest to longest. Box: the middle half. Mark: median."]
    if omitted := len(figures.run_times) - len(boxes):
        notes.append(f"Not shown: {format_count(omitted, 'model')} with fewer jobs.")
    return parts.figure(
        title,
        parts.drawing(
            "run-times", title, in_words, _draw_boxes(boxes, ticks, height), height, "wide"
        ),
        _note(" ".join(notes)),
        parts.table(title, ["Model", "Jobs", *QUARTERS], [box.cells for box in boxes]),
    )


def _draw_boxes(boxes: Sequence[Box], ticks: Sequence[Label], height: int) -> Iterator[Markup]:
    lowest, highest = (math.log(ticks[end][0]) for end in (0, -1))

    def place(seconds: float) -> float:
        exponent = math.log(max(seconds, ticks[0][0]))
        return 100 * min((exponent - lowest) / (highest - lowest), 1.0)

    for tick, _ in ticks:
        yield parts.line(place(tick), place(tick), 0, height - parts.AXIS)
    for number, box in enumerate(boxes):
        y = ROW * number
        low, first, median, third, high = map(place, box.seconds)
        yield element(
            "g",
            element("title", box.in_words),
            parts.rect(0, 100, y, ROW, "column"),
            parts.text(0, y + 14, box.label),
            parts.text(100, y + 14, f"median {format_duration(box.seconds[2])}", "end"),
            parts.line(low, high, y + 27, style="whisker"),
            parts.rect(first, third - first, y + 21, 12, "box"),
            parts.line(median, median, y + 19, y + 35, "median"),
        )
    yield from parts.labels([(place(tick), name) for tick, name in ticks], height)


def _time_ticks(boxes: Sequence[Box]) -> Sequence[Label]:
    """Return the ticks from the shortest to the longest time, at least two."""
    ticks = [tick for tick, _ in TIME_TICKS]
    low = min(box.seconds[0] for box in boxes)
    high = max(box.seconds[-1] for box in boxes)
    first = min(max(bisect_right(ticks, low) - 1, 0), len(ticks) - 2)
    last = max(bisect_left(ticks, high), first + 1)
    return TIME_TICKS[first : last + 1]


def _lags(figures: Figures) -> Markup:
    title = "Detection lag"
    if not figures.lags:
        return parts.figure(title, _empty("No detection lag is known yet."))
    edges = [edge for edge, _ in LAG_EDGES]
    counts = Counter(bisect_right(edges, lag) - 1 for lag in figures.lags)
    values = [counts[number] for number in range(len(edges))]
    names = [name for _, name in LAG_EDGES]
    ranges = [*(" to ".join(pair) for pair in pairwise(names)), f"{names[-1]} or more"]
    columns = Columns(
        series=[Series("ends", "lag", values)],
        hints=[f"{name}: {format_count(n, 'job')}" for name, n in zip(ranges, values, strict=True)],
        labels=[(100 * number / len(names), name) for number, name in enumerate(names)],
        unit=WHOLE,
    )
    box = Box.of("", figures.lags)
    _, _, median, _, longest = map(format_duration, box.seconds)
    in_words = (
        f"From the end of a job to its detection: median {median}, longest {longest},"
        f" newest {format_count(box.jobs, 'job')}."
    )
    return parts.figure(
        title,
        parts.drawing("lags", title, in_words, columns.draw(), columns.height),
        _note(in_words),
        parts.table(title, ["Lag", "Jobs"], [*zip(ranges, map(str, values), strict=True)]),
    )


def _models(costs: Mapping[str, Sequence[float]]) -> Sequence[Series]:
    """Return the costs of each model, the largest first; of many models the last ones summed."""
    found = sorted(costs.items(), key=lambda pair: -sum(pair[1]))
    own = found if len(found) <= MODELS else found[: MODELS - 1]
    series = [
        Series(_model_label(model), f"model-{number}", values)
        for number, (model, values) in enumerate(own, 1)
    ]
    if others := found[len(own) :]:
        sums = [sum(values) for values in zip(*(values for _, values in others), strict=True)]
        series.append(Series(f"{len(others)} other models", f"model-{MODELS}", sums))
    return series


def _model_label(model: str) -> str:
    return parts.name_label(model) or "no model"


def _amounts(series: Sequence[Series], number: int, unit: Unit) -> str:
    """Return the values of one column in words."""
    found = [(row.label, row.values[number]) for row in series if row.values[number]]
    return ", ".join(f"{label} {unit.amount(value)}" for label, value in found)


def _day_labels(days: Sequence[str]) -> Sequence[Label]:
    """Return a label for today and each week before, below the columns."""
    shown = range(len(days) - 1, 0, -DAYS_PER_LABEL)
    return [(100 * (number + 0.5) / len(days), days[number]) for number in shown]


def _empty(text: str) -> Markup:
    return element("p", text, class_="empty")


def _note(text: str) -> Markup:
    return element("p", text, class_="detail")

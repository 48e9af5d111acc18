"""Durations in settings, such as `30s` or `1h30m`, and their limits."""

import re
from typing import Annotated, Final

from pydantic import AfterValidator, BeforeValidator

UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
MAX_DURATION: Final = 36_500 * UNITS["d"]
"""A century: dates that far away still exist."""
_NUMBER: Final = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION: Final = re.compile("".join(rf"(?:{_NUMBER}{unit}(?![a-z]))?" for unit in UNITS))


def parse_duration(value: object) -> object:
    """Return the seconds of a duration such as `30`, `500ms` or `1h30m`. Raises ValueError."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(_NUMBER, value):
        return _limit(float(value))
    parts = _DURATION.fullmatch(value)
    if not value or not parts:
        raise ValueError("must be a duration such as 30s, 500ms, 5m or 1h30m")
    counts = map(float, parts.groups("0"))
    return _limit(sum(n * unit for n, unit in zip(counts, UNITS.values(), strict=True)))


def at_most(limit: float) -> AfterValidator:
    """Return a validator of a duration, whose message has the limit as users write it."""
    return AfterValidator(lambda seconds: _limit(seconds, limit))


def at_least(limit: float) -> AfterValidator:
    """Return a validator of a duration, whose message has the limit as users write it."""

    def check(seconds: float) -> float:
        if seconds < limit:
            raise ValueError(f"must be {_duration_text(limit)} or more")
        return seconds

    return AfterValidator(check)


def _limit(seconds: float, limit: float = MAX_DURATION) -> float:
    if seconds > limit:
        raise ValueError(f"must be {_duration_text(limit)} or less")
    return seconds


def _duration_text(seconds: float) -> str:
    """Return a duration in the largest unit of which it is a whole number."""
    unit, size = next((unit, size) for unit, size in UNITS.items() if seconds % size == 0)
    return f"{seconds / size:g}{unit}"


Duration = Annotated[float, BeforeValidator(parse_duration)]

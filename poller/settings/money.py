"""Types of the settings about costs."""

import re
from decimal import Decimal
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from poller.settings.types import parse_list

OFF: Final = "off"
DOLLARS: Final = re.compile(r"\$?([0-9]{1,9}(?:\.[0-9]{1,9})?)")
PERCENTAGE: Final = re.compile(r"([0-9]{1,4}(?:\.[0-9]{1,3})?)%?")


def _parse_off(value: object) -> object:
    """Return None for `off`."""
    return None if isinstance(value, str) and value.lower() == OFF else value


def _parse_dollars(value: object) -> object:
    if not isinstance(value, str):
        return value
    number = DOLLARS.fullmatch(value)
    if not number or not Decimal(number[1]):
        raise ValueError("must be an amount of US dollars above 0, such as 100 or 99.50")
    return Decimal(number[1])


def _parse_percentages(value: object) -> object:
    """Return percentages, the lowest first."""
    if not isinstance(value, str):
        return value
    words = parse_list(value)
    found = [PERCENTAGE.fullmatch(word) for word in words] if isinstance(words, tuple) else []
    parts = {Decimal(number[1]) for number in found if number}
    if None in found or Decimal(0) in parts:
        raise ValueError("must be percentages above 0, such as 50%,80%,100%")
    return tuple(sorted(parts))


CostFactor = Annotated[
    Annotated[float, Field(ge=1, allow_inf_nan=False)] | None, BeforeValidator(_parse_off)
]
Dollars = Annotated[Decimal, BeforeValidator(_parse_dollars)]
Percentages = Annotated[tuple[Decimal, ...], BeforeValidator(_parse_percentages)]

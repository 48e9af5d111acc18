"""The type of a setting that is a time of day."""

import re
from datetime import time
from typing import Annotated, Final

from pydantic import BeforeValidator

HOUR_AND_MINUTE: Final = re.compile("([01]?[0-9]|2[0-3]):([0-5][0-9])")


def parse_time_of_day(value: object) -> object:
    """Return a time of day such as `08:00`. Raises ValueError."""
    if not isinstance(value, str):
        return value
    found = HOUR_AND_MINUTE.fullmatch(value)
    if not found:
        raise ValueError("must be a time of day such as 08:00, from 00:00 to 23:59")
    return time(int(found[1]), int(found[2]))


TimeOfDay = Annotated[time, BeforeValidator(parse_time_of_day)]

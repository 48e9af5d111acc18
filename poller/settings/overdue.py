"""The type of the settings about overdue jobs."""

import math
from typing import Annotated, Final

from pydantic import BeforeValidator, Field

from poller.settings.durations import parse_duration

AUTO: Final = "auto"
OFF: Final = "off"


def _parse(value: object) -> object:
    """Return None for `auto`, infinity for `off`."""
    if isinstance(value, str) and value.strip().lower() in {AUTO, OFF}:
        return None if value.strip().lower() == AUTO else math.inf
    try:
        return parse_duration(value)
    except ValueError:
        raise ValueError("must be auto, off, or a duration such as 10m or 1h30m") from None


OverdueLimit = Annotated[
    Annotated[float, Field(gt=0, allow_inf_nan=True)] | None, BeforeValidator(_parse)
]

"""Types of the settings about costs."""

from typing import Annotated, Final

from pydantic import BeforeValidator, Field

OFF: Final = "off"


def _parse_off(value: object) -> object:
    """Return None for `off`."""
    return None if isinstance(value, str) and value.lower() == OFF else value


CostFactor = Annotated[
    Annotated[float, Field(ge=1, allow_inf_nan=False)] | None, BeforeValidator(_parse_off)
]

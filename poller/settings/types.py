"""Types of settings: how the text of a variable becomes a duration, a list or a URL."""

import json
import re
from typing import Annotated, Final
from urllib.parse import urlsplit

from pydantic import BeforeValidator

PRINTABLE: Final = re.compile(r"[!-~]+")
UNITS: Final = {"d": 86_400.0, "h": 3_600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_NUMBER: Final = r"([0-9]{1,9}(?:\.[0-9]{1,9})?)"
_DURATION: Final = re.compile("".join(rf"(?:{_NUMBER}{unit}(?![a-z]))?" for unit in UNITS))


def parse_duration(value: object) -> object:
    """Read a duration such as `30`, `500ms` or `1h30m` as seconds."""
    if not isinstance(value, str):
        return value
    if re.fullmatch(_NUMBER, value):
        return float(value)
    parts = _DURATION.fullmatch(value)
    if not value or not parts:
        raise ValueError("must be a duration such as 30s, 500ms, 5m or 1h30m")
    return sum(float(n) * unit for n, unit in zip(parts.groups("0"), UNITS.values(), strict=True))


def parse_list(value: object) -> object:
    """Read a list parted by commas or white space, or in JSON; each word counts once."""
    if not isinstance(value, str):
        return value
    if value.startswith("["):
        items = _json_list(value)
    else:
        items = [it for it in re.split(r"[,\s]+", value) if it]
    if not items:
        raise ValueError("must name at least one")
    return tuple(dict.fromkeys(items))


def _json_list(text: str) -> list[str]:
    try:
        items = json.loads(text)
    except (ValueError, RecursionError):
        items = None
    if not isinstance(items, list) or not all(isinstance(it, str) and it for it in items):
        raise ValueError('must be a list of texts, such as a,b or ["a", "b"]')
    return items


Duration = Annotated[float, BeforeValidator(parse_duration)]


StringList = Annotated[tuple[str, ...], BeforeValidator(parse_list)]


def validate_http_url(url: str) -> None:
    """Raise ValueError unless a text is an http or https URL with a host."""
    try:
        parts = urlsplit(url)
        is_whole = parts.scheme in {"http", "https"} and parts.hostname and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or not PRINTABLE.fullmatch(url):
        # What urlsplit says of a URL would repeat the URL.
        raise ValueError("must be a URL such as https://host or http://host:port")

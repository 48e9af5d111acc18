"""Remove secrets from log events, in every form in which they may appear."""

import base64
import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final
from urllib.parse import quote, quote_plus

from structlog.typing import EventDict, Processor, WrappedLogger

Secrets = Callable[[], Iterable[str]]
"""Gives every text that must not be seen, as of now."""


MASK: Final = "****"
MIN_SECRET_CHARS: Final = 4
"""A shorter secret is no secret, and striking it out would make lines unreadable."""


LEADING_KEYS: Final = ("timestamp", "level", "event")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Strike every secret out of a text."""
    return _pattern(tuple(secrets)).sub(MASK, text)


def redacting_processor(secrets: Secrets) -> Processor:
    """Return a structlog processor that redacts every value of an event, leading keys first."""

    def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        pattern = _pattern(tuple(secrets()))
        keys = (
            *(key for key in LEADING_KEYS if key in event),
            *(key for key in event if key not in LEADING_KEYS),
        )
        return {key: _redact_value(event[key], pattern) for key in keys}

    return redact_event


def _redact_value(value: object, pattern: re.Pattern[str]) -> Any:
    """Strike secrets out of a value of any depth. What JSON does not know becomes its `repr`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {
            _redact_value(str(key), pattern): _redact_value(it, pattern)
            for key, it in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(it, pattern) for it in value]
    return pattern.sub(MASK, value if isinstance(value, str) else repr(value))


@lru_cache(maxsize=1)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str]:
    forms = {form for it in secrets if len(it) >= MIN_SECRET_CHARS for form in _encodings(it)}
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _encodings(secret: str) -> set[str]:
    """Give the ways in which a secret may stand in a text."""
    encoded = secret.encode()
    based = (base64.b64encode(encoded), base64.urlsafe_b64encode(encoded))
    return {
        secret,
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        *(it.decode().rstrip("=") for it in based),
    }

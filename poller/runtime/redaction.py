"""Remove secrets from log events, in every form in which they may appear."""

import base64
import json
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, quote_plus, unquote

from poller.core.parsing import strip_unprintable

if TYPE_CHECKING:  # importing structlog takes longer than a command that only reads
    from structlog.typing import EventDict, Processor, WrappedLogger

Secrets = Callable[[], Iterable[str]]
"""Returns every text that no output may contain, as of now."""

MASK: Final = "****"
MIN_SECRET_CHARS: Final = 4
"""Shorter texts are not redacted: that would make lines unreadable."""

REASON_CHARS: Final = 1_000
"""Characters of an error's line that are logged and stored."""
REDACTED_CHARS: Final = 100_000
"""Characters of an error that are searched for secrets. The rest is cut off before."""

LEADING_KEYS: Final = ("timestamp", "level", "event")


def redact(text: str, secrets: Iterable[str]) -> str:
    """Return a text with every secret masked."""
    return _pattern(tuple(secrets)).sub(MASK, text)


def safe_line(text: str, secrets: Secrets) -> str:
    """Return the text of an error as one short line without secrets."""
    # Redact before the final cut: half a secret would not be found.
    redacted = redact(text[:REDACTED_CHARS], secrets())
    return " ".join(strip_unprintable(redacted).split())[:REASON_CHARS]


def redacting_processor(secrets: Secrets) -> "Processor":
    """Return a structlog processor that redacts every value of an event, leading keys first."""

    def redact_event(_logger: "WrappedLogger", _method: str, event: "EventDict") -> "EventDict":
        pattern = _pattern(tuple(secrets()))
        ordered = {key: event[key] for key in LEADING_KEYS if key in event} | dict(event)
        return {key: _redact_value(value, pattern) for key, value in ordered.items()}

    return redact_event


def _redact_value(value: object, pattern: re.Pattern[str]) -> Any:
    """Return a value of any depth with secrets masked; unknown types become their `repr`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {
            _redact_value(str(key), pattern): _redact_value(item, pattern)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple | set | frozenset):
        return [_redact_value(item, pattern) for item in value]
    return pattern.sub(MASK, value if isinstance(value, str) else repr(value))


@lru_cache(maxsize=1)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str]:
    long_enough = (secret for secret in secrets if len(secret) >= MIN_SECRET_CHARS)
    forms = {form for secret in long_enough for form in _encodings(secret)}
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _encodings(secret: str) -> set[str]:
    """Return the forms in which a secret may appear in a text."""
    encoded = secret.encode()
    in_base64 = (base64.b64encode(encoded), base64.urlsafe_b64encode(encoded))
    return {
        secret,
        unquote(secret),
        quote(secret),
        quote(secret, safe=""),
        quote_plus(secret),
        repr(secret)[1:-1],
        json.dumps(secret)[1:-1],
        *(form.decode().rstrip("=") for form in in_base64),
    }

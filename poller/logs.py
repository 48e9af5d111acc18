"""The log: one object a line, on one stream, with every secret struck out.

A module says `log: FilteringBoundLogger = structlog.get_logger()` and then names what happened and
gives keys: `log.info("job.changed", job_id=..., before=..., after=...)`.
"""

import base64
import json
import logging
import re
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final, TextIO, cast
from urllib.parse import quote, quote_plus

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, Processor, WrappedLogger

from poller.output import Output

Secrets = Callable[[], Iterable[str]]
"""Gives every text that must not be seen, as of now."""

STRUCK: Final = "****"
SHORTEST: Final = 4
"""A shorter secret is no secret, and striking it out would make lines unreadable."""
FIRST: Final = ("timestamp", "level", "event")


def configure(level: str, style: str, *, stream: TextIO | Output, secrets: Secrets) -> None:
    """Send all logs of this process, those of libraries too, to one stream.

    `style` is `json`, `console`, or `auto`: console on a terminal.
    """
    is_console = style == "console" or (style == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            _striking(secrets),
            _console(stream) if is_console else structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stream)),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_Lines()], level=level.upper(), force=True)


def is_console() -> bool:
    """Tell whether lines are written for people."""
    return isinstance(structlog.get_config()["processors"][-1], structlog.dev.ConsoleRenderer)


def strike(text: str, secrets: Iterable[str]) -> str:
    """Strike every secret out of a text."""
    return _pattern(tuple(secrets)).sub(STRUCK, text)


class _Lines(logging.Handler):
    """Writes what libraries log through the same processors."""

    def emit(self, record: logging.LogRecord) -> None:
        log: FilteringBoundLogger = structlog.get_logger()
        log.log(
            min(record.levelno // 10 * 10, logging.CRITICAL),
            record.getMessage(),
            logger=record.name,
            exc_info=record.exc_info,
        )


def _console(stream: TextIO | Output) -> Processor:
    # The pretty tracebacks of the library would print local variables.
    return structlog.dev.ConsoleRenderer(
        colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback, sort_keys=False
    )


def _striking(secrets: Secrets) -> Processor:
    def strike(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        pattern = _pattern(tuple(secrets()))
        keys = (
            *(key for key in FIRST if key in event),
            *(key for key in event if key not in FIRST),
        )
        return {key: _struck(event[key], pattern) for key in keys}

    return strike


def _struck(value: object, pattern: re.Pattern[str]) -> Any:
    """Strike secrets out of a value of any depth. What JSON does not know becomes its `repr`."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, dict):
        return {_struck(str(key), pattern): _struck(it, pattern) for key, it in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_struck(it, pattern) for it in value]
    return pattern.sub(STRUCK, value if isinstance(value, str) else repr(value))


@lru_cache(maxsize=1)
def _pattern(secrets: tuple[str, ...]) -> re.Pattern[str]:
    forms = {form for it in secrets if len(it) >= SHORTEST for form in _forms(it)}
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _forms(secret: str) -> set[str]:
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

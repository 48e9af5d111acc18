"""The log: one short JSON object per line, on one stream, with every secret masked.

A module gets its logger by `log = structlog.get_logger()`, and logs an event name with keys:
`log.info("job.changed", job_id=..., before=..., after=...)`.
"""

import json
import logging
from collections.abc import Mapping
from typing import Any, Final, TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from poller.runtime.console import ConsoleRenderer, has_color
from poller.runtime.redaction import LEADING_KEYS, Secrets, redacting_processor
from poller.runtime.stdout import NonBlockingStdout

LINE_BYTES_CAP: Final = 16_384
"""The bytes of a line with its line break: container engines cut longer lines."""
TEXT_CHARS: Final = (4_000, 1_000, 250)
"""To how many characters the texts of a line that is too long are cut, in turn."""


def configure(
    level: str, style: str, *, stream: TextIO | NonBlockingStdout, secrets: Secrets
) -> None:
    """Send all logs of this process and its libraries to one stream.

    `style` is `json`, `console`, or `auto`: console on a terminal.
    """
    is_console = style == "console" or (style == "auto" and stream.isatty())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            *(() if is_console else (structlog.processors.TimeStamper(fmt="iso", utc=True),)),
            structlog.processors.format_exc_info,
            redacting_processor(secrets),
            ConsoleRenderer(is_colored=has_color(stream)) if is_console else _render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(cast("TextIO", stream)),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(handlers=[_StdlibHandler()], level=level.upper(), force=True)


def render_line(event: Mapping[str, Any]) -> str:
    """Return a log event as JSON below LINE_BYTES_CAP; `truncated` says that it was cut."""
    line = _dump(event)
    for chars in TEXT_CHARS:
        if _is_short(line):
            return line
        line = _dump(_cut(event, chars) | {"truncated": True})
    if _is_short(line):
        return line
    leading = {key: event[key] for key in LEADING_KEYS if key in event}
    return _dump(_cut(leading, TEXT_CHARS[-1]) | {"truncated": True})


def log_to_stdlib() -> None:
    """Send log events to the standard library's loggers, and to no handler without a choice.

    Without this a program that has not configured structlog would get them on its stdout.
    """
    logging.getLogger("poller").addHandler(logging.NullHandler())
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            structlog.processors.format_exc_info,
            structlog.processors.KeyValueRenderer(key_order=["event"]),
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
    )


def console() -> ConsoleRenderer | None:
    """Return what formats log lines for people; None where lines are JSON."""
    renderer = structlog.get_config()["processors"][-1]
    return renderer if isinstance(renderer, ConsoleRenderer) else None


class _StdlibHandler(logging.Handler):
    """Sends the logs of libraries through the same processors."""

    def emit(self, record: logging.LogRecord) -> None:
        log: FilteringBoundLogger = structlog.get_logger()
        log.log(
            min(record.levelno // 10 * 10, logging.CRITICAL),
            record.getMessage(),
            logger=record.name,
            exc_info=record.exc_info,
        )


def _render(_logger: WrappedLogger, _method: str, event: EventDict) -> str:
    return render_line(event)


def _dump(event: Mapping[str, Any]) -> str:
    return json.dumps(event, ensure_ascii=False)


def _is_short(line: str) -> bool:
    return len(line.encode(errors="surrogatepass")) < LINE_BYTES_CAP - 1


def _cut(value: Any, chars: int) -> Any:
    """Return a JSON value whose texts have about `chars` characters at most, without a middle."""
    if isinstance(value, str) and len(value) > chars:
        return f"{value[: chars // 2]} … {value[-chars // 2 :]}"
    if isinstance(value, Mapping):
        return {key: _cut(item, chars) for key, item in value.items()}
    return [_cut(item, chars) for item in value] if isinstance(value, list) else value

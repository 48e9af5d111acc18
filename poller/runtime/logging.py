"""The log: one short JSON object per line, on one stream, with every secret masked.

A module gets its logger by `log = structlog.get_logger()`, and logs an event name with keys:
`log.info("job.changed", job_id=..., before=..., after=...)`.
"""

import logging
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

from poller.runtime.console import ConsoleRenderer, has_color
from poller.runtime.log_line import render_line
from poller.runtime.redaction import Secrets, redacting_processor
from poller.runtime.stdout import NonBlockingStdout


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

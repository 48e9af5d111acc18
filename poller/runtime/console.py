"""Log lines for a terminal: the time, the level, the event and its keys, with colors."""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, TextIO

from poller.core.formatting import RED, WORD_COLORS, YELLOW, colored
from poller.runtime.stdout import NonBlockingStdout

if TYPE_CHECKING:  # importing structlog takes longer than a command that only reads
    from structlog.typing import EventDict, WrappedLogger

TIME_FORMAT: Final = "%Y-%m-%dT%H:%M:%SZ"
EVENT_WIDTH: Final = 19
LEVEL_COLORS: Final = {"warning": YELLOW, "error": RED, "critical": RED}


class ConsoleRenderer:
    """The last processor of the log on a terminal."""

    def __init__(self, *, is_colored: bool = False) -> None:
        self._is_colored = is_colored

    def __call__(self, _logger: "WrappedLogger", _method: str, entry: "EventDict") -> str:
        """Return a log entry as one line, with a traceback after it if there is one."""
        level, event = entry.pop("level"), str(entry.pop("event"))
        traceback = entry.pop("exception", None)
        keys = " ".join(f"{key}={self._value(value)}" for key, value in entry.items())
        line = self.line(datetime.now(UTC), level, event, keys)
        return f"{line}\n{traceback}" if traceback else line

    def line(self, moment: datetime, level: str, event: str, rest: str) -> str:
        """Return one line."""
        level_text = self._colored(f"{level:<9}", LEVEL_COLORS.get(level))
        event_text = self._colored(f"{event:<{EVENT_WIDTH}}", WORD_COLORS.get(event))
        return f"{moment:{TIME_FORMAT}} [{level_text}] {event_text} {rest}".rstrip()

    def _value(self, value: object) -> str:
        text = _text(value)
        return self._colored(text, WORD_COLORS.get(text))

    def _colored(self, text: str, color: int | None) -> str:
        return colored(text, color) if color and self._is_colored else text


def _text(value: object) -> str:
    """Return a value, quoted where it would be unclear where it ends."""
    if isinstance(value, Mapping | list):
        return json.dumps(value, ensure_ascii=False, default=str)
    text = str(value)
    is_plain = text.isprintable() and not set(text) & {" ", "=", '"', "'"}
    return text if text and is_plain else repr(text)


def has_color(stream: TextIO | NonBlockingStdout) -> bool:
    """Return whether a stream is a terminal that shows colors."""
    is_plain = os.environ.get("TERM") == "dumb" or bool(os.environ.get("NO_COLOR"))
    return stream.isatty() and not is_plain

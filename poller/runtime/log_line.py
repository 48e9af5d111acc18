"""A log event as one line of JSON, short enough for every container engine."""

import json
from collections.abc import Mapping
from typing import Any, Final

from poller.runtime.redaction import LEADING_KEYS

LINE_BYTES_CAP: Final = 16_384
"""The bytes of a line with its line break: container engines cut longer lines."""
TEXT_CHARS: Final = (4_000, 1_000, 250)
"""To how many characters the texts of a line that is too long are cut, in turn."""


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

"""Patterns of names, as discovery and the filters of sinks have them."""

import re
from collections.abc import Sequence
from fnmatch import translate
from functools import lru_cache
from typing import Final

EXCLUDE: Final = "!"
MAX_COMPILED: Final = 10_000
"""Patterns that stay compiled: to compile one takes a hundred times as long as to use it."""


def matches(text: str | None, pattern: str) -> bool:
    """Return whether a pattern fits the whole text; None counts as empty.

    Only * and ? are wildcards. Case matters.
    """
    return _compiled(pattern).match(text or "") is not None


def is_selected(text: str | None, patterns: Sequence[str]) -> bool:
    """Return whether a pattern fits the text, and none of those with a leading `!` does.

    If all of them have one, every other text is selected. The order does not matter.
    """
    excluded = [pattern for pattern in patterns if pattern.startswith(EXCLUDE)]
    if any(matches(text, pattern.removeprefix(EXCLUDE)) for pattern in excluded):
        return False
    wanted = [pattern for pattern in patterns if not pattern.startswith(EXCLUDE)]
    return not wanted or any(matches(text, pattern) for pattern in wanted)


@lru_cache(MAX_COMPILED)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile(translate(pattern.replace("[", "[[]")))

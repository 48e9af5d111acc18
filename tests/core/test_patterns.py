"""Which names patterns select."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from poller.core.patterns import is_selected, matches

TEXTS = st.text("ab[]!^-\n", max_size=8) | st.text(max_size=8)
PATTERNS = st.text("ab[]!^-\n*?", max_size=8)


def expected(text: str, pattern: str) -> bool:
    """Return whether a pattern fits, by the definition of its wildcards."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(expected(text[start:], pattern[1:]) for start in range(len(text) + 1))
    return bool(text) and pattern[0] in {"?", text[0]} and expected(text[1:], pattern[1:])


@given(text=TEXTS, pattern=PATTERNS)
def test_pattern_has_two_wildcards(text: str, pattern: str):
    """In a pattern only * and ? are wildcards, and it fits the whole text or not at all."""
    assert matches(text, pattern) == expected(text, pattern)


@pytest.mark.parametrize(
    ("patterns", "selected"),
    [
        ((), ["nightly tags", "nightly test", "Nightly", "", None]),
        (("nightly *",), ["nightly tags", "nightly test"]),
        (("nightly *", "!*test*"), ["nightly tags"]),
        (("!*test*", "nightly *"), ["nightly tags"]),
        (("!*test*",), ["nightly tags", "Nightly", "", None]),
        (("nightly tags", "Nightly"), ["nightly tags", "Nightly"]),
        (("?*",), ["nightly tags", "nightly test", "Nightly"]),
        (("!*",), []),
    ],
)
def test_patterns_select_names(patterns: tuple[str, ...], selected: list[str | None]):
    """A name needs one of the patterns without `!`, if there are any, and none of those with it."""
    names = ["nightly tags", "nightly test", "Nightly", "", None]

    assert [name for name in names if is_selected(name, patterns)] == selected


@pytest.mark.parametrize(
    "pattern", ["*a" * 100 + "b", "*?" * 2_000 + "b", "*a*" * 100 + "b", "?" * 5_000, "(a+)+$"]
)
def test_hostile_pattern_takes_no_time(pattern: str):
    """A pattern that makes other matchers try every way to split a name is decided at once."""
    began = time.process_time()

    assert not matches("a" * 500, pattern)
    assert time.process_time() - began < 20.0

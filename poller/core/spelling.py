"""The name that a misspelt one was meant to be."""

from collections.abc import Iterable


def closest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str | None:
    """Return the most similar name, or None if none has at least the similarity `cutoff`."""
    from difflib import get_close_matches  # noqa: PLC0415 - only for errors

    return next(iter(get_close_matches(name, sorted(names), n=1, cutoff=cutoff)), None)

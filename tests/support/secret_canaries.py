"""Secrets that are easy to find, and the search for them."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import quote, quote_plus

KEY: Final = "sk_c4n4ry+5up3r/key"
NEW_KEY: Final = "sk_c4n4ry+5up3r/new"
SIGNING: Final = b"c4n4ry/5up3r?signing~secret+bytes"
SECRET: Final = "whsec_" + base64.b64encode(SIGNING).decode()
PATH: Final = "/hooks/c4n4ry/5up3r/path"
HEADER: Final = "c4n4ry 5up3r+header"
PASSWORD: Final = "c4n4ry/5up3r+proxy~password"
TOKEN: Final = "c4n4ry/5up3r+door~token"

CANARIES: Final = (KEY, NEW_KEY, SECRET, SIGNING.decode(), PATH, HEADER, PASSWORD, TOKEN)


def leaks(folder: Path) -> list[str]:
    """Return the files below a folder that hold a secret in any form, with the form."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return [
        f"{path.relative_to(folder)}: {form.decode()}"
        for path in files
        for form in found_in(path.read_bytes())
    ]


def found_in(content: bytes) -> list[bytes]:
    """Return the forms of secrets that are in some bytes."""
    return [form for canary in CANARIES for form in _forms(canary) if form in content]


def _forms(canary: str) -> set[bytes]:
    raw = canary.encode()
    quoted = {text.encode() for text in (quote(canary), quote(canary, safe=""), quote_plus(canary))}
    return {raw, *quoted, *_based(raw)}


def _based(raw: bytes) -> Iterator[bytes]:
    """Return the middle of a text's base64 for each of the three offsets at which it may begin."""
    for shift in range(3):
        whole = base64.b64encode(b"\0" * shift + raw)
        # The first and the last group depend on the bytes beside the text.
        middle = whole[4 if shift else 0 : -4]
        yield from (middle, middle.replace(b"+", b"-").replace(b"/", b"_"))

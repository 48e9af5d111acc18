"""Decompresses bodies that a proxy has compressed although no encoding was requested."""

import zlib
from typing import Final

ZLIB_OR_GZIP: Final = 32 + zlib.MAX_WBITS
RAW_DEFLATE: Final = -zlib.MAX_WBITS
WINDOW_BITS: Final = {
    "gzip": (ZLIB_OR_GZIP,),
    "x-gzip": (ZLIB_OR_GZIP,),
    "deflate": (ZLIB_OR_GZIP, RAW_DEFLATE),
}
"""The formats of each encoding of RFC 9110 8.4.1, in the order of trial."""


def decompress(body: bytes, encoding: str, *, limit: int) -> bytes:
    """Return at most `limit` bytes of a body without its encoding: a bomb stays small.

    Raises ValueError for an encoding that is not supported, and for a body that is not so encoded.
    """
    names = [name.strip() for name in encoding.lower().split(",")]
    names = [name for name in names if name not in {"", "identity"}]
    if not names:
        return body
    for bits in WINDOW_BITS.get(names[0], ()) if len(names) == 1 else ():
        try:
            return zlib.decompressobj(bits).decompress(body, limit)
        except zlib.error:
            continue
    raise ValueError(f"not {encoding}")

"""Warnings about a valid configuration: `check` prints them, and `run` logs them."""

import os
import re
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from poller.config import Config
from poller.core.state import JobEventType
from poller.settings.base import env_prefix, variables

COMMENT: Final = re.compile(r"(^|\s)#\s")
CA_EXTENSIONS: Final = {
    "a key usage": bytes.fromhex("0603551d0f"),
    "critical basic constraints": bytes.fromhex("0603551d130101ff"),
    "a subject key identifier": bytes.fromhex("0603551d0e"),
}
"""Extensions that RFC 5280 4.2.1 requires of a CA, with their object identifiers in DER."""
STARTED_NOT_SENT: Final = (
    "job.started reaches no minimum cost or duration and is not sent: use a second sink for it"
)
WAL_RESET_FIX: Final = (3, 51, 3)
WAL_RESET_BACKPORTS: Final = ((3, 44, 6), (3, 50, 7))


def warnings(config: Config) -> Iterator[str]:
    """Yield one line for each warning, with the variable and what to do."""
    for sink in config.sinks:
        names = variables(sink.kind.settings, env_prefix(sink.name))
        for name, advice in sink.kind.warnings(sink.reloadable.value).items():
            yield f"{names[name]}: {advice}"
        if sink.route.has_minimum and JobEventType.STARTED in sink.route.types:
            yield f"{names['events']}: {STARTED_NOT_SENT}"
    for variable, value in config.sourced.items():
        if COMMENT.search(value.text):
            yield f"{variable}: the comment is part of the value: give it a line of its own"
    yield from config.proxies.warnings()
    if (path := config.sources.environ.get("SSL_CERT_FILE")) and not os.access(path, os.R_OK):
        yield f"SSL_CERT_FILE: {path} cannot be read, and is ignored"
    zone = config.sources.environ.get("TZ", "")
    if config.settings.daily_report and not is_zone(zone):
        yield f"TZ: the system has no time zone {zone[:64]!r}, and uses UTC instead"
    if ca_file := config.settings.ca_file:
        for extension in missing_extensions(ca_file):
            yield (
                f"POLLER_CA_FILE: a certificate lacks {extension}: Python 3.13 and later reject it;"
                " replace it by one that complies with RFC 5280"
            )


def is_zone(text: str) -> bool:
    """Return whether the system may know a time zone; of names such as Asia/Tokyo it is certain."""
    from zoneinfo import TZPATH  # noqa: PLC0415 - seldom used

    name = text.removeprefix(":")
    return "/" not in name or any((Path(folder) / name).is_file() for folder in TZPATH)


def has_wal_reset_bug(version: tuple[int, int, int]) -> bool:
    """Return whether a SQLite may damage a database (sqlite.org/wal.html#walresetbug)."""
    is_backport = any(version[:2] == fix[:2] and version >= fix for fix in WAL_RESET_BACKPORTS)
    return version < WAL_RESET_FIX and not is_backport


def missing_extensions(path: Path) -> list[str]:
    """Return the extensions that a CA certificate in a file lacks.

    Python 3.13 and later require them (VERIFY_X509_STRICT), 3.11 and 3.12 do not.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(path)
    certificates = context.get_ca_certs(binary_form=True)
    return [
        name
        for name, extension in CA_EXTENSIONS.items()
        if not all(extension in certificate for certificate in certificates)
    ]

"""Warnings about a valid configuration: `check` prints them, and `run` logs them."""

import os
import re
from collections.abc import Iterator
from typing import Final

from poller.config import Config
from poller.settings.base import env_prefix, variables
from poller.settings.certificates import missing_extensions

COMMENT: Final = re.compile(r"(^|\s)#\s")


def warnings(config: Config) -> Iterator[str]:
    """Yield one line for each warning, with the variable and what to do."""
    for sink in config.sinks:
        names = variables(sink.kind.settings, env_prefix(sink.name))
        for name, advice in sink.kind.warnings(sink.reloadable.value).items():
            yield f"{names[name]}: {advice}"
    for variable, value in config.sourced.items():
        if COMMENT.search(value.text):
            yield f"{variable}: the comment is part of the value: give it a line of its own"
    yield from config.proxies.warnings()
    if (path := config.sources.environ.get("SSL_CERT_FILE")) and not os.access(path, os.R_OK):
        yield f"SSL_CERT_FILE: {path} cannot be read, and is ignored"
    if ca_file := config.settings.ca_file:
        for extension in missing_extensions(ca_file):
            yield (
                f"POLLER_CA_FILE: a certificate lacks {extension}: Python 3.13 and later reject it;"
                " replace it by one that complies with RFC 5280"
            )

"""`health`: check whether the daemon on this machine is ready.

A container engine runs this every few seconds, so it imports no more than it needs.
"""

import argparse
import os
from contextlib import closing
from http.client import HTTPException
from typing import Final

from poller.cli import add_env_file_argument, print_output
from poller.cli import exit_codes as codes
from poller.cli.connection import connection, find_key, probe
from poller.core.errors import ConfigError
from poller.runtime.address import DEFAULT_ADDRESS, ListenAddress
from poller.settings.sources import MEMORY, EnvSources, default_store

VARIABLE: Final = "POLLER_LISTEN"
STORE: Final = "POLLER_STORE"
STEP_SECONDS: Final = 4.0
"""Less than the timeout of the image's health check, so that the reason is printed."""

add_arguments = add_env_file_argument


def run(arguments: argparse.Namespace) -> int:
    """Print one line; exit 0 when the daemon is ready."""
    sources = EnvSources.of(os.environ, arguments.env_file)
    address = _address(sources)
    store = sourced.text if (sourced := sources.find(STORE)) else default_store(os.environ)
    # A store in memory has no key, and nothing secret is sent.
    is_set = store == MEMORY or sources.find(VARIABLE) is not None
    try:
        key = find_key(address, store, is_set=is_set)
    except ValueError as error:
        print_output(f"not ready: {error}")
        return codes.FAILURE
    try:
        with closing(connection(address, timeout=STEP_SECONDS)) as http:
            found = probe(http, key)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        print_output(f"cannot connect to {address}: {reason}")
        return codes.FAILURE
    except (ValueError, RecursionError):
        print_output(f"the server at {address} is not sutro-poller")
        return codes.FAILURE
    if found.is_ready and not found.is_own:
        print_output(f"not ready: the daemon at {address} has another database than {store}")
        return codes.FAILURE
    reasons = "; ".join(found.reasons) or "no reason given"
    print_output("ready" if found.is_ready else f"not ready: {reasons}")
    return codes.OK if found.is_ready else codes.FAILURE


def _address(sources: EnvSources) -> ListenAddress:
    sourced = sources.find(VARIABLE)
    try:
        address = ListenAddress.parse(sourced.text if sourced else DEFAULT_ADDRESS)
    except ValueError as error:
        raise ConfigError(f"{VARIABLE}: {error}") from None
    if address.is_off:
        raise ConfigError(f"{VARIABLE}: is off, but a health check needs the HTTP API")
    return address

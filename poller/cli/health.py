"""`health`: check whether the daemon on this machine is ready.

A container engine runs this every few seconds, so it imports no more than it needs.
"""

import argparse
import json
import os
from contextlib import closing
from http.client import HTTPException
from typing import Final

from poller.cli import add_env_file_argument, print_output
from poller.cli import exit_codes as codes
from poller.cli.connection import connection
from poller.core.errors import ConfigError
from poller.runtime.address import DEFAULT_ADDRESS, ListenAddress
from poller.settings.sources import EnvSources

VARIABLE: Final = "POLLER_LISTEN"
STEP_SECONDS: Final = 4.0
"""Less than the timeout of the image's health check, so that the reason is printed."""
RESPONSE_BYTES_CAP: Final = 65_536

add_arguments = add_env_file_argument


def run(arguments: argparse.Namespace) -> int:
    """Print one line; exit 0 when the daemon is ready."""
    address = _address(EnvSources.of(os.environ, arguments.env_file))
    try:
        is_ready, reasons = _readiness(address)
    except (OSError, HTTPException) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        print_output(f"cannot connect to {address}: {reason}")
        return codes.FAILURE
    except (ValueError, RecursionError):
        print_output(f"the server at {address} is not sutro-poller")
        return codes.FAILURE
    print_output("ready" if is_ready else f"not ready: {'; '.join(reasons) or 'no reason given'}")
    return codes.OK if is_ready else codes.FAILURE


def _address(sources: EnvSources) -> ListenAddress:
    sourced = sources.find(VARIABLE)
    try:
        address = ListenAddress.parse(sourced.text if sourced else DEFAULT_ADDRESS)
    except ValueError as error:
        raise ConfigError(f"{VARIABLE}: {error}") from None
    if address.is_off:
        raise ConfigError(f"{VARIABLE}: is off, but a health check needs the HTTP API")
    return address


def _readiness(address: ListenAddress) -> tuple[bool, list[str]]:
    """Return whether the daemon is ready, and the reasons if not. Raises ValueError."""
    with closing(connection(address, timeout=STEP_SECONDS)) as http:
        http.request("GET", "/readyz")
        response = http.getresponse()
        body = json.loads(response.read(RESPONSE_BYTES_CAP))
    if not isinstance(body, dict) or not isinstance(body.get("reasons"), list):
        raise ValueError("no reasons")
    return response.status == 200, [str(reason) for reason in body["reasons"]]

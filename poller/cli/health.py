"""`health`: ask the daemon on this machine whether it is ready, and exit by what it says.

A container engine runs this again and again, so it imports no more than it needs.
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
TIMEOUT: Final = 4.0
"""Seconds for each step, a little less than those that the image gives to all of them."""
LONGEST: Final = 65_536

add_arguments = add_env_file_argument


def run(arguments: argparse.Namespace) -> int:
    """Say in a line how the daemon is; exit 0 when it is ready."""
    address = _address(EnvSources.of(os.environ, arguments.env_file))
    try:
        is_ready, reasons = _ask(address)
    except (OSError, HTTPException) as error:
        print_output(f"nobody answers at {address}: {_reason(error)}")
        return codes.FAILURE
    except (ValueError, RecursionError):
        print_output(f"what answers at {address} is not the daemon")
        return codes.FAILURE
    print_output(
        "ready" if is_ready else f"not ready: {'; '.join(reasons) or 'it does not say why'}"
    )
    return codes.OK if is_ready else codes.FAILURE


def _address(places: EnvSources) -> ListenAddress:
    found = places.find(VARIABLE)
    try:
        address = ListenAddress.parse(found.text if found else DEFAULT_ADDRESS)
    except ValueError as error:
        raise ConfigError(f"{VARIABLE}: {error}") from None
    if address.is_off:
        raise ConfigError(f"{VARIABLE}: is off, so that the daemon cannot be asked")
    return address


def _ask(address: ListenAddress) -> tuple[bool, list[str]]:
    """Ask whether it is ready, and why not. Raises ValueError when that is not answered."""
    with closing(connection(address, timeout=TIMEOUT)) as asking:
        asking.request("GET", "/readyz")
        answer = asking.getresponse()
        told = json.loads(answer.read(LONGEST))
    if not isinstance(told, dict) or not isinstance(told.get("reasons"), list):
        raise ValueError("no reasons")
    return answer.status == 200, [str(reason) for reason in told["reasons"]]


def _reason(error: OSError | HTTPException) -> str:
    said = error.strerror if isinstance(error, OSError) else None
    return said or str(error) or type(error).__name__

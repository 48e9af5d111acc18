"""`version`: which one this is."""

import argparse

from poller import __version__
from poller.cli import exit_codes as codes
from poller.cli import print_output


def add_arguments(_parser: argparse.ArgumentParser) -> None:
    """Say that `version` takes nothing."""


def run(_arguments: argparse.Namespace) -> int:
    """Print the version."""
    print_output(f"sutro-poller {__version__}")
    return codes.OK

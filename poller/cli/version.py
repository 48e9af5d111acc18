"""`version`: which one this is."""

import argparse

from poller import __version__
from poller.cli import exit_codes as codes
from poller.cli import say


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Say that `version` takes nothing."""


def execute(_arguments: argparse.Namespace) -> int:
    """Print the version."""
    say(f"sutro-poller {__version__}")
    return codes.OK

"""`help`: show the help of a command."""

import argparse
from typing import NoReturn

from poller.cli import main


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `help`."""
    parser.add_argument("words", nargs="*", metavar="COMMAND", help="such as wait or jobs add")


def run(arguments: argparse.Namespace) -> NoReturn:
    """Print the help and exit."""
    main([*arguments.words, "--help"])

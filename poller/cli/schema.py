"""`schema`: the JSON Schema of the events."""

import argparse

from poller.cli import exit_codes as codes
from poller.cli import say
from poller.cli.output import as_json
from poller.core.events import schema


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Say that `schema` takes nothing."""


def execute(_arguments: argparse.Namespace) -> int:
    """Print the schema."""
    say(as_json(schema()))
    return codes.OK

"""`schema`: print the JSON Schema of the events."""

import argparse

from poller.cli import print_output
from poller.cli.output import as_json
from poller.core.events import json_schema


def run(_arguments: argparse.Namespace) -> None:
    """Print the schema."""
    print_output(as_json(json_schema()))

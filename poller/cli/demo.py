"""`demo`: simulator, daemon and a verifying receiver at work."""

import argparse

import anyio

from poller import demo


def arguments(_parser: argparse.ArgumentParser) -> None:
    """Say that `demo` takes nothing."""


def execute(_arguments: argparse.Namespace) -> int:
    """Play the demo to its end."""
    return anyio.run(demo.run)

"""`wait`: wait until jobs end; the exit code says how they ended."""

from poller.cli.wait.command import add_arguments, run

__all__ = ["add_arguments", "run"]

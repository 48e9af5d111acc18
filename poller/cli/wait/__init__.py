"""`wait`: block until jobs end."""

from poller.cli.wait.command import add_arguments, run

__all__ = ["add_arguments", "run"]

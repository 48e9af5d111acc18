"""`wait`: block until jobs end."""

from poller.cli.wait.command import arguments, execute

__all__ = ["arguments", "execute"]

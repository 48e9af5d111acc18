"""Tell people when their Sutro batch-inference jobs end."""

from importlib.metadata import version

__version__ = version("sutro-poller")

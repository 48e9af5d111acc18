"""`python -m poller` is `sutro-poller`."""

from poller.cli import main

main()

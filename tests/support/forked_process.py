"""Run the product in children that are forked after the imports: a life costs no start-up.

Each line of stdin is `{"arguments": [...], "environment": {...}, "output": path}`; it is run by the
interpreter of the installed product. Each line of stdout is `{"pid": n}` for a birth, in the order
of the lines, and `{"pid": n, "code": c}` for a death.
"""

import json
import os
import selectors
import sys
from importlib import import_module
from typing import NoReturn

from forked_child import be  # this is run as a program

# What every child would take anew: half a second.
for name in ("poller.cli.run", "poller.sinks.webhook", "anyio._backends._asyncio", "uvloop"):
    import_module(name)


def born(arguments: list[str], environment: dict[str, str], output: str) -> int:
    """Start one child, and give its process id."""
    child = os.fork()
    if child == 0:
        _live(arguments, environment, output)
    return child


def _live(arguments: list[str], environment: dict[str, str], output: str) -> NoReturn:
    """Be the product, with no file of the nursery but the output."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(3, 64)
    be(arguments, environment)


def tell(**news: int) -> None:
    """Write one line."""
    print(json.dumps(news), flush=True)  # noqa: T201 - this is the answer


def keep() -> None:
    """Start children as they are asked for, and tell of each one's end."""
    watch = selectors.DefaultSelector()
    watch.register(sys.stdin.buffer.raw, selectors.EVENT_READ)
    rest = b""
    while True:
        for key, _ in watch.select():
            if key.data:
                watch.unregister(key.fileobj)
                os.close(key.fd)
                status = os.waitstatus_to_exitcode(os.waitpid(key.data, 0)[1])
                tell(pid=key.data, code=status)
                continue
            if not (more := os.read(0, 65_536)):
                return
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                pid = born(**json.loads(line))
                watch.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                tell(pid=pid)


if __name__ == "__main__":
    keep()

"""Run `sutro-poller` in children that are forked after the imports, which saves their start-up.

Each line of stdin is `{"arguments": [...], "environment": {...}, "output": path}`. Each line of
stdout is `{"pid": n}` for a start, in the order of the lines, and `{"pid": n, "code": c}` for an
end. The interpreter of the installed wheel runs this program.
"""

import json
import os
import selectors
import sys
from importlib import import_module
from typing import NoReturn

from forked_child import run_cli  # this is run as a program

# Imports of every child that take half a second.
for name in ("poller.cli.run", "poller.sinks.webhook", "anyio._backends._asyncio", "uvloop"):
    import_module(name)


def start(arguments: list[str], environment: dict[str, str], output: str) -> int:
    """Fork one child, and return its process id."""
    child = os.fork()
    if child == 0:
        _run_child(arguments, environment, output)
    return child


def _run_child(arguments: list[str], environment: dict[str, str], output: str) -> NoReturn:
    """Run the command line with no open file but the output."""
    file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    for number in (1, 2):
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.closerange(3, 64)
    run_cli(arguments, environment)


def report(**values: int) -> None:
    """Write one line."""
    print(json.dumps(values), flush=True)  # noqa: T201 - the result


def serve() -> None:
    """Fork the children that are requested, and report the end of each."""
    watch = selectors.DefaultSelector()
    watch.register(sys.stdin.buffer.raw, selectors.EVENT_READ)
    rest = b""
    while True:
        for key, _ in watch.select():
            if key.data:
                watch.unregister(key.fileobj)
                os.close(key.fd)
                status = os.waitstatus_to_exitcode(os.waitpid(key.data, 0)[1])
                report(pid=key.data, code=status)
                continue
            if not (more := os.read(0, 65_536)):
                return
            *lines, rest = (rest + more).split(b"\n")
            for line in lines:
                pid = start(**json.loads(line))
                watch.register(os.pidfd_open(pid), selectors.EVENT_READ, pid)
                report(pid=pid)


if __name__ == "__main__":
    serve()

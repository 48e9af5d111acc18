"""Run `sutro-poller` once for each line of stdin, in a child that is forked after the imports.

A line is `{"arguments": [...], "environment": {...}}`, the result `[exit code, stdout, stderr]`.
The interpreter of the installed wheel runs this program.
"""

import json
import os
import sys
from tempfile import TemporaryFile

from forked_child import run_cli  # this is run as a program

import poller.cli.check
import poller.cli.run
import poller.cli.simulate
import poller.cli.wait.command  # noqa: F401 - so that the children have the commands imported


def run_forked(arguments: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Run one child to its end."""
    with TemporaryFile() as out, TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            run_cli(arguments, environment)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in (out, err):
            file.seek(0)
        return code, out.read().decode(), err.read().decode()


if __name__ == "__main__":
    for line in sys.stdin:
        answer = run_forked(**json.loads(line))
        print(json.dumps(answer), flush=True)  # noqa: T201 - the result

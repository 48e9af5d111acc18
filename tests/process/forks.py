"""Run `sutro-poller` once for each line of stdin, in a child that is forked after the imports.

A line is `{"arguments": [...], "environment": {...}}`, the answer `[exit code, stdout, stderr]`.
It is run by the interpreter of the installed product.
"""

import json
import os
import sys
from tempfile import TemporaryFile
from typing import NoReturn

import poller.cli.check
import poller.cli.run
import poller.cli.simulate
import poller.cli.wait  # noqa: F401 - the children have the verbs imported
from poller.cli import main


def play(arguments: list[str], environment: dict[str, str]) -> tuple[int, str, str]:
    """Run one child to its end."""
    with TemporaryFile() as out, TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            os.dup2(out.fileno(), 1)
            os.dup2(err.fileno(), 2)
            _be(arguments, environment)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in (out, err):
            file.seek(0)
        return code, out.read().decode(), err.read().decode()


def _be(arguments: list[str], environment: dict[str, str]) -> NoReturn:
    """Be the product; an exit in any other way than by its own code is told as 255."""
    os.environ.clear()
    os.environ.update(environment)
    code = 255
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for line in sys.stdin:
        answer = play(**json.loads(line))
        print(json.dumps(answer), flush=True)  # noqa: T201 - this is the answer

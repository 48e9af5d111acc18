"""The child of the two programs here that fork."""

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from poller.cli import main


def run_cli(arguments: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """Run the command line and exit; 255 means any other end than by an exit code."""
    os.environ.clear()
    os.environ.update(environment)
    code: Any = 255
    try:
        main(arguments)
    except SystemExit as end:
        code = end.code
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)

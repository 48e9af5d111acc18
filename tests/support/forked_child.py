"""What a forked child does in both of the programs here that fork them: be the product."""

import os
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from poller.cli import main


def be(arguments: Sequence[str], environment: dict[str, str]) -> NoReturn:
    """Be the product; an exit in any other way than by its own code is told as 255."""
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

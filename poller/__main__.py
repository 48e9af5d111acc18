"""The command `sutro-poller`, also as `python -m poller`."""

import gc
import os
import signal
import sys
from typing import NoReturn


def main() -> NoReturn:
    """Run the command line. A signal during the imports exits at once: nothing is open yet."""
    code = 0 if "run" in sys.argv[1:] else 128 + signal.SIGTERM
    signal.signal(signal.SIGTERM, lambda *_: os._exit(code))
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # the shell may ignore it
        signal.signal(signal.SIGINT, lambda *_: os._exit(128 + signal.SIGINT))
    gc.disable()  # until the verb runs: imports make no garbage, but much to search for it
    from poller.cli import main as run_command  # noqa: PLC0415 - these imports take a while

    run_command()


if __name__ == "__main__":
    main()

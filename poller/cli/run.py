"""`run`: run the daemon."""

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from typing import Final, NoReturn

import anyio
import structlog

from poller.app import App
from poller.cli import add_env_file_argument, print_error, unwrap
from poller.cli import exit_codes as codes
from poller.config import Config, load
from poller.core.errors import ConfigError, StoreLocked, StoreUnusable
from poller.runtime import logging as logs
from poller.runtime.stdout import NonBlockingStdout
from poller.runtime.systemd import SystemdNotifier

STOP_TIMEOUT: Final = 7.4
"""Seconds from the signal after which the daemon exits, whatever still runs."""
FLUSH_SECONDS: Final = 0.5
"""How long to wait at exit until the last log lines are written."""

log = structlog.get_logger()

add_arguments = add_env_file_argument


def run(arguments: argparse.Namespace) -> NoReturn:
    """Watch and deliver until a signal, then exit."""
    config = load(os.environ, arguments.env_file)
    settings = config.settings
    sys.stdout = output = NonBlockingStdout(sys.stdout)
    logs.configure(settings.log_level, settings.log_format, stream=output, secrets=config.secrets)

    def finish(code: int) -> NoReturn:
        output.close(FLUSH_SECONDS)
        # The thread that writes the log may be blocked by a full pipe: do not wait for it.
        os._exit(code)

    anyio.run(_run_app, config, finish, backend_options={"use_uvloop": _has_uvloop()})
    raise AssertionError  # `finish` does not return


async def _run_app(config: Config, finish: Callable[[int], object]) -> None:
    """Run the daemon and exit: the end of the loop would wait for threads that hang."""
    code = codes.OK
    try:
        app = App(config, notifier=SystemdNotifier.of(os.environ, os.getpid()))
        handle_signals(app)
        await app.run()
    except BaseException as error:  # noqa: BLE001 - a crash is logged too
        code = _fail(unwrap(error))
    finish(code)


def handle_signals(app: App) -> None:
    """Stop at the first SIGTERM or SIGINT, in time; exit at the second; reload at SIGHUP.

    The handlers are not those of the event loop, which a plug-in or a thread may hold up.
    """
    loop, received = asyncio.get_running_loop(), count()

    def stop(*_: object) -> None:
        if next(received):  # also one that comes while the first one is handled
            os._exit(codes.OK)
        else:
            signal.setitimer(signal.ITIMER_REAL, STOP_TIMEOUT)
            call(app.stop)

    def call(method: Callable[[], None]) -> None:
        with suppress(RuntimeError):  # the loop is closed: the daemon has ended
            loop.call_soon_threadsafe(method)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGALRM):
        signal.signal(number, stop)
    signal.signal(signal.SIGHUP, lambda *_: call(app.reload))


def _fail(error: BaseException) -> int:
    """Return the exit code for the error that ended the daemon; log an unexpected one."""
    if isinstance(error, StoreLocked | StoreUnusable | ConfigError):
        print_error(str(error))
        return codes.for_error(error)
    # Log the traceback instead of letting the interpreter print it: the log redacts secrets.
    log.critical("poller.crashed", exc_info=error)
    return codes.CRASHED


def _has_uvloop() -> bool:
    try:
        import uvloop  # noqa: F401, PLC0415 - it does not install everywhere
    except ImportError:
        return False
    return True

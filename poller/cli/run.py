"""`run`: run the daemon."""

import argparse
import os
import sys
from typing import Final, NoReturn

import anyio
import structlog

from poller.app import App
from poller.cli import add_env_file_argument, print_error
from poller.cli import exit_codes as codes
from poller.config import Config, load
from poller.core.errors import ConfigError, StoreLocked, StoreUnusable
from poller.runtime import logging as logs
from poller.runtime.stdout import NonBlockingStdout
from poller.runtime.systemd import SystemdNotifier

FLUSH_SECONDS: Final = 1.0
"""How long to wait at exit until the last log lines are written."""

log = structlog.get_logger()

add_arguments = add_env_file_argument


def run(arguments: argparse.Namespace) -> NoReturn:
    """Watch and deliver until a signal, then exit."""
    config = load(os.environ, arguments.env_file)
    settings = config.settings
    sys.stdout = output = NonBlockingStdout(sys.stdout)
    logs.configure(settings.log_level, settings.log_format, stream=output, secrets=config.secrets)
    code = _run(config)
    output.close(FLUSH_SECONDS)
    # The thread that writes the log may be blocked by a full pipe: do not wait for it.
    os._exit(code)


def _run(config: Config) -> int:
    try:
        anyio.run(_run_app, config, backend_options={"use_uvloop": _has_uvloop()})
    except BaseException as error:  # noqa: BLE001 - a crash is logged too
        return _fail(error)
    return codes.OK


async def _run_app(config: Config) -> None:
    await App(config, notifier=SystemdNotifier.of(os.environ, os.getpid())).run()


def _fail(error: BaseException) -> int:
    """Return the exit code for the error that ended the daemon; log an unexpected one."""
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
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

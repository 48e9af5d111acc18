"""Calls that may hang, each in a thread that nothing waits for at exit."""

import errno
from collections.abc import Callable
from concurrent.futures import Future
from threading import Thread
from typing import TypeVar

T = TypeVar("T")


def call_in_thread(call: Callable[[], T], name: str) -> Future[T]:
    """Begin a call; return the future of its result. Without a free thread it has an OSError."""
    future = Future[T]()
    future.set_running_or_notify_cancel()  # otherwise a waiter that leaves would cancel it
    try:
        Thread(target=complete, args=(future, call), name=name, daemon=True).start()
    except RuntimeError as error:  # no more threads
        future.set_exception(OSError(errno.EAGAIN, str(error)))
    return future


def complete(future: Future[T], call: Callable[[], T]) -> None:
    """Make a call, and complete the future with its result or its error."""
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001 - raised where the result is awaited
        future.set_exception(error)

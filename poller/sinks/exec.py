"""The `exec` sink: runs a command for each event, which reads the event on stdin."""

import asyncio
import json
import os
import shlex
import shutil
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event as Flag
from typing import Annotated, Final

import anyio
from pydantic import AfterValidator, BeforeValidator

from poller.core.errors import DeliveryError
from poller.core.events import Event
from poller.core.outbox import Delivery
from poller.runtime.command import Command, run_command
from poller.runtime.threads import call_in_thread
from poller.settings.base import Reloadable, SinkSettings, setting
from poller.settings.durations import Duration, at_most
from poller.sinks import MAX_CONCURRENCY, Sink, SinkContext, SinkKind

MAX_TIMEOUT: Final = 60.0
TRY_LATER: Final = 75
"""EX_TEMPFAIL of sysexits.h: the command works, but what it needs does not."""
SHELL_WORDS: Final = frozenset({"|", "||", "&", "&&", ";", "<", ">", ">>", "2>&1"})
PASSED_ON: Final = (
    *("HOME", "LOGNAME", "PATH", "SHELL", "TMPDIR", "TZ", "USER", "XDG_RUNTIME_DIR"),
    *("LANG", "LANGUAGE", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_MESSAGES", "LC_MONETARY"),
    *("LC_NUMERIC", "LC_TIME"),
)
"""The variables of the daemon that a command gets: no other one, since many are secret."""


def _parse_words(text: object) -> object:
    """Return the words of a JSON list, or those that a shell would see. Raises ValueError."""
    if not isinstance(text, str):
        return text
    try:
        words = json.loads(text) if text.startswith("[") else shlex.split(text)
    except (ValueError, RecursionError):
        words = None
    if not words or not all(isinstance(word, str) and "\0" not in word for word in words):
        raise ValueError(
            'must be words with closed quotes, or a JSON list such as ["notify", "-q"]'
        )
    return tuple(words)


def _check_program(words: tuple[str, ...]) -> tuple[str, ...]:
    # The messages repeat no word: people write secrets before a command, as for a shell.
    program = words[0]
    if shutil.which(program):
        return words
    if "/" not in program:
        raise ValueError("must begin with a program in PATH, or with the path of one")
    raise ValueError(
        "must begin with a file that is executable"
        if Path(program).is_file()
        else "must begin with a file that exists"
    )


class ExecSettings(SinkSettings):
    """The settings of an exec sink."""

    command: Annotated[
        tuple[str, ...], BeforeValidator(_parse_words), AfterValidator(_check_program)
    ] = setting(..., "Command that is run for each event, as words or as a JSON list; no shell")
    timeout: Annotated[Duration, at_most(MAX_TIMEOUT)] = setting(
        "30s", "How long the command may take before it is killed, 1m at most", gt=0
    )
    concurrency: int = setting(
        1, "How many commands run at the same time", ge=1, le=MAX_CONCURRENCY
    )


def environment(event: Event, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return all variables of a command: a few of the daemon's, and what the event is."""
    passed = {name: inherited[name] for name in PASSED_ON if name in inherited}
    return passed | {
        "POLLER_EVENT_ID": event.id,
        "POLLER_EVENT_TYPE": event.type,
        "POLLER_EVENT_JOB_ID": event.data.get("job", {}).get("job_id", ""),
    }


@dataclass(frozen=True, slots=True)
class ExecSink:
    """Run a command for each event; exit code 0 acknowledges it."""

    settings: Reloadable[ExecSettings]

    @property
    def concurrency(self) -> int:
        """How many commands run at the same time: the others wait for their turn."""
        return self.settings.value.concurrency

    async def send(self, delivery: Delivery) -> None:
        """Run the command once. Raises DeliveryError."""
        values, event, stop = self.settings.value, delivery.event, Flag()
        command = Command(
            words=values.command,
            environment=environment(event, os.environ),
            stdin=event.line,
            timeout=values.timeout,
        )
        running = call_in_thread(partial(run_command, command, stop), "exec")
        try:
            result = await asyncio.wrap_future(running)
        except OSError as error:
            raise DeliveryError(f"cannot run a command: {error.strerror}") from None
        finally:
            stop.set()
            if not running.done():  # cancelled: no other one is run until it has ended
                with anyio.CancelScope(shield=True):
                    await asyncio.wait({asyncio.wrap_future(running)})
        if result.code == 0:
            return
        is_sink_fault = result.code in {None, TRY_LATER}
        raise DeliveryError(
            f"the command {result.summary}",
            is_sink_fault=is_sink_fault,
            is_suspect=not is_sink_fault,
        )


@asynccontextmanager
async def open_sink(
    settings: Reloadable[ExecSettings], _context: SinkContext
) -> AsyncIterator[Sink]:
    """Open an exec sink, which holds nothing open."""
    yield ExecSink(settings)


def find_warnings(settings: ExecSettings) -> dict[str, str]:
    """Return what may be wrong with valid settings, by field."""
    words = SHELL_WORDS.intersection(settings.command)
    if not words:
        return {}
    return {"command": f"no shell reads {min(words)}: use a script, or sh -c"}


KIND = SinkKind(ExecSettings, open_sink, warnings=find_warnings)

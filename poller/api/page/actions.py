"""The buttons of pages: each one changes something, and returns to its page with the result."""

import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from secrets import token_hex
from typing import Final

from aiohttp import web
from pydantic import field_validator

from poller.api import events, sinks
from poller.api.context import ApiContext
from poller.api.models import EventId, SinkName, StrictModel
from poller.api.page.responses import redirect
from poller.api.problems import Problem
from poller.core.errors import StoreError
from poller.core.formatting import format_count
from poller.core.outbox import DeliveryStatus
from poller.store.admin import StoreAdmin
from poller.store.connection import PORTION
from poller.store.filters import EventFilter, Row

OWN_PATHS: Final = re.compile(r"/(dead-letters(\?[!-~]*)?|jobs/[!-~]+)?")
MAX_MESSAGES: Final = 100

Change = Callable[[StoreAdmin, EventFilter], Iterator[Row]]


class ActionForm(StrictModel):
    """The fields of a button without any of its own."""

    back: str = "/"

    @field_validator("back")
    @classmethod
    def _check_path(cls, path: str) -> str:
        if not OWN_PATHS.fullmatch(path):
            raise ValueError("must be the path of a page")
        return path


class EventForm(ActionForm):
    """The fields of a button of an event."""

    sink: SinkName | None = None


class DeadLetterForm(EventForm):
    """The fields of a button of dead letters: one event, or all of a sink."""

    event_id: EventId | None = None

    @property
    def wanted(self) -> EventFilter:
        """The dead letters to change. Raises Problem if that would be all."""
        if self.event_id is None and self.sink is None:
            raise Problem("invalid", "form: name an event or a sink")
        event_ids = None if self.event_id is None else [self.event_id]
        return EventFilter(event_ids=event_ids, sink=self.sink, state=DeliveryStatus.DEAD)


async def replay_dead_letters(context: ApiContext, form: DeadLetterForm) -> web.Response:
    """Send dead letters again."""
    rows = await context.query(partial(_first, StoreAdmin.replay, form.wanted))
    context.daemon.dispatcher.wake()
    skipped = [row["skipped_reason"] for row in rows if row["skipped_reason"]]
    text = f"{format_count(len(rows) - len(skipped), 'dead letter')} will be sent again."
    if skipped:
        text += f" {format_count(len(skipped), 'dead letter')} not sent: {skipped[0]}."
    return _back(context, form, text + _rest(rows))


async def drop_dead_letters(context: ApiContext, form: DeadLetterForm) -> web.Response:
    """Delete dead letters; their events stay."""
    rows = await context.query(partial(_first, StoreAdmin.delete_dead_letters, form.wanted))
    return _back(context, form, f"{format_count(len(rows), 'dead letter')} dropped.{_rest(rows)}")


async def replay_event(context: ApiContext, event_id: EventId, form: EventForm) -> web.Response:
    """Send an event again."""
    query = events.ReplayQuery(sink=form.sink)
    try:
        replays = (await events.replay_event(context, event_id, query)).deliveries
    except (Problem, StoreError) as error:
        return _back(context, form, f"Not sent: {error}.")
    texts = (f"{row.sink}: {row.skipped_reason or 'will be sent again'}" for row in replays)
    return _back(context, form, f"{'; '.join(texts)}.")


async def enable_sink(context: ApiContext, name: SinkName, form: ActionForm) -> web.Response:
    """Enable a sink, and send what was kept for it."""
    result = await sinks.enable_sink(context, name)
    sent = format_count(result.pending_again, "event")
    text = f"{name} is enabled; {sent} will be sent." if result.was_disabled else "No change."
    return _back(context, form, text)


async def test_sink(context: ApiContext, name: SinkName, form: ActionForm) -> web.Response:
    """Send a test event to a sink."""
    result = await sinks.test_sink(context, name)
    outcome = "was delivered" if result.delivered else f"failed: {result.reason}"
    return _back(context, form, f"The test of {name} {outcome}.")


def _first(change: Change, wanted: EventFilter, admin: StoreAdmin) -> list[Row]:
    """Change one portion: a request must not hold others up for long."""
    return [*islice(change(admin, wanted), PORTION)]


def _rest(rows: list[Row]) -> str:
    return " There may be more: press the button again." if len(rows) == PORTION else ""


def _back(context: ApiContext, form: ActionForm, text: str) -> web.Response:
    """Return to the page of the form, which shows a message."""
    messages, name = context.messages, token_hex(8)
    messages[name] = text
    if len(messages) > MAX_MESSAGES:
        del messages[next(iter(messages))]
    separator = "&" if "?" in form.back else "?"
    return redirect(f"{form.back}{separator}message={name}")

"""Sinks: their state and backlog, tests, and enabling them again."""

from typing import Literal

from pydantic import Field

from poller.api.context import ApiContext
from poller.api.models import (
    Count,
    DeliveryStatus,
    EventId,
    EventType,
    JobId,
    ResponseModel,
    SinkName,
    UtcTime,
)
from poller.api.problems import Problem
from poller.core.events import DaemonEventType
from poller.delivery.attempt import attempt_test, test_delivery
from poller.explanation import explain
from poller.store.admin import StoreAdmin


class Sink(ResponseModel):
    """A sink that is configured or has undelivered events."""

    sink: SinkName
    state: Literal["enabled", "disabled", "not configured"]
    pending: Count = Field(description="Pending deliveries")
    oldest_at: UtcTime | None = Field(description="When the oldest pending event was recorded")
    failing_since: UtcTime | None = Field(description="When its attempts began to fail")
    dead: Count = Field(description="Dead letters")
    reason: str | None = Field(description="Why the sink is disabled, or its last attempt failed")


class Sinks(ResponseModel):
    """All sinks."""

    sinks: list[Sink]


class EnabledSink(ResponseModel):
    """The sink, which is enabled now."""

    sink: SinkName
    was_disabled: bool
    pending_again: Count = Field(description="Deliveries that were kept while it was disabled")


class SinkTest(ResponseModel):
    """The result of a test."""

    sink: SinkName
    event_id: EventId
    delivered: bool
    reason: str | None = Field(description="Why the test event was not delivered")


class SinkDecision(ResponseModel):
    """What a sink gets of one event, and why."""

    type: EventType
    recorded_as: EventId | None = Field(description="The ID of the event; null if not recorded")
    sink: SinkName
    routed: bool = Field(
        description="True if the configuration sends the event to the sink, as far as is known now"
    )
    delivery: DeliveryStatus | None = Field(
        description="The delivery that is recorded, also by an earlier configuration"
    )
    reason: str | None = Field(
        description="The setting that holds the event back, or what is to be known of the decision"
    )


class JobDecisions(ResponseModel):
    """Each event that a job has, or may have, for each sink."""

    decisions: list[SinkDecision]


async def list_sinks(context: ApiContext) -> Sinks:
    """Return the sinks and the backlog of each."""
    return Sinks.model_validate({"sinks": await context.query(StoreAdmin.sinks)})


async def explain_job(context: ApiContext, job_id: JobId) -> JobDecisions:
    """Return which sinks get which events of a job, and why not."""
    unseen = [job_id] if context.watchlist.sources(job_id) else []
    rows = await context.query(explain, job_id, context.config.routes, unseen)
    if rows is None:
        raise Problem("not-found", "no job with this ID is or was watched")
    return JobDecisions.model_validate({"decisions": rows})


async def enable_sink(context: ApiContext, name: SinkName) -> EnabledSink:
    """Enable a sink that a 410 disabled, and send all events that were kept for it."""
    count = await context.query(_enable, name)
    context.daemon.dispatcher.wake()
    return EnabledSink(sink=name, was_disabled=count is not None, pending_again=count or 0)


def _enable(admin: StoreAdmin, name: str) -> int | None:
    """Enable a sink, and return how many deliveries that restored; None if it was enabled."""
    rows = admin.enable_sink(name)
    return None if rows is None else sum(1 for _ in rows)


async def test_sink(context: ApiContext, name: SinkName) -> SinkTest:
    """Send a test event to a sink now and return the result."""
    sinks = context.daemon.dispatcher.sinks
    if name not in sinks:
        raise Problem("not-found", f"no such sink; configured: {', '.join(sinks)}")
    delivery = test_delivery(name, context.config.origin, context.clock, DaemonEventType.TEST)
    error = await attempt_test(sinks[name], delivery, secrets=context.config.secrets)
    return SinkTest(
        sink=name,
        event_id=delivery.event.id,
        delivered=error is None,
        reason=error.reason if error else None,
    )

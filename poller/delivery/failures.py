"""The log lines and the outcomes of deliveries that failed."""

import structlog

from poller.core.formatting import fix_receiver
from poller.core.outbox import Delivery, DeliveryStatus, Outcome

Log = structlog.typing.FilteringBoundLogger


def dead_letter(
    log: Log, delivery: Delivery, reason: str, *, is_sink_fault: bool | None = None
) -> Outcome:
    """Log that a delivery was given up, and return its outcome."""
    advice = "sutro-poller dead-letters ls, then replay or drop"
    _warn(
        log,
        "delivery.dead_lettered",
        delivery,
        reason,
        attempt=delivery.attempts + 1,
        advice=advice,
    )
    return Outcome(
        delivery_id=delivery.id,
        status=DeliveryStatus.DEAD,
        reason=reason,
        is_sink_fault=is_sink_fault,
    )


def log_retry(log: Log, delivery: Delivery, reason: str, *, retry_in: float) -> None:
    """Log that an attempt failed: the 1st, 2nd, 4th, 8th ... of its delivery."""
    attempt = delivery.attempts + 1
    if attempt & (attempt - 1) == 0:
        keys = {"attempt": attempt, "retry_in": round(retry_in, 1)}
        _warn(log, "delivery.failed", delivery, reason, **keys)


def log_expired(log: Log, sink: str, dead: int) -> None:
    """Log how many deliveries became dead letters because their sink has failed for 7 days."""
    advice = fix_receiver(f"dead-letters replay --sink {sink}")
    error = "the sink has failed for 7 days"
    log.warning("sink.backlog_dead_lettered", dead=dead, error=error, advice=advice)


def _warn(log: Log, name: str, delivery: Delivery, reason: str, **keys: float | str) -> None:
    log.warning(
        name,
        event_id=delivery.event.id,
        event_type=delivery.event.type,
        subject=delivery.event.subject,
        error=reason,
        **keys,
    )

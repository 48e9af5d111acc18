"""The first section of a page: is it well, and if not, what to do."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from poller.api.context import ApiContext
from poller.api.page import text
from poller.core.formatting import format_count
from poller.core.issues import Issue
from poller.core.outbox import SinkBacklog
from poller.status import DaemonStatus


@dataclass(frozen=True, slots=True, kw_only=True)
class Fact:
    """One part of the health: its name, its state in words, and more about it."""

    name: str
    state: str
    tone: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Attention:
    """Something that needs attention, and the remedy."""

    name: str
    remedy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthView:
    """The health of the daemon and of everything that it needs."""

    headline: str
    tone: str
    facts: Sequence[Fact]
    attention: Sequence[Attention]

    @classmethod
    async def of(cls, context: ApiContext, now: datetime) -> Self:
        """Return the health as of now."""
        status = context.status
        backlogs = await status.backlog()
        attention = [*_issues(status), *_sinks(backlogs)]
        is_ready, count = status.health.is_ready, len(attention)
        verb = "needs" if count == 1 else "need"
        headline = f"{format_count(count, 'thing')} {verb} attention" if count else "All is well"
        return cls(
            headline=headline if is_ready else "The daemon is not ready",
            tone="good" if is_ready and not count else "bad",
            facts=(
                _daemon(status),
                _api(context, now),
                _api_key(status),
                _outbox(backlogs, now),
                _dead_letters(backlogs),
                _jobs(status),
            ),
            attention=attention,
        )


def _issues(status: DaemonStatus) -> list[Attention]:
    issues = [
        Attention(issue.value.replace("_", " ").capitalize(), status.remedy(issue))
        for issue in status.issues
    ]
    error = status.store_error
    return [
        Attention(found.name, f"{found.remedy} ({error})")
        if error and issue is Issue.STORE_UNAVAILABLE
        else found
        for issue, found in zip(status.issues, issues, strict=True)
    ]


def _sinks(backlogs: Sequence[SinkBacklog]) -> list[Attention]:
    disabled = [
        Attention(
            f"Sink {sink.name} is disabled",
            "Its receiver returned 410. Fix the receiver, then enable the sink below.",
        )
        for sink in backlogs
        if sink.is_disabled
    ]
    dead = [
        Attention(
            f"{format_count(sink.dead, 'dead letter')} of {sink.name}",
            "Fix its receiver, then replay or drop them below.",
        )
        for sink in backlogs
        if sink.dead and not sink.is_disabled
    ]
    return disabled + dead


def _daemon(status: DaemonStatus) -> Fact:
    health = status.health
    return Fact(
        name="Daemon",
        state="Ready" if health.is_ready else "Not ready",
        tone="good" if health.is_ready else "bad",
        detail="; ".join(health.reasons),
    )


def _api(context: ApiContext, now: datetime) -> Fact:
    reachability = context.status.rate_limiter.reachability
    last_at = reachability.last_response_at
    last = text.moment(None if last_at is None else float(last_at), now)
    detail = f"Last response {last.distance}" if last else "No response yet"
    if reachability.failing_since is not None:
        return Fact(
            name="Sutro API",
            state="Failing",
            tone="bad" if reachability.is_stale or last is None else "warn",
            detail=f"{text.clip(reachability.last_error, 200)}. {detail}",
        )
    return Fact(
        name="Sutro API",
        state="Reachable" if last else "Not polled yet",
        tone="good" if last else "plain",
        detail=detail,
    )


def _api_key(status: DaemonStatus) -> Fact:
    limiter = status.rate_limiter
    if limiter.gate.is_rejected:
        return Fact(name="API key", state="Rejected", tone="bad")
    is_tested = limiter.reachability.last_response_at is not None
    state, tone = ("Accepted", "good") if is_tested else ("Not tested yet", "plain")
    return Fact(name="API key", state=state, tone=tone)


def _outbox(backlogs: Sequence[SinkBacklog], now: datetime) -> Fact:
    pending = sum(sink.pending for sink in backlogs)
    oldest_at = min(
        (sink.oldest_pending_at for sink in backlogs if sink.oldest_pending_at is not None),
        default=None,
    )
    oldest = text.moment(oldest_at, now)
    return Fact(
        name="Outbox",
        state=f"{pending:,} pending" if pending else "Empty",
        tone="warn" if any(sink.failing_since for sink in backlogs) else "good",
        detail=f"Oldest {oldest.distance}" if oldest else "No event waits",
    )


def _dead_letters(backlogs: Sequence[SinkBacklog]) -> Fact:
    dead = sum(sink.dead for sink in backlogs)
    return Fact(
        name="Dead letters",
        state=f"{dead:,}" if dead else "None",
        tone="bad" if dead else "good",
        detail="Given up after 7 days, or rejected" if dead else "",
    )


def _jobs(status: DaemonStatus) -> Fact:
    counts = sorted(status.jobs.items())
    return Fact(
        name="Watched jobs",
        state=f"{sum(count for _, count in counts):,}",
        tone="plain",
        detail=", ".join(f"{count:,} {state.lower()}" for state, count in counts),
    )

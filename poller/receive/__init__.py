"""Receive webhooks of the daemon: verify the signature, read the event, and drop repetitions.

    event = verify(request.headers, request.body, secret)
    if event.id not in seen:
        work(event)
        seen.add(event.id)

This package needs the standard library alone, and imports nothing else of sutro-poller.
"""

from poller.receive.events import (
    BudgetCrossed,
    BudgetEvent,
    Detection,
    DigestEvent,
    DigestLine,
    Event,
    Job,
    JobCancelled,
    JobCostOverEstimate,
    JobEvent,
    JobFailed,
    JobFound,
    JobMissing,
    JobOverdue,
    JobSettled,
    JobStarted,
    JobSucceeded,
    JobUnrecognised,
    ModelCosts,
    Overdue,
    PollerAuthFailed,
    PollerAuthRecovered,
    PollerEvent,
    PollerSinkDisabled,
    PollerTest,
    ReportDaily,
    ReportDigest,
    ReportedJob,
    ReportedSink,
    ReportEvent,
    UnobservedJob,
)
from poller.receive.seen import SeenEvents
from poller.receive.signature import InvalidWebhook, verify

__all__ = [
    "BudgetCrossed",
    "BudgetEvent",
    "Detection",
    "DigestEvent",
    "DigestLine",
    "Event",
    "InvalidWebhook",
    "Job",
    "JobCancelled",
    "JobCostOverEstimate",
    "JobEvent",
    "JobFailed",
    "JobFound",
    "JobMissing",
    "JobOverdue",
    "JobSettled",
    "JobStarted",
    "JobSucceeded",
    "JobUnrecognised",
    "ModelCosts",
    "Overdue",
    "PollerAuthFailed",
    "PollerAuthRecovered",
    "PollerEvent",
    "PollerSinkDisabled",
    "PollerTest",
    "ReportDaily",
    "ReportDigest",
    "ReportEvent",
    "ReportedJob",
    "ReportedSink",
    "SeenEvents",
    "UnobservedJob",
    "verify",
]

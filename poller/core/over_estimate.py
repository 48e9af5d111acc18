"""The rule of job.cost_over_estimate: what an ended job cost, against the API's own estimate.

It is announced when the cost becomes known, so once for each job.
"""

from dataclasses import replace
from decimal import Decimal
from typing import Final

from poller.core.jobs import Job
from poller.core.state import Decision, JobEventType, LifecyclePolicy, emit

MIN_DIFFERENCE: Final = Decimal("0.01")
"""US dollars by which a cost must exceed its estimate: less is not worth a message."""


def exact(dollars: float) -> Decimal:
    """Return a number as the API or a user wrote it, without the error of its binary form."""
    return Decimal(repr(dollars))


def is_over_estimate(job: Job, factor: float) -> bool:
    """Return whether a job cost more than `factor` times its estimate, and a cent more at least."""
    if job.job_cost is None or job.cost_estimate is None:
        return False
    cost, estimate = exact(job.job_cost), exact(job.cost_estimate)
    return cost > exact(factor) * estimate and cost - estimate >= MIN_DIFFERENCE


def announce_cost(decision: Decision, rules: LifecyclePolicy) -> Decision:
    """Return a decision that has made the cost of an ended job known, with what that implies."""
    state, factor = decision.state, rules.cost_over_estimate
    if factor is None or state.job is None or not is_over_estimate(state.job, factor):
        return decision
    over = emit(state, JobEventType.COST_OVER_ESTIMATE, state.job, state)
    return replace(over, drafts=decision.drafts + over.drafts)

"""Announce the budgets that are crossed, in the transaction that changes the costs."""

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime

from poller.core.budgets import Budgets, CostReader
from poller.core.events import Event
from poller.core.outbox import WriteBatch
from poller.core.state import JobState, Phase
from poller.runtime.clock import Clock

Announce = Callable[[CostReader], Sequence[Event]]


class BudgetWatch:
    """The budgets of the daemon. `announced` are the crossings of the last transaction."""

    def __init__(self, budgets: Budgets | None, clock: Clock) -> None:
        self._budgets = budgets
        self._clock = clock
        self.announced: Sequence[Event] = ()

    def after(self, states: Iterable[JobState]) -> Announce | None:
        """Return what announces the crossings that follow from new states, if any can."""
        job_ids = [state.job_id for state in states if state.phase is Phase.DONE]
        return self._announce(lambda costs: costs.ends(job_ids)) if job_ids else None

    def check(self) -> WriteBatch:
        """Return what announces the crossings of today: budgets may have been changed."""
        return WriteBatch(announce=self._announce(lambda _: [self._clock.now()]))

    def _announce(self, moments: Callable[[CostReader], Sequence[datetime]]) -> Announce | None:
        budgets = self._budgets
        self.announced = ()
        if budgets is None or not budgets.budgets:
            return None

        def announce(costs: CostReader) -> Sequence[Event]:
            self.announced = budgets.crossings(moments(costs), costs, self._clock.now())
            return self.announced

        return announce

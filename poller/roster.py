"""Who is watched and how all stand, for those who only look."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from poller.agenda import Agenda
from poller.finds import Finds
from poller.journal import Journal
from poller.ledger import Ledger
from poller.states import Phase


@dataclass(frozen=True, slots=True)
class Roster:
    """What the watcher knows."""

    ledger: Ledger
    finds: Finds
    agenda: Agenda
    journal: Journal

    @property
    def is_estranged(self) -> bool:
        """Whether nearly all jobs have been unknown to the API for long."""
        return self.journal.is_estranged

    @property
    def stretch(self) -> float:
        """How many times as long as it should be the last wait was."""
        return self.agenda.schedule.stretch

    def by_state(self) -> Mapping[str, int]:
        """Count the watched jobs by how they stand; MISSING is a state."""
        return Counter(self.ledger[job_id].word for job_id in self.ledger)

    def unseen(self) -> list[str]:
        """Name the watched jobs that no answer has shown yet."""
        return [it for it in self.ledger if self.ledger[it].phase is Phase.NEW]

    def has_found(self, job_id: str) -> bool:
        """Tell whether a job is watched because a page showed it."""
        return job_id in self.finds

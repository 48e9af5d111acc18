"""The order of polls: which of those that are due is sent next, when not all can be."""

import heapq
from collections.abc import Callable, Hashable
from enum import StrEnum
from itertools import count
from typing import Final, NamedTuple

RANKED_SECONDS: Final = 1.0
RANKED_PER_SECOND: Final = 10_000
"""How long a ranking counts: a second, and another for so many polls that are due. To rank all for
each request would be quadratic."""
SPARSE_RATIO: Final = 1.5
"""The heap is made anew once it has so many times the entries that are scheduled."""


class Priority(StrEnum):
    """The priorities of polls, by what they are for."""

    SETTLING = "the fields of an end that is to be announced in seconds"
    FIRST = "a job that was never shown"
    USUAL = "a change"
    CONFIRM = "a change that the job's row in the list may hide"
    LATE = "the fields of an end that was announced without them"


TURNS: Final = (
    Priority.SETTLING,
    Priority.USUAL,
    Priority.SETTLING,
    Priority.FIRST,
    Priority.SETTLING,
    Priority.USUAL,
    Priority.SETTLING,
    Priority.FIRST,
    Priority.SETTLING,
    Priority.CONFIRM,
)
"""Whose turn it is, again and again. What is not due is skipped."""
URGENT: Final = (Priority.SETTLING, Priority.FIRST, Priority.USUAL)
"""Late fields are polled only while nothing of these priorities is due."""

Score = Callable[[Hashable], float]


class ScheduledPoll(NamedTuple):
    """An entry of the heap: numbers tell apart those that are due at the same time."""

    due: float
    number: int
    key: Hashable
    priority: Priority


class PollOrder:
    """The times of polls, each known by a key: that of a job or of a page.

    The priorities take turns, so that none of them can hold up the others. Of the usual polls that
    are due, the one with the highest score goes first; of others the one that was due first.
    """

    def __init__(self) -> None:
        self._polls: dict[Hashable, ScheduledPoll] = {}
        self._heap: list[ScheduledPoll] = []
        self._count = count()
        self._due: dict[Priority, dict[Hashable, None]] = {priority: {} for priority in Priority}
        self._ranked: list[Hashable] = []
        self._ranked_until = 0.0
        self._turn = 0

    def set(self, key: Hashable, due: float, priority: Priority) -> None:
        """Schedule a poll, in place of what was scheduled for its key."""
        poll = self._polls.get(key)
        if poll and poll.due == due and poll.priority is priority:
            return
        self.discard(key)
        poll = self._polls[key] = ScheduledPoll(due, next(self._count), key, priority)
        heapq.heappush(self._heap, poll)
        if len(self._heap) > SPARSE_RATIO * len(self._polls):
            self._heap = [poll for poll in self._heap if self._is_valid(poll)]
            heapq.heapify(self._heap)

    def discard(self, key: Hashable) -> None:
        """Forget a poll, if it is there."""
        if poll := self._polls.pop(key, None):
            due = self._due[poll.priority]
            due.pop(key, None)
            if not due:
                due.clear()  # which frees its memory: at the start every job is due
            if self._ranked and self._ranked[-1] == key:
                self._ranked.pop()

    def take(self, key: Hashable) -> None:
        """Forget a poll that is sent: it had the turn of its priority."""
        if poll := self._polls.get(key):
            turn = self._next_turn(poll.priority)
            self._turn = self._turn if turn is None else turn + 1
            self.discard(key)

    def is_due(self, priority: Priority) -> bool:
        """Return whether a poll of a priority was due when `first` was last called."""
        return bool(self._due[priority])

    def due_at(self, key: Hashable) -> float:
        """Return when a poll is due."""
        return self._polls[key].due

    def priority(self, key: Hashable) -> Priority:
        """Return the priority of a poll."""
        return self._polls[key].priority

    def next_due(self) -> float | None:
        """Return when the next poll is due, or was; None without any."""
        for due in self._due.values():
            if due:
                return self._polls[next(iter(due))].due
        while self._heap and not self._is_valid(self._heap[0]):
            heapq.heappop(self._heap)
        return self._heap[0].due if self._heap else None

    def first(self, now: float, score: Score) -> Hashable | None:
        """Return the key of the poll to send now, or None when none is due."""
        self._collect(now)
        priority = self._whose_turn()
        if priority is None:
            return None
        due = self._due[priority]
        if priority is not Priority.USUAL:
            return next(iter(due))
        while self._ranked and self._ranked[-1] not in due:
            self._ranked.pop()
        if not self._ranked or now >= self._ranked_until:
            self._ranked = _rank(due, score)
            self._ranked_until = now + RANKED_SECONDS + len(due) / RANKED_PER_SECOND
        return self._ranked[-1]

    def _collect(self, now: float) -> None:
        while self._heap and self._heap[0].due <= now:
            poll = heapq.heappop(self._heap)
            if self._is_valid(poll):
                self._due[poll.priority][poll.key] = None

    def _is_valid(self, poll: ScheduledPoll) -> bool:
        return self._polls.get(poll.key) is poll

    def _whose_turn(self) -> Priority | None:
        if not any(self._due[priority] for priority in URGENT):
            others = (Priority.LATE, Priority.CONFIRM)
            return next((priority for priority in others if self._due[priority]), None)
        turns = (TURNS[(self._turn + step) % len(TURNS)] for step in range(len(TURNS)))
        return next(priority for priority in turns if self._due[priority])

    def _next_turn(self, priority: Priority) -> int | None:
        """Return the number of the next turn of a priority, if it has any."""
        steps = range(self._turn, self._turn + len(TURNS))
        return next((step for step in steps if TURNS[step % len(TURNS)] is priority), None)


def _rank(due: dict[Hashable, None], score: Score) -> list[Hashable]:
    """Rank polls by their scores: the highest is at the end, of equal ones that due first."""
    return sorted(due, key=score, reverse=True)[::-1]

"""The events that must be reported about one job, implemented a second time.

This file shares nothing with the package, on purpose: words, numbers and rules are its own.
"""

ENDS = {"SUCCEEDED", "FAILED", "CANCELLED"}
EARLY = {"SUBMITTED", "PENDING", "QUEUED", "STARTING"}
GOING = EARLY | {"RUNNING", "CANCELLING"}
DAY = 24 * 3600


class Oracle:
    """Returns the events that must follow each poll."""

    def __init__(self):
        self.end = self.waiting_since = None
        self.seen = self.missing = self.cancelling = self.costless = False
        self.first_cost = self.once = frozenset()
        self.restart()

    def restart(self):
        """Forget what a restart may forget: misses, and later observations of a success."""
        self.misses, self.doubted_at = [], None
        self.completing_since = self.unknown_since = None
        self.last_cost = self.first_cost

    def sees(self, now, word, *, started, completed, cost, reason):
        """Return the events that one job object must cause."""
        found = ["job.found"] if self.missing else []
        self.seen, self.missing, self.misses = True, False, []
        if self.end:
            return self._only_once("job.settled", self.costless and cost and word == self.end)
        if word in ENDS:
            return found + self._sees_end(now, word, cost, is_final=cost and completed)
        if self.waiting_since is not None and not self._revives(now, word):
            return []
        is_long = self._is_long(now, completed, word not in GOING, reason)
        runs = word == "RUNNING" or (started and word in EARLY)
        events = self._only_once("job.started", runs and not self.cancelling)
        self.cancelling = self.cancelling or word == "CANCELLING"
        return found + events + self._only_once("job.unrecognised", is_long)

    def _is_long(self, now, completed, is_unknown, reason):
        """Return whether the job has looked for long as if it had ended."""
        is_completing = completed or (is_unknown and reason)
        self.completing_since = (self.completing_since or now) if is_completing else None
        self.unknown_since = (self.unknown_since or now) if is_unknown else None
        return (is_completing and now - self.completing_since >= (600 if is_unknown else DAY)) or (
            is_unknown and now - self.unknown_since >= DAY
        )

    def misses_it(self, now):
        """Return the events that a 404 must cause."""
        if self.end or self.missing or self.waiting_since is not None:
            return []
        self.misses.append(now)
        count, grace = (3, 300) if self.seen else (5, 600)
        self.missing = len(self.misses) >= count and now - self.misses[0] >= grace
        return ["job.missing"] if self.missing else []

    def waits(self, now):
        """Return the events that the passing of time must cause."""
        is_over = self.waiting_since is not None and now - self.waiting_since >= 30
        return self._ends("SUCCEEDED", self.last_cost) if is_over else []

    def _sees_end(self, now, word, cost, *, is_final):
        if word != "SUCCEEDED" or is_final:
            return self._ends(word, cost)
        if self.waiting_since is None:
            self.waiting_since, self.first_cost = now, cost
        self.doubted_at, self.last_cost = None, cost
        return self.waits(now)

    def _ends(self, word, cost):
        self.end, self.costless, self.waiting_since = word, not cost, None
        return [f"job.{word.lower()}"]

    def _revives(self, now, word):
        if word in GOING and self.doubted_at is None:
            self.doubted_at = now
        elif word in GOING and now - self.doubted_at >= 5:
            self.waiting_since = self.doubted_at = None
        return self.waiting_since is None

    def _only_once(self, event, is_time):
        if not is_time or event in self.once:
            return []
        self.once |= {event}
        return [event]

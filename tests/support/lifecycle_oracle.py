"""The events that must be reported about one job, implemented a second time.

This file shares nothing with the package, on purpose: words, numbers and rules are its own.
"""

ENDS = {"SUCCEEDED", "FAILED", "CANCELLED"}
EARLY = {"SUBMITTED", "PENDING", "QUEUED", "STARTING"}
GOING = EARLY | {"RUNNING", "CANCELLING"}
DAY = 24 * 3600
ALL = frozenset({"completed", "cost", "tokens"})
NEEDS = {"SUCCEEDED": ALL, "FAILED": ALL | {"reason"}, "CANCELLED": ALL}
HOLDS = NEEDS | {"CANCELLED": frozenset({"completed"})}


class Oracle:
    """Returns the events that must follow each poll."""

    def __init__(self):
        self.end = self.ended_at = self.waiting_since = self.first = None
        self.seen = self.missing = self.cancelling = False
        self.lacks = self.has = self.once = frozenset()
        self.restart()

    def restart(self):
        """Forget what a restart may forget: misses, and later observations of a success."""
        self.misses, self.doubted_at = [], None
        self.completing_since = self.unknown_since = None
        self.last = self.first

    def sees(self, now, word, *, started, has):
        """Return the events that one job object must cause, by what it `has` of its end."""
        found = ["job.found"] if self.missing else []
        self.seen, self.missing, self.misses = True, False, []
        if self.end:
            self.has |= has if word == self.end else frozenset()
            return self._settles(now)
        if word in ENDS:
            return found + self._sees_end(now, word, has)
        if self.waiting_since is not None and not self._revives(now, word):
            return []
        is_long = self._is_long(now, "completed" in has, word not in GOING, "reason" in has)
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
        if self.end:
            return self._settles(now)
        is_over = self.waiting_since is not None and now - self.waiting_since >= 30
        return self._ends(now, *self.last) if is_over else []

    def _sees_end(self, now, word, has):
        if self.waiting_since is not None and self.last[0] == word:
            has |= self.last[1]
        if HOLDS[word] <= has:
            return self._ends(now, word, has)
        if self.waiting_since is None:
            self.waiting_since, self.first = now, (word, has)
        self.doubted_at, self.last = None, (word, has)
        return self.waits(now)

    def _ends(self, now, word, has):
        self.end, self.ended_at, self.waiting_since = word, now, None
        self.lacks, self.has = NEEDS[word] - has, has
        return [f"job.{word.lower()}"]

    def _settles(self, now):
        is_final = NEEDS[self.end] <= self.has
        is_long = now - self.ended_at >= DAY
        return self._only_once("job.settled", self.lacks & self.has and (is_final or is_long))

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

"""Events in words, for people: what happened, how long the job ran, its cost, why it failed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final
from urllib.parse import quote

from poller.core.events import DIGEST, TYPES_WITH_COST, DaemonEventType, Event
from poller.core.formatting import (
    failure_message,
    fix_receiver,
    format_cost,
    format_count,
    format_duration,
)
from poller.core.parsing import strip_unprintable
from poller.core.state import JobEventType
from poller.sinks.budget_text import budget_details, budget_facts, budget_limit
from poller.sinks.overdue_text import overdue_words
from poller.sinks.report_text import (
    cost_text,
    report_ends,
    report_facts,
    report_problems,
    report_title,
)

JOB_ID_FIELD: Final = "{job_id}"
"""What POLLER_JOB_URL has in the place of a job's id."""
CUT_SEARCH: Final = 40
"""Characters that are searched backwards for the end of a word."""

HEADLINES: Final = {
    "job.started": "{job} is running",
    "job.succeeded": "{job} succeeded{after}",
    "job.failed": "{job} failed{after}",
    "job.cancelled": "{job} was cancelled{after}",
    "job.settled": "{job}: late fields have arrived",
    "job.missing": "{job} is missing: the API no longer knows it",
    "job.found": "{job} was missing and is back",
    "job.unrecognised": "{job} seems to have ended, but its status {status} is not an end",
    "job.overdue": "{job} has been {phase}{for_long}",
    "job.cost_over_estimate": "{job} cost more than its estimate{share}",
    "poller.auth_failed": "{deployment} rejects the API key: no job is being watched",
    "poller.auth_recovered": "{deployment} accepts the API key again",
    "poller.sink_disabled": "The sink {sink} is disabled and gets no more events: {reason}",
    "budget.crossed": "{threshold_percent:g} % of the {budget} budget of {limit} for {period} is"
    " spent",
    "poller.test": "This is a test of the sink {sink}",
}
"""The first line of a message, by event type."""

MAX_LINE: Final = 200
"""Characters of one line of a digest."""
NO_PROBLEMS: Final = "Nothing needs attention."


class Tone(StrEnum):
    """The sign of good or bad news."""

    GOOD = "\N{WHITE HEAVY CHECK MARK}"
    BAD = "\N{CROSS MARK}"
    WARNING = "\N{WARNING SIGN}\N{VARIATION SELECTOR-16}"
    NEUTRAL = "\N{INFORMATION SOURCE}\N{VARIATION SELECTOR-16}"


TONES: Final[Mapping[str, Tone]] = {
    JobEventType.SUCCEEDED: Tone.GOOD,
    JobEventType.FOUND: Tone.GOOD,
    JobEventType.FAILED: Tone.BAD,
    JobEventType.CANCELLED: Tone.WARNING,
    JobEventType.MISSING: Tone.WARNING,
    JobEventType.UNRECOGNISED: Tone.WARNING,
    JobEventType.OVERDUE: Tone.WARNING,
    JobEventType.COST_OVER_ESTIMATE: Tone.WARNING,
    DaemonEventType.AUTH_RECOVERED: Tone.GOOD,
    DaemonEventType.AUTH_FAILED: Tone.BAD,
    DaemonEventType.SINK_DISABLED: Tone.BAD,
    DaemonEventType.BUDGET_CROSSED: Tone.WARNING,
}
"""The tone of an event type; NEUTRAL for the others."""
WORST_FIRST: Final = (Tone.BAD, Tone.WARNING, Tone.GOOD, Tone.NEUTRAL)
COLORS: Final[Mapping[Tone, str]] = {
    Tone.GOOD: "#2eb67d",
    Tone.BAD: "#e01e5a",
    Tone.WARNING: "#ecb22e",
    Tone.NEUTRAL: "#8d8d8d",
}


@dataclass(frozen=True, slots=True)
class Message:
    """An event as people read it. Each text is one line without control characters.

    `facts` are labels and values, such as Cost and $0.02. `reason` is why a job failed in the API's
    words, `advice` what to do next, `link` the URL of the job. `lines` are what a message about
    many jobs has of each, without `omitted` ones.
    """

    tone: Tone
    title: str
    facts: tuple[tuple[str, str], ...] = ()
    reason: str | None = None
    advice: str | None = None
    link: str | None = None
    lines: tuple[str, ...] = ()
    omitted: int = 0

    @property
    def headline(self) -> str:
        """The title after the sign of its tone."""
        return f"{self.tone} {self.title}"

    @property
    def rows(self) -> tuple[str, ...]:
        """The lines, and how many are omitted."""
        return (*self.lines, *([f"and {self.omitted:,} more"] if self.omitted else []))

    @property
    def texts(self) -> tuple[str, ...]:
        """The lines, the reason and the advice."""
        return tuple(filter(None, (*self.rows, self.reason, self.advice)))

    def body(self, limit: int) -> str:
        """Return the texts in at most `limit` characters: lines without room are counted."""
        message = self
        while len(text := "\n".join(message.texts)) > limit and message.lines:
            message = replace(message, lines=message.lines[:-1], omitted=message.omitted + 1)
        return cut(text, limit)

    @property
    def details(self) -> str:
        """All but the title and the link as plain text."""
        facts = "; ".join(f"{label} {value}" for label, value in self.facts)
        return "\n".join(filter(None, (facts, *self.texts)))

    @property
    def text(self) -> str:
        """The whole message as plain text."""
        return "\n".join(line for line in (self.headline, self.details, self.link) if line)


def describe(event: Event, job_url: str | None = None) -> Message:
    """Return an event as a message. `job_url` is the value of POLLER_JOB_URL."""
    data = event.data
    if event.type == DIGEST:
        return _describe_digest(data)
    if event.type == DaemonEventType.DAILY_REPORT:
        return _describe_report(data)
    job: dict[str, Any] = data.get("job", {})
    seconds, job_id = data.get("run_seconds"), job.get("job_id")
    after = "" if seconds is None else f" after {format_duration(seconds)}"
    headline = HEADLINES.get(event.type, f"{event.type}: {{job}}")  # of an earlier version
    words: dict[str, Any] = {"job": job_label(job), "after": after, "share": _share(job)}
    words |= {"limit": budget_limit(data), "status": job.get("status"), **overdue_words(data)}
    title = headline.format_map({**data, **words})
    is_test = data.get("test") and event.type != DaemonEventType.TEST
    return Message(
        tone=TONES.get(event.type, Tone.NEUTRAL),
        title=one_line(f"Test: {title}" if is_test else title),
        facts=tuple(_facts_of(event.type, data)),
        reason=one_line(failure_message(job.get("failure_reason"))) or None,
        advice=_advice(event.type, data),
        link=job_url.replace(JOB_ID_FIELD, quote(job_id, safe="")) if job_url and job_id else None,
    )


def _describe_digest(data: Mapping[str, Any]) -> Message:
    """Return a digest: how many of what, what they cost together, and the first of them."""
    counts: dict[str, int] = data["counts"]
    total, shown = sum(counts.values()), data["events"]
    most_first = sorted(counts, key=counts.__getitem__, reverse=True)
    words = ", ".join(f"{counts[kind]:,} {kind.removeprefix('job.')}" for kind in most_first)
    tones = {TONES.get(kind, Tone.NEUTRAL) for kind in counts}
    since = data["since"][:16].replace("T", " ")
    title = f"{format_count(total, 'event')} since {since} UTC: {words}"
    has_cost = not TYPES_WITH_COST.isdisjoint(counts)
    return Message(
        tone=next(tone for tone in WORST_FIRST if tone in tones),
        title=f"Test: {title}" if data.get("test") else title,
        facts=(("Cost", cost_text(data)),) if has_cost else (),
        lines=tuple(map(_digest_line, shown)),
        omitted=total - len(shown),
    )


def _digest_line(line: Mapping[str, Any]) -> str:
    seconds, cost = line["run_seconds"], line["job_cost"]
    facts = (
        None if cost is None else format_cost(cost),
        line["reason"],
    )
    tone, kind = TONES.get(line["type"], Tone.NEUTRAL), line["type"].removeprefix("job.")
    after = "" if seconds is None else f" after {format_duration(seconds)}"
    parts = (f"{tone} {job_label(line)} {kind}{after}", *facts)
    return cut(one_line("; ".join(filter(None, parts))), MAX_LINE)


def _describe_report(data: Mapping[str, Any]) -> Message:
    """Return a daily report: what ended, its cost, and what needs attention."""
    problems = tuple(report_problems(data))
    is_good = not problems and not data["failed"]
    title = report_title(data)
    return Message(
        tone=Tone.GOOD if is_good else Tone.WARNING,
        title=f"Test: {title}" if data.get("test") else title,
        facts=tuple(report_facts(data)),
        lines=tuple(map(one_line, (*report_ends(data), *problems))),
        advice=NO_PROBLEMS if is_good else None,
    )


def one_line(text: str) -> str:
    """Return a text in one line, without control characters and marks of direction."""
    return strip_unprintable(" ".join(text.split()))


def cut(text: str, limit: int) -> str:
    """Return a text of at most `limit` characters, cut at the end of a word if one is near."""
    if len(text) <= limit:
        return text
    kept = text[: limit - 1]
    end = max(text.rfind(" ", 0, limit), 0)
    return (kept[:end] if len(kept) - end <= CUT_SEARCH and end else kept).rstrip() + "…"


def job_label(job: Mapping[str, Any]) -> str:
    """Return the name of a job with its id, or the id alone, in one line."""
    name = one_line(job.get("name") or "")
    return f"{name} ({job['job_id']})" if name else job.get("job_id", "")


def _facts_of(event_type: str, data: Mapping[str, Any]) -> list[tuple[str, str]]:
    if event_type == DaemonEventType.BUDGET_CROSSED:
        return budget_facts(data)
    return _facts(data["job"], data) if event_type in TYPES_WITH_COST else []


def _facts(job: Mapping[str, Any], data: Mapping[str, Any]) -> list[tuple[str, str]]:
    tokens = f"{_count(job['input_tokens'])} in, {_count(job['output_tokens'])} out"
    facts = [("Cost", _cost(data)), ("Tokens", tokens)]
    if rows := job.get("num_rows"):
        facts.append(("Rows", f"{rows:,}"))
    if model := one_line(job.get("model") or ""):
        facts.append(("Model", model))
    return facts


def _cost(data: Mapping[str, Any]) -> str:
    cost, estimate = data["job"]["job_cost"], data["job"].get("cost_estimate")
    estimated = "" if estimate is None else f" (estimated {format_cost(estimate)})"
    if cost is None:
        return f"unknown{estimated}"
    so_far = " so far" if data.get("final") is False else ""
    return f"{format_cost(cost)}{so_far}{estimated}"


def _share(job: Mapping[str, Any]) -> str:
    """Return a cost as a part of its estimate, where there is one: ` (180 % of it)`."""
    cost, estimate = job.get("job_cost"), job.get("cost_estimate")
    return f" ({100 * cost / estimate:,.0f} % of it)" if cost and estimate else ""


def _count(tokens: int | None) -> str:
    return "unknown" if tokens is None else f"{tokens:,}"


def _advice(event_type: str, data: Mapping[str, Any]) -> str | None:
    """Return what to do next where that is known."""
    match event_type:
        case JobEventType.MISSING:
            return "Check the job's ID, and that the API key is of the same account."
        case DaemonEventType.AUTH_FAILED:
            return "Replace the API key; no event is lost until then."
        case DaemonEventType.SINK_DISABLED:
            advice = fix_receiver(f"sinks enable {data.get('sink', '')}")
            return one_line(f"{advice[0].upper()}{advice[1:]}.")
    return None


def format_details(data: Mapping[str, Any]) -> str:
    """Return what happened in columns, without the type and the job."""
    job = data.get("job")
    if "missing_ids" in data:
        return report_title(data)
    if "budget" in data:
        return budget_details(data)
    if job is None:
        return f"{data.get('sink', '')} {data.get('reason', '')}".strip()
    seconds, cost = data.get("run_seconds"), job.get("job_cost")
    failure = failure_message(job.get("failure_reason"))
    columns = [
        f"{'never ran' if seconds is None else f'ran {format_duration(seconds)}':<9}",
        f"{job.get('output_tokens') or 0:>6} tokens out",
        "cost unknown" if cost is None else format_cost(cost),
        f"- {failure}" if failure else "",
    ]
    return "  ".join(columns).rstrip()

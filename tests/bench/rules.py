"""The rules by which jobs are polled: ours, and those of other programs in use today.

Each polls a job from its creation until it knows that the job has ended.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from poller.core.pacing import JITTER_SHARE, QUEUED_SECONDS, PollPolicy


class Timeline(NamedTuple):
    """When a job starts to run and when it ends, in seconds after its creation."""

    started: float
    ended: float


class Watched(NamedTuple):
    """The requests for one job, and the lag of its end."""

    requests: int
    lag: float


Watch = Callable[[Timeline, Random, float], Watched]
"""Polls one job by a rule whose pauses are multiplied by a factor."""


def sutro_poller(timeline: Timeline, random: Random, factor: float) -> Watched:
    """Poll one job as the daemon does: once it was observed running, its age is that of the run.

    Until then it counts as three minutes older.

    The pauses of the default policy are multiplied, but not the longest one.
    """
    policy = PollPolicy(factor=factor * PollPolicy().factor)
    at, polls = 0.0, 1
    while at < timeline.ended:
        is_queued = at < timeline.started
        age = at + QUEUED_SECONDS if is_queued else at - timeline.started
        jitter = JITTER_SHARE * (2.0 * random.random() - 1.0)
        at += policy.interval(age) * (1.0 + jitter)
        polls += 1
    return Watched(polls, at - timeline.ended)


def fixed(timeline: Timeline, _random: Random, seconds: float) -> Watched:
    """Poll at once and then at an interval, like `await_job_completion` of sutro 0.1.67: 5 s."""
    pauses = math.ceil(timeline.ended / seconds)
    return Watched(1 + pauses, pauses * seconds - timeline.ended)


def google_api_core(timeline: Timeline, random: Random, factor: float) -> Watched:
    """Poll as google-api-core 2.44.0 does for an operation, but without the limit of 900 s.

    `future.polling.DEFAULT_POLLING`, by `retry.retry_base.exponential_sleep_generator`.
    """
    at, polls, longest = 0.0, 1, 1.0
    while at < timeline.ended:
        at += factor * random.uniform(0.0, longest)
        longest = min(longest * 1.5, 20.0)
        polls += 1
    return Watched(polls, at - timeline.ended)


def airflow_aws_batch(timeline: Timeline, random: Random, factor: float) -> Watched:
    """Poll as `BatchClientHook.wait_for_job` of apache-airflow-providers-amazon 9.39.0 does.

    It waits until the job runs and then, anew, until it has ended.
    """
    at, polls = factor * random.uniform(1.0, 10.0), 0
    for moment in timeline:
        at += factor * random.uniform(1.0, 10.0)
        polls, tries = polls + 1, 0
        while at < moment:
            tries += 1
            at += factor * _airflow_pause(tries, random)
            polls += 1
    return Watched(polls, at - timeline.ended)


def _airflow_pause(tries: int, random: Random) -> float:
    """Draw `exponential_delay`, then the jitter of `delay`."""
    longest = min(1.0 + (tries * 0.6) ** 2, 600.0)
    delay = random.uniform(longest / 3.0, longest)
    return random.uniform(max(delay - 1.0, 0.0), delay + 1.0)


@dataclass(frozen=True, slots=True)
class Rule:
    """A polling rule, and the factors that it is used with."""

    label: str
    watch: Watch
    natural: tuple[float, ...] = (1.0,)


OURS: Final = Rule("sutro-poller x {:.3g}", sutro_poller)
FIXED: Final = Rule("fixed {:.3g} s", fixed, (5.0, 15.0, 30.0, 60.0))
PEERS: Final = (
    FIXED,
    Rule("google-api-core x {:.3g}", google_api_core),
    Rule("Airflow AWS Batch x {:.3g}", airflow_aws_batch),
)

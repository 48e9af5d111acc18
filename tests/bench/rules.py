"""The rules by which jobs are watched: ours, and those that people use today.

Each looks at a job from its creation on until it can tell that the job has ended.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, NamedTuple

from poller.core.lifecycle import LifecyclePolicy
from poller.core.pacing import PollPolicy, next_poll_delay
from poller.core.state import JobState


class Life(NamedTuple):
    """When a job starts to run and when it ends, in seconds after its creation."""

    started: float
    ended: float


class Watched(NamedTuple):
    """What the watching of one job came to."""

    requests: int
    lag: float


Watch = Callable[[Life, Random, float], Watched]
"""Watches one job by a rule whose pauses are multiplied by a factor."""


def sutro_poller(life: Life, random: Random, factor: float) -> Watched:
    """Look as the daemon does: once it has seen a job run, the job is as old as its run."""
    policy = PollPolicy(factor=factor)
    at, looks = 0.0, 1
    while at < life.ended:
        began = life.started if at >= life.started else 0.0
        state = JobState(job_id="", since=began)
        at += next_poll_delay(
            state, None, 0, now=at, policy=policy, rules=LifecyclePolicy(), random=random.random
        )
        looks += 1
    return Watched(looks, at - life.ended)


def fixed(life: Life, _random: Random, seconds: float) -> Watched:
    """Look at once and then at an interval, like `await_job_completion` of sutro 0.1.67: 5 s."""
    pauses = math.ceil(life.ended / seconds)
    return Watched(1 + pauses, pauses * seconds - life.ended)


def google_api_core(life: Life, random: Random, factor: float) -> Watched:
    """Look as google-api-core 2.44.0 waits for an operation, but without giving up after 900 s.

    `future.polling.DEFAULT_POLLING`, by `retry.retry_base.exponential_sleep_generator`.
    """
    at, looks, longest = 0.0, 1, 1.0
    while at < life.ended:
        at += factor * random.uniform(0.0, longest)
        longest = min(longest * 1.5, 20.0)
        looks += 1
    return Watched(looks, at - life.ended)


def airflow_aws_batch(life: Life, random: Random, factor: float) -> Watched:
    """Look as `BatchClientHook.wait_for_job` of apache-airflow-providers-amazon 9.39.0 does.

    It waits until the job runs and then, anew, until it has ended.
    """
    at, looks = factor * random.uniform(1.0, 10.0), 0
    for moment in life:
        at += factor * random.uniform(1.0, 10.0)
        looks, tries = looks + 1, 0
        while at < moment:
            tries += 1
            at += factor * _airflow_pause(tries, random)
            looks += 1
    return Watched(looks, at - life.ended)


def _airflow_pause(tries: int, random: Random) -> float:
    """Draw `exponential_delay`, then what `delay` makes of it."""
    longest = min(1.0 + (tries * 0.6) ** 2, 600.0)
    delay = random.uniform(longest / 3.0, longest)
    return random.uniform(max(delay - 1.0, 0.0), delay + 1.0)


@dataclass(frozen=True, slots=True)
class Rule:
    """A way to watch, and the factors that it is used with."""

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

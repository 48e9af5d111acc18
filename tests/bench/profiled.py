"""The CPU time of a daemon by module: it runs under cProfile, in a process of its own.

Built-in functions count for their callers. Profiling makes calls more expensive than they are, so
the shares show where the time goes, but not how much could be saved.
"""

import cProfile
import json
import os
import pstats
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import anyio
import structlog

from poller.app import App
from poller.config import load
from tests.bench.processes import Program

WARM_UP: Final = 4.0
SECONDS: Final = 4.0
MIN_SHARE: Final = 0.01
BUILT_IN: Final = "~"


def describe(what: str, program: Callable[[Path], Program]) -> str:
    """Profile a daemon, and return the shares as a sentence."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        command = (sys.executable, "-m", "tests.bench.profiled")
        with replace(program(folder), command=command).running(folder) as running:
            running.until_ended()
        spent = json.loads((folder / "out").read_text())
    return (
        f"Where {what} goes: {', '.join(f'{name} {share:.0%}' for name, share in spent.items())}."
    )


async def profile() -> pstats.Stats:
    """Run the daemon of the environment under the profiler for some seconds."""
    app, profiler = App(load(os.environ)), cProfile.Profile()
    async with anyio.create_task_group() as group:
        group.start_soon(app.serve)
        await anyio.sleep(WARM_UP)
        profiler.enable()
        await anyio.sleep(SECONDS)
        profiler.disable()
        group.cancel_scope.cancel()
    return pstats.Stats(profiler)


def shares(stats: pstats.Stats) -> dict[str, float]:
    """Return the share of each part that has a notable one, largest first."""
    spent: Counter[str] = Counter()
    for function, (_, _, own, _, callers) in stats.stats.items():
        if function[0] != BUILT_IN:
            spent[part(function[0])] += own
            continue
        for caller, times in callers.items():
            spent[part(caller[0])] += times[2]
    spent.pop(BUILT_IN, None)
    total = spent.total()
    return {
        name: seconds / total
        for name, seconds in spent.most_common()
        if seconds / total >= MIN_SHARE
    }


def part(file: str) -> str:
    """Return the name of a module of ours, a package of others, or a module of Python."""
    path = Path(file)
    if "site-packages" in path.parts:
        return path.parts[path.parts.index("site-packages") + 1]
    if "poller" in path.parts:
        return "/".join(path.parts[path.parts.index("poller") :])
    return path.name


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger("error"))
    measured = anyio.run(profile, backend_options={"use_uvloop": True})
    print(json.dumps(shares(measured)))  # noqa: T201 - the figures
